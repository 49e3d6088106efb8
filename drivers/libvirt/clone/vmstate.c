/* vmstate.c -- see vmstate.h.
 *
 * Save: a pipe's end by getfd, migrate to it, everything from the pipe to the file until QEMU closes it, then how it ended.
 * Load: the file by getfd, migrate-incoming, asked until it is completed; a QEMU that cannot load what it reads ends.
 * QEMU's answers were parsed and printed anew by libvirt; they are searched for one word here. A QEMU that lies harms its own machine. */
#include "vmstate.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"

#define PIPE_BYTES (1 << 20)
#define ASK_US     1000

/* -- QEMU's monitor ----------------------------------------------------------------------------------------- */

static int answered(int r, const char *command, const char *reply, struct err *err)
{
	const char *why = reply == NULL ? NULL : strstr(reply, "\"desc\":\"");

	if (r < 0)
		return err_set(err, -EIO, "%s: %s", command, virGetLastErrorMessage());
	if (reply == NULL || strstr(reply, "\"error\"") != NULL)
		return err_set(err, -EIO, "%s: QEMU refuses: %.100s", command, why == NULL ? "" : why + 8);
	return 0;
}

/* One command without arguments but these. *ret_reply may be NULL; else the caller frees it. */
static int ask(virDomainPtr domain, const char *command, const char *arguments, char **ret_reply,
	       struct err *err)
{
	CLEANUP_FREE char *reply = NULL;
	char text[300];

	snprintf(text, sizeof text, "{\"execute\":\"%s\",\"arguments\":{%s}}", command, arguments);
	int r = virDomainQemuMonitorCommand(domain, text, &reply, 0);

	r = answered(r, command, reply, err);
	if (r == 0 && ret_reply != NULL)
		*ret_reply = mem_take(&reply);
	return r;
}

static int give(virDomainPtr domain, int fd, struct err *err)
{
	CLEANUP_FREE char *reply = NULL;
	CLEANUP_FREE int *none = NULL;
	unsigned n_none = 0;
	int r = virDomainQemuMonitorCommandWithFiles(
		domain, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"berth\"}}", 1, &fd, &n_none,
		&none, &reply, 0);

	return answered(r, "getfd", reply, err);
}

/* Kept between a load and a later save of the same machine, so it is said each time. */
static int choose(virDomainPtr domain, enum vmstate what, struct err *err)
{
	char text[100];

	snprintf(text, sizeof text, "\"capabilities\":[{\"capability\":\"x-ignore-shared\",\"state\":%s}]",
		 what == VMSTATE_DEVICES ? "true" : "false");
	return ask(domain, "migrate-set-capabilities", text, NULL, err);
}

/* 1: completed, 0: not yet. */
static int completed(virDomainPtr domain, struct err *err)
{
	CLEANUP_FREE char *reply = NULL;
	int r = ask(domain, "query-migrate", "", &reply, err);

	if (r < 0)
		return r;
	if (strstr(reply, "\"status\":\"failed\"") != NULL ||
	    strstr(reply, "\"status\":\"cancelled\"") != NULL)
		return err_set(err, -EIO, "query-migrate: QEMU failed: %.100s", reply);
	return strstr(reply, "\"status\":\"completed\"") != NULL;
}

/* QEMU does not save again what it has saved and what did not run since. Such a copy was given up, or a former sandboxd made it. */
static int run_since(virDomainPtr domain, struct err *err)
{
	CLEANUP_FREE char *reply = NULL;
	int r = ask(domain, "query-status", "", &reply, err);

	if (r < 0 || strstr(reply, "\"status\":\"postmigrate\"") == NULL)
		return r;
	if (virDomainResume(domain) != 0 || virDomainSuspend(domain) != 0)
		return err_set(err, -EIO, "go on for a moment: %s", virGetLastErrorMessage());
	return 0;
}

/* -- Saving ------------------------------------------------------------------------------------------------- */

/* All that comes through the pipe, until it ends. */
static int drain(int from, int to, uint64_t bytes_max, uint64_t deadline_ms, struct err *err)
{
	uint64_t total = 0;

	for (;;) {
		uint64_t now_ms = clock_boot_ms();
		struct pollfd p = {.fd = from, .events = POLLIN};

		if (now_ms >= deadline_ms)
			return err_set(err, -ETIMEDOUT, "QEMU did not end in time, after %llu bytes",
				       (unsigned long long)total);
		if (poll(&p, 1, (int)(deadline_ms - now_ms)) <= 0)
			continue;
		ssize_t n = splice(from, NULL, to, NULL, PIPE_BYTES, SPLICE_F_MOVE);

		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return err_system(err, -errno, "write the state");
		total += n > 0 ? (uint64_t)n : 0;
		if (total > bytes_max)
			return err_set(err, -EFBIG, "QEMU wrote more than %llu bytes",
				       (unsigned long long)bytes_max);
	}
}

static int save(virDomainPtr domain, int fd, uint64_t bytes_max, uint64_t deadline_ms, struct err *err)
{
	int pair[2];

	if (pipe2(pair, O_CLOEXEC) != 0)
		return err_system(err, -errno, "pipe");
	CLEANUP_FD int from = pair[0];
	CLEANUP_FD int to = pair[1];

	(void)!fcntl(to, F_SETPIPE_SZ, PIPE_BYTES); /* faster; the default does too */
	int r = give(domain, to, err);

	fd_close(&to);
	if (r == 0)
		r = ask(domain, "migrate", "\"uri\":\"fd:berth\"", NULL, err);
	if (r < 0)
		return r;
	r = drain(from, fd, bytes_max, deadline_ms, err);
	if (r < 0)
		return r;
	r = completed(domain, err);
	return r == 0 ? err_set(err, -EIO, "QEMU ended before it completed") : r < 0 ? r : 0;
}

int vmstate_save(virDomainPtr domain, enum vmstate what, int fd, uint64_t bytes_max, uint64_t timeout_ms,
		 struct err *err)
{
	uint64_t deadline_ms = clock_boot_ms() + timeout_ms;
	int r = run_since(domain, err);

	if (r == 0)
		r = choose(domain, what, err);
	if (r == 0) /* by default 128 MiB a second */
		r = ask(domain, "migrate-set-parameters", "\"max-bandwidth\":17179869184", NULL, err);
	if (r == 0)
		r = save(domain, fd, bytes_max, deadline_ms, err);
	if (r < 0) {
		(void)!ask(domain, "migrate_cancel", "", NULL, NULL);
		return err_wrap(err, "save %s", virDomainGetName(domain));
	}
	return 0;
}

/* -- Loading ------------------------------------------------------------------------------------------------ */

int vmstate_load(virDomainPtr domain, enum vmstate what, int fd, uint64_t timeout_ms, struct err *err)
{
	uint64_t deadline_ms = clock_boot_ms() + timeout_ms;
	int r = choose(domain, what, err);

	if (r == 0)
		r = give(domain, fd, err);
	if (r == 0)
		r = ask(domain, "migrate-incoming", "\"uri\":\"fd:berth\"", NULL, err);
	while (r == 0) {
		r = completed(domain, err);
		if (r != 0)
			break;
		if (clock_boot_ms() >= deadline_ms)
			r = err_set(err, -ETIMEDOUT, "QEMU did not read it in time");
		else
			usleep(ASK_US);
	}
	return r < 0 ? err_wrap(err, "load %s", virDomainGetName(domain)) : 0;
}
