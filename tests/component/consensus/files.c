/* files.c -- see files.h. */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "core/fd.h"

#define WAIT_MS 30000
#define EACH    150 /* entries before and after the restart that closes the first segments */

void shell(const char *format, ...)
{
	char command[4000];
	va_list args;
	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("%s", command);
}

static struct server *leader(struct files *f)
{
	struct server *found = NULL;
	for (unsigned i = 0; i < f->n; i++)
		if (f->servers[i].consensus != NULL && consensus_leads(f->servers[i].consensus))
			found = &f->servers[i];
	return found;
}

static bool is_led(void *arg)
{
	return leader(arg) != NULL;
}

/* All have everything, it is vouched for, and no snapshot is being written. */
static bool at_rest(void *arg)
{
	struct files *f = arg;
	struct consensus_counts counts;
	for (unsigned i = 0; i < f->n; i++) {
		consensus_count(f->servers[i].consensus, &counts);
		if (counts.unanswered != 0 || counts.watermark != counts.log_last ||
		    f->servers[i].tally.applied < f->ok || f->servers[i].tally.views != 0 ||
		    (f->options[i].snapshot_threshold != 0 && f->ok > EACH && counts.log_first <= 100))
			return false;
	}
	return true;
}

static bool answered(void *arg)
{
	struct files *f = arg;
	struct consensus_counts counts;
	if (leader(f) == NULL)
		return false;
	consensus_count(leader(f)->consensus, &counts);
	return counts.unanswered == 0;
}

static void on_done(void *arg, int status, uint64_t index)
{
	(void)index;
	((struct files *)arg)->ok += status == 0;
}

/* Until EACH more are acknowledged: on a busy machine leadership may move. */
static void propose_some(struct files *f, unsigned n)
{
	unsigned goal = f->ok + n;
	while (f->ok < goal) {
		assert_true(loop_until(&f->loop, is_led, f, WAIT_MS));
		for (uint64_t i = 0; i < 10 && leader(f) != NULL; i++)
			(void)consensus_propose(leader(f)->consensus, &i, sizeof i, on_done, f);
		assert_true(loop_until(&f->loop, answered, f, WAIT_MS));
	}
	assert_true(loop_until(&f->loop, at_rest, f, WAIT_MS));
}

static void begin(struct files *f)
{
	for (unsigned i = 0; i < f->n; i++)
		server_start(&f->servers[i], &f->options[i]);
}

static void end(struct files *f)
{
	for (unsigned i = 0; i < f->n; i++)
		server_stop(&f->servers[i], &f->loop);
}

bool is_closed(const char *name)
{
	return name[0] >= '0' && name[0] <= '9' && strchr(name, '-') != NULL;
}

bool is_open(const char *name)
{
	return strncmp(name, "open-", 5) == 0;
}

bool is_snapshot(const char *name)
{
	return strncmp(name, "snapshot-", 9) == 0 && strstr(name, ".meta") == NULL;
}

static bool is_used(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	char first = 0;
	return fd >= 0 && read(fd, &first, 1) == 1 && first != 0;
}

static bool try_find(const struct files *f, bool (*matches)(const char *name), char path[FILES_PATH_SIZE])
{
	char best[256] = "", found[FILES_PATH_SIZE];
	DIR *dir = opendir(f->dir);
	assert_non_null(dir);
	for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
		snprintf(found, sizeof found, "%s/%s", f->dir, e->d_name);
		if (matches(e->d_name) && is_used(found) && strcmp(e->d_name, best) > 0)
			snprintf(best, sizeof best, "%s", e->d_name);
	}
	closedir(dir);
	snprintf(path, FILES_PATH_SIZE, "%s/%s", f->dir, best);
	return best[0] != 0;
}

void find(struct files *f, bool (*matches)(const char *name), char path[FILES_PATH_SIZE])
{
	assert_true(try_find(f, matches, path));
}

void flip(const char *path, off_t at)
{
	CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned char c;
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 0x10;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
}

off_t size_of(const char *path)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

off_t used(const char *path)
{
	CLEANUP_BUF struct buf bytes = BUF_MAX(64u << 20);
	struct err err = {0};
	assert_int_equal(fd_read_file(path, 64u << 20, &bytes, &err), 0);
	size_t n = bytes.n;
	while (n > 0 && bytes.p[n - 1] == 0)
		n--;
	return (off_t)n;
}

/* <dir>.old: after the first half; <dir>.good: as a kill at the end leaves it, while nothing is under way. */
static void make_files(struct files *f)
{
	char path[FILES_PATH_SIZE];
	begin(f);
	propose_some(f, EACH);
	end(f);
	shell("cp -a %s %s.old", f->dir, f->dir);
	begin(f);
	propose_some(f, EACH);
	while (!try_find(f, is_open, path)) /* closed by a snapshot */
		propose_some(f, 3);
	shell("cp -a %s %s.good && cp %s.watermark %s.good.watermark", f->dir, f->dir, f->dir, f->dir);
	assert_true(f->ok >= 2 * EACH);
	f->applied = f->servers[0].tally.applied;
	f->hash = f->servers[0].tally.hash;
	end(f);
}

static void restore_files(struct files *f)
{
	shell("rm -rf %s %s.watermark && cp -a %s.good %s && cp %s.good.watermark %s.watermark", f->dir,
	      f->dir, f->dir, f->dir, f->dir, f->dir);
}

int files_make(void **state, unsigned n, uint32_t threshold)
{
	struct files *f = calloc(1, sizeof *f);
	assert_non_null(f);
	signal(SIGPIPE, SIG_IGN);
	uv_loop_init(&f->loop);
	f->n = n;
	pick_addresses(f->addresses, n);
	for (unsigned i = 0; i < n; i++) {
		struct consensus_options *o = &f->options[i];
		*o = server_options(&f->servers[i], &f->loop, "damage", i + 1, f->addresses, n);
		snprintf(f->dirs[i], sizeof f->dirs[i], "%s", o->dir);
		o->dir = f->dirs[i];
		o->snapshot_threshold = threshold;
		o->snapshot_trailing = threshold / 5;
		o->guard_off_for_tests = threshold != 0 ? 1u << GUARD_TRAILING : 0;
	}
	f->dir = f->dirs[0];
	*state = f;
	make_files(f);
	return 0;
}

int files_remove(void **state)
{
	struct files *f = *state;
	end(f);
	loop_end(&f->loop);
	free(f);
	scratch_remove();
	return 0;
}

static bool all_applied(void *arg)
{
	struct files *f = arg;
	return f->servers[0].tally.applied >= f->applied;
}

/* Alone of three it cannot apply them, but it has them. */
static void check_entries(struct files *f, const struct row *row)
{
	struct consensus_counts counts;
	const struct tally *t = &f->servers[0].tally;
	if (f->n == 1)
		(void)loop_until(&f->loop, all_applied, f, WAIT_MS);
	consensus_count(f->servers[0].consensus, &counts);
	if (counts.log_last < f->applied || (f->n == 1 && (t->applied != f->applied || t->hash != f->hash)))
		fail_msg("%s: it started with %llu entries and applied %llu of %llu", row->name,
			 (unsigned long long)counts.log_last, (unsigned long long)t->applied,
			 (unsigned long long)f->applied);
}

/* 0 and everything that was acknowledged is there, or -EUCLEAN with a message that says what to do. */
static int outcome_of(struct files *f, const struct row *row, struct err *err)
{
	struct server *s = &f->servers[0];
	assert_int_equal(consensus_new(&f->options[0], &s->consensus, err), 0);
	int rc = consensus_start(s->consensus, err);
	if (rc == 0)
		check_entries(f, row);
	else if (rc != -EUCLEAN || strstr(err->message, "berth node purge") == NULL ||
		 strstr(err->message, "berth node join") == NULL)
		fail_msg("%s: %d \"%s\"", row->name, rc, err->message);
	server_stop(s, &f->loop);
	return rc;
}

void files_run(struct files *f, const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct row *row = &rows[i];
		struct err err = {0};
		restore_files(f);
		row->damage(f);
		int rc = outcome_of(f, row, &err);
		print_message("  %-34s %s\n", row->name, rc == 0 ? "recovered everything" : err.message);
		if (row->outcome != EITHER && (rc == 0) != (row->outcome == RECOVERED))
			fail_msg("%s: %s", row->name, rc == 0 ? "started" : "refused");
		if (rc != 0 && row->message != NULL && strstr(err.message, row->message) == NULL)
			fail_msg("%s: \"%s\" instead of \"%s\"", row->name, err.message, row->message);
		/* A refusal leaves nothing behind that makes the next start succeed. */
		if (rc != 0 && outcome_of(f, row, &err) == 0)
			fail_msg("%s: refused, then started", row->name);
	}
}
