#include "logger.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "init_spec.h"
#include "lxc_shim/shim_config.h"
#include "sandbox/records.h"
#include "wire/sandboxd.h"

#define LINE_MAX_BYTES 16384
#define READS_AT_END   256 /* what a dead container's pipes can hold, and more */
#define OOM_RECENT_MS  10000
#define OOM_LINE_MS    1000

struct stream {
	int *fd;
	const char *name;
	char line[LINE_MAX_BYTES];
	size_t n;
};

/* -- Lines ---------------------------------------------------------------------------------------------------- */

static void rotate(struct logger *l)
{
	char now[600], before[600];
	int fd;

	snprintf(now, sizeof now, "%s/log", l->dir);
	snprintf(before, sizeof before, "%s/log.1", l->dir);
	(void)!rename(now, before);
	fd = open(now, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return;
	close(l->log);
	l->log = fd;
	l->bytes = 0;
}

static void write_line(struct logger *l, struct stream *s, bool whole)
{
	char text[CLOCK_TEXT_SIZE], line[LINE_MAX_BYTES + 64];
	int n = snprintf(line, sizeof line, "%s %s %c ", clock_text(clock_wall_ms(), text), s->name,
			 whole ? 'F' : 'P');
	size_t size = (size_t)n + s->n + 1;

	memcpy(line + n, s->line, s->n);
	line[size - 1] = '\n';
	s->n = 0;
	if (l->bytes + size > l->bytes_max / 2)
		rotate(l);
	/* A full disk costs lines, never the sandbox. */
	if (fd_write_all(l->log, line, size) == 0)
		l->bytes += size;
}

/* False at the end of the stream, or when there is nothing to read now. */
static bool read_stream(struct logger *l, struct stream *s)
{
	char chunk[LINE_MAX_BYTES];
	ssize_t got = read(*s->fd, chunk, sizeof chunk);

	if (got < 0)
		return errno == EINTR;
	if (got == 0) {
		fd_close(s->fd);
		return false;
	}
	for (ssize_t i = 0; i < got; i++) {
		if (chunk[i] == '\n') {
			write_line(l, s, true);
			continue;
		}
		s->line[s->n++] = chunk[i];
		if (s->n == sizeof s->line)
			write_line(l, s, false);
	}
	return true;
}

/* -- Out of memory -------------------------------------------------------------------------------------------- */

struct oom {
	uint64_t wakeups, kills;
	uint64_t at_ms; /* of the last kill; 0: none */
};

static void killed_for_memory(struct logger *l, struct oom *o)
{
	static const char text[] = "a process of this sandbox was killed: out of memory";
	uint64_t now = clock_boot_ms();
	struct stream system = {.name = "system"};

	if (o->at_ms == 0 || now - o->at_ms > OOM_LINE_MS) {
		memcpy(system.line, text, sizeof text - 1);
		system.n = sizeof text - 1;
		write_line(l, &system, true);
	}
	o->at_ms = now;
}

/* Whoever was killed long ago is not why it ends now. */
static bool recent(const struct oom *o)
{
	return o->at_ms != 0 && clock_boot_ms() - o->at_ms < OOM_RECENT_MS;
}

/* Version 1 also signals when the group is removed, but then its files are gone; version 2 counts kills. */
static void take_oom(struct logger *l, struct oom *o)
{
	char text[4096];
	uint64_t count = 0;
	ssize_t n;

	if (l->oom_v2) {
		(void)!read(l->oom, text, sizeof text);
	} else if (read(l->oom, &count, sizeof count) == (ssize_t)sizeof count) {
		o->wakeups += count;
	}
	n = pread(l->oom_file, text, sizeof text - 1, 0);
	if (n <= 0) {
		if (o->wakeups >= 2)
			killed_for_memory(l, o); /* one of them came before the removal */
		fd_close(&l->oom);
		return;
	}
	text[n] = '\0';
	if (!l->oom_v2) {
		killed_for_memory(l, o);
		return;
	}
	char *at = strstr(text, "oom_kill ");
	uint64_t kills = at == NULL ? 0 : strtoull(at + strlen("oom_kill "), NULL, 10);

	if (kills > o->kills)
		killed_for_memory(l, o);
	o->kills = kills;
}

/* -- The end -------------------------------------------------------------------------------------------------- */

static struct sandbox_exit exit_of(int error_num, bool oom)
{
	struct sandbox_exit e = {.how = SANDBOX_EXIT_CODE, .value = (error_num >> 8) & 0xff};

	if ((error_num & 0x7f) != 0)
		e.how = SANDBOX_EXIT_SIGNAL;
	/* 137: a shell as first process says so of a child that was killed. */
	if (oom && ((e.how == SANDBOX_EXIT_SIGNAL && e.value == SIGKILL) ||
		    (e.how == SANDBOX_EXIT_CODE && e.value == 128 + SIGKILL)))
		e.how = SANDBOX_EXIT_OOM;
	return e;
}

static void write_exit(struct logger *l, bool oom)
{
	struct sandbox_exit e = {.how = SANDBOX_EXIT_UNKNOWN};
	struct init_result result;
	CLEANUP_BUF struct buf b = {0};

	if (recv(l->result, &result, sizeof result, MSG_DONTWAIT) == (ssize_t)sizeof result &&
	    result.magic == INIT_RESULT_MAGIC)
		e = exit_of(result.error_num, oom);
	e.wall_ms = clock_wall_ms();
	codec_encode(&b, &sandbox_exit_codec, &e);
	(void)!pwrite(l->exit, b.p, b.n, 0);
}

static void drain(struct logger *l, struct stream *s)
{
	for (int i = 0; i < READS_AT_END && *s->fd >= 0 && read_stream(l, s); i++)
		;
	if (s->n > 0)
		write_line(l, s, true);
}

void logger_run(struct logger *l)
{
	struct stream *out = calloc(1, sizeof *out), *err = calloc(1, sizeof *err);
	struct oom oom = {0};

	if (out == NULL || err == NULL)
		return;
	*out = (struct stream){.fd = &l->out, .name = "stdout"};
	*err = (struct stream){.fd = &l->err, .name = "stderr"};
	fd_set_nonblocking(l->out, 1);
	fd_set_nonblocking(l->err, 1);
	for (;;) {
		struct pollfd p[] = {{l->oom, POLLIN, 0},
				     {l->out, POLLIN, 0},
				     {l->err, POLLIN, 0},
				     {l->monitor_pidfd, POLLIN, 0}};

		if (poll(p, 4, -1) < 0 && errno != EINTR)
			break;
		if (p[0].revents != 0)
			take_oom(l, &oom);
		if (p[1].revents != 0)
			read_stream(l, out);
		if (p[2].revents != 0)
			read_stream(l, err);
		if (p[3].revents != 0)
			break;
	}
	if (l->oom >= 0 && poll(&(struct pollfd){l->oom, POLLIN, 0}, 1, 0) == 1)
		take_oom(l, &oom);
	drain(l, out);
	drain(l, err);
	write_exit(l, recent(&oom));
	waitpid(l->monitor, NULL, 0);
	free(out);
	free(err);
}
