#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "fd.h"

#define LINE_MAX_BYTES 2048

static const char *log_program = "berth";
static enum log_level log_threshold = LOG_INFO;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_threshold = level;
}

void log_escape(const char *from, unsigned long n, char *to, unsigned long size)
{
	static const char hex[] = "0123456789abcdef";
	unsigned long used = 0;

	for (unsigned long i = 0; i < n && used + 5 <= size; i++) {
		unsigned char c = (unsigned char)from[i];

		if (c >= 0x20 && c != 0x7f && c != 0x9b) {
			to[used++] = (char)c;
			continue;
		}
		to[used++] = '\\';
		to[used++] = 'x';
		to[used++] = hex[c >> 4];
		to[used++] = hex[c & 15];
	}
	to[used] = '\0';
}

void log_line(enum log_level level, const char *format, ...)
{
	char raw[LINE_MAX_BYTES], text[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 128], time[CLOCK_TEXT_SIZE];
	va_list args;

	if (level < log_threshold)
		return;
	va_start(args, format);
	vsnprintf(raw, sizeof raw, format, args);
	va_end(args);
	log_escape(raw, strlen(raw), text, sizeof text);
	int n = snprintf(line, sizeof line, "%s %s %s[%d] %s\n", clock_text(clock_wall_ms(), time),
			 level_names[level], log_program, (int)getpid(), text);

	(void)!fd_write_all(STDERR_FILENO, line, (size_t)n);
}
