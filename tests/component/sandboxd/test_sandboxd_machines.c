/* Two isolations in one sandboxd: what a node can run, and machines that are parked. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/fd.h"
#include "played.h"

static int park(uint64_t sandbox, bool on)
{
	struct sandboxd_park p = {sandbox, on};

	return client_call(&played.client, SANDBOXD_PARK, &p, NULL, NULL);
}

/* Of the only one there is. */
static struct sandboxd_sandbox only(void)
{
	struct sandboxd_reply r;

	assert_int_equal(client_call(&played.client, SANDBOXD_LIST, NULL, &r, NULL), 0);
	assert_int_equal(r.n_sandboxes, 1);
	return r.sandboxes[0];
}

static bool answers(int fd, int wait_ms)
{
	struct pollfd p = {fd, POLLIN, 0};

	assert_true(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL) == 18);
	return poll(&p, 1, wait_ms) == 1;
}

/* What a node can run is found out beside: containers start meanwhile, and machines are refused with the reason. */
static void machines_are_proven_first(void **state)
{
	struct sandboxd_hello h = {SANDBOXD_PROTOCOL, STR(CLUSTER), 1, false};
	struct sandboxd_start vm = played_program(80, "serve", NULL);
	struct sandboxd_reply r;
	struct sandboxd_able able;
	char path[256];

	(void)state;
	vm.isolation = ISOLATION_VM;
	assert_int_equal(client_call(&played.client, SANDBOXD_HELLO, &h, &r, NULL), 0);
	assert_int_equal(r.isolations, 1u << ISOLATION_CONTAINER);
	assert_int_equal(r.no_vm.n, 0); /* not known yet */
	assert_int_equal(client_call(&played.client, SANDBOXD_START, &vm, &r, NULL), -EAGAIN);
	assert_non_null(memmem(r.message.p, r.message.n, "isolation vm: ", 14));
	assert_non_null(memmem(r.message.p, r.message.n, "finding out", 11));
	assert_int_equal(played_start(81, "serve", NULL, NULL), 0);
	assert_int_equal(played_stop(81, 0), 0);
	snprintf(path, sizeof path, "%s/proven", played.dir);
	assert_int_equal(fd_write_file(path, 0600, "", 0, NULL), 0);
	assert_true(client_wait_able(&played.client, &able));
	assert_int_equal(able.isolations, 1u << ISOLATION_CONTAINER | 1u << ISOLATION_VM);
	assert_int_equal(able.no_vm.n, 0);
	assert_int_equal(client_call(&played.client, SANDBOXD_START, &vm, NULL, NULL), 0);
	assert_int_equal(only().isolation, ISOLATION_VM);
	assert_int_equal(played_stop(80, 1000), 0);
}

static void start_machine(uint64_t sandbox)
{
	struct sandboxd_start vm = played_program(sandbox, "serve", NULL);

	vm.isolation = ISOLATION_VM;
	assert_int_equal(client_call(&played.client, SANDBOXD_START, &vm, NULL, NULL), 0);
}

static void a_dial_wakes_what_is_parked(void **state)
{
	int before = -1, fd = -1;

	(void)state;
	assert_int_equal(park(82, true), -ENOENT);
	assert_int_equal(played_start(82, "serve", NULL, NULL), 0);
	assert_int_equal(park(82, true), -ENOTSUP);
	assert_int_equal(played_stop(82, 0), 0);
	start_machine(82);
	assert_int_equal(played_dial(82, 0, &before), 0);
	assert_int_equal(park(82, true), 0);
	assert_true(only().parked && !only().frozen && only().running);
	fd_set_nonblocking(before, 0);
	assert_false(answers(before, 300)); /* it stands still */
	assert_int_equal(played_dial(82, 0, &fd), 0);
	fd_set_nonblocking(fd, 0);
	assert_false(only().parked);
	assert_true(answers(fd, 10000));
	close(fd);
	close(before);
	assert_int_equal(park(82, true), 0);
	assert_int_equal(park(82, false), 0);
	assert_false(only().parked);
	assert_int_equal(park(82, true), 0);
	assert_int_equal(played_stop(82, 5000), 0); /* hears its signal */
}

/* The lease and the parking are two facts. */
static void a_fence_leaves_parked_what_was(void **state)
{
	struct sandboxd_fence fence = {.boot_ms = 1};

	(void)state;
	start_machine(83);
	assert_int_equal(park(83, true), 0);
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	assert_true(only().frozen && only().parked);
	assert_int_equal(played_dial(83, 0, NULL), -EBUSY);
	assert_true(only().parked);
	fence.boot_ms = 0;
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	assert_true(!only().frozen && only().parked);
	/* One that is unparked behind the fence stays frozen until the lease is back. */
	fence.boot_ms = 1;
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	assert_int_equal(park(83, false), 0);
	assert_true(only().frozen && !only().parked);
	fence.boot_ms = 0;
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	assert_true(!only().frozen && !only().parked);
	assert_int_equal(played_stop(83, 0), 0);
}

int main(void)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(machines_are_proven_first),
		cmocka_unit_test(a_dial_wakes_what_is_parked),
		cmocka_unit_test(a_fence_leaves_parked_what_was),
	};

	return cmocka_run_group_tests_name("machines of sandboxd", cases, played_open, played_close);
}
