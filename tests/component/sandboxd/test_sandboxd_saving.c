/* Machines that become files and go on from them: here, after a restart of sandboxd, and on another node. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/fd.h"
#include "played.h"

static int call(enum sandboxd_type type, uint64_t sandbox, uint64_t save, uint64_t bytes,
		struct sandboxd_reply *ret, int *ret_fd)
{
	struct sandboxd_save s = {sandbox, save, bytes};

	return client_call(&played.client, type, &s, ret, ret_fd);
}

static int start(uint64_t sandbox, const char *fails, uint64_t save)
{
	struct sandboxd_start s = played_program(sandbox, "count", fails);

	s.isolation = ISOLATION_VM;
	s.save = save;
	int r = client_call(&played.client, SANDBOXD_START, &s, NULL, NULL);

	/* Machines are proven anew after a restart. */
	for (int i = 0; r == -EAGAIN && i < 500; i++) {
		usleep(10000);
		r = client_call(&played.client, SANDBOXD_START, &s, NULL, NULL);
	}
	return r;
}

/* The next count of the sandbox. */
static int count(uint64_t sandbox)
{
	char text[512] = "";
	CLEANUP_FD int fd = -1;
	ssize_t n = 0, r;

	assert_int_equal(played_dial(sandbox, 0, &fd), 0);
	fd_set_nonblocking(fd, 0);
	assert_int_equal(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
	while (n < (ssize_t)sizeof text - 1 && (r = recv(fd, text + n, sizeof text - 1 - (size_t)n, 0)) > 0)
		n += r;
	assert_non_null(strstr(text, "\r\n\r\n"));
	return atoi(strstr(text, "\r\n\r\n") + 4);
}

/* What the list says of it; zero: nothing. */
static struct sandboxd_sandbox listed(uint64_t sandbox)
{
	struct sandboxd_reply r;

	assert_int_equal(client_call(&played.client, SANDBOXD_LIST, NULL, &r, NULL), 0);
	for (uint32_t i = 0; i < r.n_sandboxes; i++) {
		if (r.sandboxes[i].sandbox == sandbox)
			return r.sandboxes[i];
	}
	return (struct sandboxd_sandbox){0};
}

static void saved_and_on_again(void **state)
{
	struct sandboxd_reply r;

	(void)state;
	assert_int_equal(call(SANDBOXD_SAVE, 90, 7, 0, NULL, NULL), -ENOENT);
	assert_int_equal(start(90, NULL, 0), 0);
	assert_int_equal(call(SANDBOXD_GO_ON, 90, 7, 0, NULL, NULL), 0); /* it runs */
	assert_int_equal(count(90), 1);
	assert_int_equal(count(90), 2);
	assert_int_equal(call(SANDBOXD_SAVE, 90, 7, 0, &r, NULL), 0);
	assert_true(r.bytes > 0);
	assert_int_equal(call(SANDBOXD_SAVE, 90, 7, 0, NULL, NULL), 0); /* it is so */
	assert_int_equal(listed(90).save, 7);
	assert_false(listed(90).running);
	assert_int_equal(played_dial(90, 0, NULL), -ENOENT);
	assert_int_equal(call(SANDBOXD_GO_ON, 90, 7, 0, NULL, NULL), -ENOENT);
	assert_int_equal(start(90, NULL, 6), -ENOENT);
	played_restart();
	assert_int_equal(listed(90).save, 7);
	assert_int_equal(start(90, NULL, 7), 0);
	assert_true(listed(90).loaded);
	assert_int_equal(played_dial(90, 0, NULL), -EBUSY); /* nothing runs before it is told to */
	assert_int_equal(call(SANDBOXD_GO_ON, 90, 7, 0, NULL, NULL), 0);
	assert_false(listed(90).loaded);
	assert_int_equal(count(90), 3);
	assert_int_equal(start(91, NULL, 7), -ENOENT); /* the file is gone, and was another's */
	assert_int_equal(played_stop(90, 0), 0);
}

static void what_is_loaded_when_sandboxd_ends(void **state)
{
	(void)state;
	assert_int_equal(start(92, NULL, 0), 0);
	assert_int_equal(count(92), 1);
	assert_int_equal(call(SANDBOXD_SAVE, 92, 8, 0, NULL, NULL), 0);
	assert_int_equal(start(92, NULL, 8), 0);
	played_restart(); /* the played machine goes with it; the file is there as long as nothing ran */
	assert_int_equal(listed(92).save, 8);
	assert_int_equal(start(92, NULL, 8), 0);
	assert_int_equal(call(SANDBOXD_GO_ON, 92, 8, 0, NULL, NULL), 0);
	assert_int_equal(count(92), 2);
	assert_int_equal(played_stop(92, 0), 0);
	assert_int_equal(listed(92).sandbox, 0);
}

static void a_save_that_fails(void **state)
{
	(void)state;
	assert_int_equal(start(93, "1", 0), 0);
	assert_int_equal(count(93), 1);
	assert_int_equal(call(SANDBOXD_SAVE, 93, 9, 0, NULL, NULL), -EIO);
	assert_int_equal(count(93), 2);
	assert_true(listed(93).running);
	assert_int_equal(call(SANDBOXD_SAVE, 93, 10, 0, NULL, NULL), 0);
	assert_int_equal(played_stop(93, 0), 0); /* removes the file */
	assert_int_equal(listed(93).sandbox, 0);
	assert_int_equal(played_stop(93, 0), -ENOENT);
}

static void to_another_node(void **state)
{
	struct sandboxd_reply r;
	char bytes[256];
	int from = -1, to = -1;

	(void)state;
	assert_int_equal(start(94, NULL, 0), 0);
	assert_int_equal(count(94), 1);
	assert_int_equal(call(SANDBOXD_SAVE, 94, 11, 0, NULL, NULL), 0);
	assert_int_equal(call(SANDBOXD_SAVED, 94, 10, 0, NULL, NULL), -ENOENT);
	assert_int_equal(call(SANDBOXD_SAVED, 94, 11, 0, &r, &from), 0);
	assert_int_equal(read(from, bytes, sizeof bytes), (ssize_t)r.bytes);
	assert_int_equal(played_stop(94, 0), 0);
	/* Another sandboxd could be this one. */
	assert_int_equal(call(SANDBOXD_RECEIVE, 94, 11, UINT64_MAX / 2, NULL, NULL), -EFBIG);
	assert_int_equal(call(SANDBOXD_RECEIVE, 94, 11, r.bytes + 1, NULL, &to), 0);
	assert_int_equal(listed(94).sandbox, 0); /* it is not whole */
	close(to);
	assert_int_equal(call(SANDBOXD_RECEIVED, 94, 11, r.bytes, NULL, NULL), -EINVAL);
	assert_int_equal(start(94, NULL, 11), -ENOENT);
	assert_int_equal(call(SANDBOXD_RECEIVE, 94, 11, r.bytes, NULL, &to), 0);
	assert_int_equal(write(to, bytes, r.bytes), (ssize_t)r.bytes);
	assert_int_equal(call(SANDBOXD_RECEIVED, 94, 11, r.bytes, NULL, NULL), 0);
	assert_int_equal(start(94, NULL, 11), 0);
	assert_int_equal(call(SANDBOXD_RECEIVE, 94, 12, r.bytes, NULL, NULL), -EEXIST);
	assert_int_equal(call(SANDBOXD_GO_ON, 94, 11, 0, NULL, NULL), 0);
	assert_int_equal(count(94), 2);
	assert_int_equal(played_stop(94, 0), 0);
	close(from);
	close(to);
}

static void behind_the_fence(void **state)
{
	struct sandboxd_fence fence = {.boot_ms = 1};

	(void)state;
	assert_int_equal(start(95, NULL, 0), 0);
	assert_int_equal(call(SANDBOXD_SAVE, 95, 13, 0, NULL, NULL), 0);
	assert_int_equal(start(95, NULL, 13), 0);
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	assert_int_equal(call(SANDBOXD_GO_ON, 95, 13, 0, NULL, NULL), -EAGAIN);
	fence.boot_ms = 0;
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	assert_true(listed(95).loaded); /* a renewal does not let it run */
	assert_int_equal(played_dial(95, 0, NULL), -EBUSY);
	assert_int_equal(played_stop(95, 0), 0);
}

static int open_machines(void **state)
{
	char path[256];

	if (played_open(state) != 0)
		return -1;
	snprintf(path, sizeof path, "%s/proven", played.dir);
	return fd_write_file(path, 0600, "", 0, NULL) == 0 &&
			       client_wait_able(&played.client, &(struct sandboxd_able){0})
		       ? 0
		       : -1;
}

int main(void)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(saved_and_on_again), cmocka_unit_test(what_is_loaded_when_sandboxd_ends),
		cmocka_unit_test(a_save_that_fails),  cmocka_unit_test(to_another_node),
		cmocka_unit_test(behind_the_fence),
	};

	return cmocka_run_group_tests_name("saving of sandboxd", cases, open_machines, played_close);
}
