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

#define READS_AT_END  256 /* what a dead container's pipes can hold, and more */
#define OOM_RECENT_MS 10000
#define OOM_LINE_MS   1000

struct stream {
	int *fd;
	struct log_stream lines;
};

/* -- Lines ---------------------------------------------------------------------------------------------------- */

/* False at the end of the stream, or when there is nothing to read now. */
static bool read_stream(struct logger *l, struct stream *s)
{
	char chunk[LOG_WRITER_LINE_MAX];
	ssize_t got = read(*s->fd, chunk, sizeof chunk);

	if (got < 0)
		return errno == EINTR;
	if (got == 0) {
		fd_close(s->fd);
		return false;
	}
	log_writer_add(&l->log, &s->lines, chunk, (size_t)got);
	return true;
}

/* -- Out of memory -------------------------------------------------------------------------------------------- */

struct oom {
	uint64_t wakeups, kills;
	uint64_t at_ms; /* of the last kill; 0: none */
};

static void killed_for_memory(struct logger *l, struct oom *o)
{
	uint64_t now = clock_boot_ms();

	if (o->at_ms == 0 || now - o->at_ms > OOM_LINE_MS)
		log_writer_line(&l->log, "system",
				STR("a process of this sandbox was killed: out of memory"));
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
	log_writer_end(&l->log, &s->lines);
}

void logger_run(struct logger *l)
{
	struct stream *out = calloc(1, sizeof *out), *err = calloc(1, sizeof *err);
	struct oom oom = {0};

	if (out == NULL || err == NULL)
		return;
	out->fd = &l->out;
	out->lines.name = "stdout";
	err->fd = &l->err;
	err->lines.name = "stderr";
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
