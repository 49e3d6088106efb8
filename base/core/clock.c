#include "clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/fd.h"

static uint64_t read_ms(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t clock_boot_ms(void)
{
	return read_ms(CLOCK_BOOTTIME);
}

uint64_t clock_wall_ms(void)
{
	return read_ms(CLOCK_REALTIME);
}

void clock_boot_id(char ret[CLOCK_BOOT_ID_SIZE])
{
	CLEANUP_BUF struct buf b = {0};

	memset(ret, 0, CLOCK_BOOT_ID_SIZE);
	if (fd_read_file("/proc/sys/kernel/random/boot_id", CLOCK_BOOT_ID_SIZE, &b, NULL) == 0)
		snprintf(ret, CLOCK_BOOT_ID_SIZE, "%.*s", (int)strcspn(buf_cstr(&b), "\n"), buf_cstr(&b));
}

const char *clock_text(uint64_t wall_ms, char text[CLOCK_TEXT_SIZE])
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	size_t n = strftime(text, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);

	snprintf(text + n, CLOCK_TEXT_SIZE - n, ".%03uZ", (unsigned)(wall_ms % 1000));
	return text;
}

int clock_parse(const char *text, uint64_t *ret_wall_ms)
{
	struct tm tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	unsigned ms = 0, scale = 100;

	if (rest == NULL)
		return -EINVAL;
	if (*rest == '.') {
		rest++;
		for (; *rest >= '0' && *rest <= '9'; rest++, scale /= 10)
			ms += (unsigned)(*rest - '0') * scale;
	}
	time_t seconds = timegm(&tm);

	if (strcmp(rest, "Z") != 0 || seconds < 0)
		return -EINVAL;
	*ret_wall_ms = (uint64_t)seconds * 1000 + ms;
	return 0;
}
