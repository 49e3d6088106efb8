#include "sandbox/log_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"

int log_writer_open(struct log_writer *w, const char *dir, uint32_t owner, uint64_t bytes_max,
		    struct err *err)
{
	CLEANUP_FD int dir_fd = -1, log = -1;
	struct stat st;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return err_system(err, -errno, "mkdir %s", dir);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir_fd < 0 || fchown(dir_fd, owner, owner) != 0)
		return err_system(err, -errno, "chown %s", dir);
	log = openat(dir_fd, "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (log < 0 || fchown(log, owner, owner) != 0 || fstat(log, &st) != 0)
		return err_system(err, -errno, "open %s/log", dir);
	*w = (struct log_writer){.dir = fd_take(&dir_fd),
				 .log = fd_take(&log),
				 .bytes = (uint64_t)st.st_size,
				 .bytes_max = bytes_max};
	return 0;
}

static void rotate(struct log_writer *w)
{
	int fd;

	(void)!renameat(w->dir, "log", w->dir, "log.1");
	fd = openat(w->dir, "log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return;
	close(w->log);
	w->log = fd;
	w->bytes = 0;
}

static void write_line(struct log_writer *w, const char *name, struct str text, bool whole)
{
	char time[CLOCK_TEXT_SIZE], line[LOG_WRITER_LINE_MAX + 64];
	int n = snprintf(line, sizeof line, "%s %s %c ", clock_text(clock_wall_ms(), time), name,
			 whole ? 'F' : 'P');
	size_t size = (size_t)n + text.n + 1;

	if (text.n > 0)
		memcpy(line + n, text.p, text.n);
	line[size - 1] = '\n';
	if (w->bytes + size > w->bytes_max / 2)
		rotate(w);
	if (fd_write_all(w->log, line, size) == 0)
		w->bytes += size;
}

static void write_stream(struct log_writer *w, struct log_stream *s, bool whole)
{
	write_line(w, s->name, (struct str){s->line, s->n}, whole);
	s->n = 0;
}

void log_writer_add(struct log_writer *w, struct log_stream *s, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n') {
			write_stream(w, s, true);
			continue;
		}
		s->line[s->n++] = p[i];
		if (s->n == sizeof s->line)
			write_stream(w, s, false);
	}
}

void log_writer_end(struct log_writer *w, struct log_stream *s)
{
	if (s->n > 0)
		write_stream(w, s, true);
}

void log_writer_line(struct log_writer *w, const char *name, struct str text)
{
	write_line(w, name, (struct str){text.p, text.n < LOG_WRITER_LINE_MAX ? text.n : LOG_WRITER_LINE_MAX},
		   true);
}
