#include "stage.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct world stage_world;
struct world_start stage_start;
char stage_text[65536];
static pid_t outside;

const char *stage_lacks(enum world_kind kind)
{
	const char *lacks = kind == WORLD_LXC ? world_lacks_lxc() : world_lacks_libvirt();

	if (lacks == NULL && (stage_shell_status("nft --version >/dev/null 2>&1") != 0 ||
			      stage_shell_status("ip -V >/dev/null 2>&1") != 0 ||
			      stage_shell_status("curl --version >/dev/null 2>&1") != 0))
		lacks = "needs nft, ip and curl";
	return lacks;
}

void stage_shell(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

int stage_shell_status(const char *command)
{
	return system(command);
}

/* A process in a namespace of its own that serves on all its addresses. */
static void start_outside(void)
{
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	outside = fork();
	if (outside == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) != 0)
			_exit(1);
		(void)!write(ready[1], "x", 1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	stage_shell("ip link set lo up && ip link add up0 type veth peer name out0 netns %d && ip link set "
		    "up0 up "
		    "&& "
		    "ip addr add 198.51.100.1/24 dev up0 && ip addr add 10.9.9.1/24 dev up0 && "
		    "ip addr add 169.254.169.1/24 dev up0",
		    (int)outside);
	stage_shell("nsenter -t %d -n sh -c 'ip link set lo up && ip link set out0 up && ip addr add "
		    "198.51.100.2/24 dev out0 && "
		    "ip addr add 198.51.100.53/24 dev out0 && ip addr add 10.9.9.2/24 dev out0 && "
		    "ip addr add 169.254.169.254/24 dev out0'",
		    (int)outside);
	stage_shell("mkdir -p %s/served && echo answer > %s/served/index.html && for p in 80 53; do "
		    "nsenter -t %d -n busybox httpd -p $p -h %s/served; done",
		    stage_world.dir, stage_world.dir, (int)outside, stage_world.dir);
	stage_shell("busybox httpd -p 8888 -h %s/served", stage_world.dir); /* a service of the host itself */
}

int stage_open(enum world_kind kind)
{
	/* A new namespace may inherit the machine's own setting; this one does not forward. */
	if (unshare(CLONE_NEWNET) != 0 || stage_shell_status("echo 0 >/proc/sys/net/ipv4/ip_forward") != 0 ||
	    world_open(&stage_world, kind) < 0)
		return -1;
	/* A new namespace begins with the machine's value. */
	stage_shell("echo 0 >/proc/sys/net/ipv4/ip_forward");
	start_outside();
	return 0;
}

/* The servers went into the background: they are those that serve our directory. */
int stage_close(void)
{
	stage_shell("for p in $(pgrep -f '^busybox httpd .*%s/served$'); do kill $p; done", stage_world.dir);
	kill(outside, SIGKILL);
	waitpid(outside, NULL, 0);
	return world_close(&stage_world);
}

struct driver_instance *stage_begin(const char *script, bool egress)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	struct driver_instance *i = NULL;
	struct err err = {0};

	world_program(&stage_world, &stage_start, argv);
	stage_start.how.egress = egress;
	if (stage_world.driver->ops->start(stage_world.driver, &stage_start.how, &i, &err) < 0)
		fail_msg("%s", err.message);
	return i;
}

void stage_stop(struct driver_instance *i)
{
	struct err err = {0};

	if (stage_world.driver->ops->stop(stage_world.driver, i, 0, &err) < 0)
		fail_msg("%s", err.message);
	stage_world.driver->ops->release(stage_world.driver, i);
}

void stage_expect(struct driver_instance *i, const char *const *wanted)
{
	for (; *wanted != NULL; wanted++) {
		for (int n = 0;
		     n < 6 && !world_log_has(&stage_world, i, *wanted, stage_text, sizeof stage_text); n++)
			;
		if (strstr(stage_text, *wanted) == NULL)
			fail_msg("\"%s\" is not in: %s", *wanted, stage_text);
	}
}

bool stage_restored(void)
{
	struct err err = {0};
	int r = egress_tend(stage_world.egress, &err);

	if (r < 0)
		fail_msg("%s", err.message);
	return r == 1;
}

void stage_nothing_is_left(void **state)
{
	(void)state;
	assert_int_not_equal(stage_shell_status("ip rule | grep -q '^98:'"), 0);
	assert_int_not_equal(stage_shell_status("ip route | grep -q unreachable"), 0);
	assert_int_not_equal(stage_shell_status("ip -o link | grep -q ': bth'"), 0);
	assert_int_not_equal(stage_shell_status("nft list tables | grep -q berth_"), 0);
	assert_int_equal(stage_shell_status("test $(cat /proc/sys/net/ipv4/ip_forward) = 0"), 0);
}
