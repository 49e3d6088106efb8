/* Egress of containers, in a network namespace of this process; the outside is a host in another one, with a public
 * address (198.51.100.2), a resolver's (198.51.100.53), a private (10.9.9.2) and the clouds' metadata address. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "drivers_net/egress.h"
#include "drivers_world/world.h"

static struct world world;
static struct world_start s;
static pid_t outside;
static char text[65536];

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void shell(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

static int shell_status(const char *command)
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
	shell("ip link set lo up && ip link add up0 type veth peer name out0 netns %d && ip link set up0 up "
	      "&& "
	      "ip addr add 198.51.100.1/24 dev up0 && ip addr add 10.9.9.1/24 dev up0 && "
	      "ip addr add 169.254.169.1/24 dev up0",
	      (int)outside);
	shell("nsenter -t %d -n sh -c 'ip link set lo up && ip link set out0 up && ip addr add "
	      "198.51.100.2/24 dev out0 && "
	      "ip addr add 198.51.100.53/24 dev out0 && ip addr add 10.9.9.2/24 dev out0 && "
	      "ip addr add 169.254.169.254/24 dev out0'",
	      (int)outside);
	shell("mkdir -p %s/served && echo answer > %s/served/index.html && for p in 80 53; do "
	      "nsenter -t %d -n busybox httpd -p $p -h %s/served; done",
	      world.dir, world.dir, (int)outside, world.dir);
	shell("busybox httpd -p 8888 -h %s/served", world.dir); /* a service of the host itself */
}

static int open_world(void **state)
{
	(void)state;
	/* A new namespace may inherit the machine's own setting; this one does not forward. */
	if (unshare(CLONE_NEWNET) != 0 || shell_status("echo 0 >/proc/sys/net/ipv4/ip_forward") != 0 ||
	    world_open(&world, WORLD_LXC) < 0)
		return -1;
	/* A new namespace begins with the machine's value. */
	shell("echo 0 >/proc/sys/net/ipv4/ip_forward");
	start_outside();
	return 0;
}

/* The servers went into the background: they are those that serve our directory. */
static int close_world(void **state)
{
	(void)state;
	shell("for p in $(pgrep -f '^busybox httpd .*%s/served$'); do kill $p; done", world.dir);
	kill(outside, SIGKILL);
	waitpid(outside, NULL, 0);
	return world_close(&world);
}

#define PROBE                                                                                           \
	"get() { r=blocked; printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 $2 $3 2>/dev/null | grep -q " \
	"answer && "                                                                                    \
	"r=reached; echo $1 $r; }; "

static struct driver_instance *begin(const char *script, bool egress)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	struct driver_instance *i = NULL;
	struct err err = {0};

	world_program(&world, &s, argv);
	s.how.egress = egress;
	if (world.driver->ops->start(world.driver, &s.how, &i, &err) < 0)
		fail_msg("%s", err.message);
	return i;
}

static void stop(struct driver_instance *i)
{
	struct err err = {0};

	if (world.driver->ops->stop(world.driver, i, 0, &err) < 0)
		fail_msg("%s", err.message);
	world.driver->ops->release(world.driver, i);
}

static void expect(struct driver_instance *i, const char *const *wanted)
{
	for (; *wanted != NULL; wanted++) {
		for (int n = 0; n < 6 && !world_log_has(&world, i, *wanted, text, sizeof text); n++)
			;
		if (strstr(text, *wanted) == NULL)
			fail_msg("\"%s\" is not in: %s", *wanted, text);
	}
}

static void only_the_public_is_reached(void **state)
{
	static const char *const wanted[] = {"public reached",
					     "resolver reached",
					     "other-dns blocked",
					     "private blocked",
					     "metadata blocked",
					     "host blocked",
					     "hosts-private blocked",
					     "neighbour blocked",
					     "nameserver 198.51.100.53",
					     "done",
					     NULL};
	struct driver_instance *other =
		begin("mkdir /n; echo answer > /n/index.html; exec httpd -f -p 80 -h /n", true);
	struct driver_instance *i;
	char script[2048];

	(void)state;
	/* The other one's address: slot 1 of 100.64.0.0. The first request goes out in the first instruction. */
	snprintf(script, sizeof script,
		 PROBE
		 "get public 198.51.100.2 80; get resolver 198.51.100.53 53; get other-dns 198.51.100.2 53; "
		 "get private 10.9.9.2 80; get metadata 169.254.169.254 80; get host 198.51.100.1 8888; "
		 "get hosts-private 10.9.9.1 8888; get neighbour 100.64.0.3 80; cat /etc/resolv.conf; echo "
		 "done; "
		 "exec httpd -f -p 8080 -h /www");
	i = begin(script, true);
	expect(i, wanted);
	/* Positive controls: the host reaches what was blocked, so the rules blocked it. */
	assert_int_equal(shell_status("curl -s -m 2 -o /dev/null http://10.9.9.2/"), 0);
	assert_int_equal(shell_status("curl -s -m 2 -o /dev/null http://169.254.169.254/"), 0);
	assert_int_equal(shell_status("curl -s -m 2 -o /dev/null http://198.51.100.2:53/"), 0);
	assert_int_equal(shell_status("curl -s -m 2 -o /dev/null http://198.51.100.1:8888/"), 0);
	assert_int_equal(world_get(&world, i, 8080), 200); /* ingress is dialled inside */
	stop(i);
	stop(other);
}

static void without_egress_nothing_is(void **state)
{
	static const char *const wanted[] = {"public blocked", "done", NULL};
	struct driver_instance *i = begin(PROBE "get public 198.51.100.2 80; echo done; sleep 60", false);

	(void)state;
	expect(i, wanted);
	stop(i);
}

static void it_can_be_turned_off(void **state)
{
	static const char *const on[] = {"public reached", NULL}, *const off[] = {"public blocked", NULL};
	struct driver_instance *i =
		begin(PROBE "while true; do get public 198.51.100.2 80; sleep 0.2; done", true);
	struct err err = {0};

	(void)state;
	expect(i, on);
	assert_null(strstr(text, "blocked"));
	assert_int_equal(world.driver->ops->egress(world.driver, i, false, &err), 0);
	expect(i, off);
	assert_int_equal(world.driver->ops->egress(world.driver, i, true, &err), 0);
	for (int n = 0; n < 500; n++) {
		world_log_has(&world, i, "public", text, sizeof text);
		if (strstr(strstr(text, "blocked"), "reached") != NULL)
			break;
		usleep(10000);
	}
	assert_non_null(strstr(strstr(text, "blocked"), "reached"));
	stop(i);
}

/* The node's table: berth_ and the hexadecimal name of its cluster and node. */
#define FLUSH_OURS \
	"nft flush table inet $(nft list tables | sed -n 's/.* \\(berth_[0-9a-f]*\\)$/\\1/p' | head -1)"

static void what_others_change_is_restored(void **state)
{
	static const char *const break_it[] = {"nft flush ruleset", "nft delete table inet berth_forward",
					       FLUSH_OURS, "echo 0 >/proc/sys/net/ipv4/ip_forward"};
	static const char *const wanted[] = {"public reached", "private blocked", "done", NULL};
	struct driver_instance *first = begin("sleep 600", true), *i;
	struct err err = {0};

	(void)state;
	assert_int_equal(egress_tend(world.egress, &err), 0);
	for (size_t n = 0; n < sizeof break_it / sizeof *break_it; n++) {
		shell("%s", break_it[n]);
		if (egress_tend(world.egress, &err) != 1)
			fail_msg("not restored after: %s", break_it[n]);
		assert_int_equal(egress_tend(world.egress, &err), 0);
		assert_int_equal(egress_tend(world.egress, &err), 0);
	}
	shell("nft add table inet berth_test_other && nft delete table inet berth_test_other");
	assert_int_equal(egress_tend(world.egress, &err), 0); /* of somebody else: none of our business */
	i = begin(PROBE "get public 198.51.100.2 80; get private 10.9.9.2 80; echo done; sleep 60", true);
	expect(i, wanted);
	stop(i);
	stop(first);
}

/* From the namespace of the sandbox, with the host's programs and all rights: is one of the addresses reached? */
static bool reaches(struct driver_instance *i, const char *addresses)
{
	struct driver_info info;
	char command[512];

	world.driver->ops->info(world.driver, i, &info);
	snprintf(command, sizeof command,
		 "nsenter -t %d -n sh -c 'for a in %s; do (curl -s -m 0.6 http://$a/ || true) & done; wait' "
		 "| grep "
		 "-q answer",
		 (int)info.pid, addresses);
	return shell_status(command) == 0;
}

static bool restored(void)
{
	struct err err = {0};
	int r = egress_tend(world.egress, &err);

	if (r < 0)
		fail_msg("%s", err.message);
	return r == 1;
}

#define PUBLIC    "198.51.100.2"
#define NEVER     "10.9.9.2 169.254.169.254 198.51.100.2:53 198.51.100.1:8888 10.9.9.1:8888 100.64.0.0:8888"
#define OUR_TABLE "$(nft list tables | sed -n 's/.* \\(berth_[0-9a-f]*\\)$/\\1/p' | head -1)"

/* Before anybody repaired it: whatever goes missing closes something, and opens nothing. */
static void without_its_rules_nothing_passes(void **state)
{
	static const struct {
		const char *change;
		bool closes;
	} changes[] = {
		{"nft flush ruleset", true},
		{"nft flush table inet " OUR_TABLE, true},
		{"nft flush set inet " OUR_TABLE " on", true},
		{"nft flush set inet " OUR_TABLE " allowed", true},
		{"nft flush chain inet " OUR_TABLE " choose", true},
		{"nft flush chain inet " OUR_TABLE " back", true},
		{"nft flush chain inet " OUR_TABLE " masquerade_all", true},
		{"nft flush set inet " OUR_TABLE " resolvers", false},
		{"nft flush chain inet " OUR_TABLE " zone", false},
		{"ip rule del pref 98", true},
		{"ip rule del pref 98; ip rule del pref 98; true", true},
		{"ip route del unreachable 100.64.0.0/20", false},
		{"nft flush ruleset; for f in /proc/sys/net/ipv4/conf/bth*/rp_filter; do echo 2 >$f; done",
		 true},
	};
	struct driver_instance *i = begin("sleep 600", true);

	(void)state;
	shell("ip route add default via 198.51.100.2"); /* so that every address has a way */
	for (size_t n = 0; n < sizeof changes / sizeof *changes; n++) {
		assert_true(reaches(i, PUBLIC));
		assert_false(restored());
		shell("%s", changes[n].change);
		if (reaches(i, changes[n].closes ? PUBLIC " " NEVER : NEVER))
			fail_msg("open after: %s", changes[n].change);
		if (!restored() || restored())
			fail_msg("not restored after: %s", changes[n].change);
	}
	shell("ip route del default");
	stop(i);
}

/* Two clusters on one machine, whose nodes have one number: the same addresses, and nothing else in common. */
static void two_nodes_have_the_same_addresses(void **state)
{
	struct driver_instance *mine = begin("sleep 600", true), *theirs;
	struct world first = world, second = world;
	uint32_t slot = s.how.slot;
	struct err err = {0};

	(void)state;
	second.node++;
	assert_int_equal(world_open_driver(&second, &err), 0);
	world = second;
	world.next_id += 64; /* the next has the same slot */
	world.next_id--;
	theirs = begin("sleep 600", true);
	assert_int_equal(s.how.slot, slot);
	assert_true(reaches(theirs, PUBLIC));
	assert_false(reaches(theirs, NEVER));
	world.driver = first.driver;
	world.egress = first.egress;
	assert_true(reaches(mine, PUBLIC));
	assert_false(reaches(mine, NEVER));
	assert_false(restored());
	world.driver = second.driver;
	world.egress = second.egress;
	stop(theirs);
	world_close_driver(&world);
	world.driver = first.driver;
	world.egress = first.egress;
	world.node = first.node;
	assert_false(restored());
	assert_true(reaches(mine, PUBLIC));
	stop(mine);
}

static void adopted(struct driver_instance *i, void *arg)
{
	*(struct driver_instance **)arg = i;
}

/* A sandboxd that was killed: what runs is adopted as it was, what belongs to nobody goes, and what is another's stays. */
static void what_a_killed_one_left_is_adopted_or_removed(void **state)
{
	struct driver_instance *i = begin("sleep 600", true), *again = NULL;
	struct err err = {0};

	(void)state;
	world.driver->ops->release(world.driver, i);
	world_close_driver(&world);
	shell("ip link add $(ip -o link | sed -n 's/.*: \\(bth......n\\).*/\\1/p' | head -1)999 type veth "
	      "peer name "
	      "stray1 && ip link add bth000000n1 type veth peer name stray2 && nft delete table "
	      "inet " OUR_TABLE " && nft add table inet berth_000000 && ip rule del pref 98");
	assert_int_equal(world_open_driver(&world, &err), 0);
	assert_int_equal(world_adopt(&world, adopted, &again, &err), 0);
	assert_non_null(again);
	assert_true(reaches(again, PUBLIC));
	assert_false(reaches(again, NEVER));
	assert_false(restored());
	assert_int_not_equal(shell_status("ip -o link | grep -q 'n999:'"), 0);
	shell("ip link show bth000000n1 >/dev/null && nft list table inet berth_000000 >/dev/null");
	shell("ip link del bth000000n1 && nft delete table inet berth_000000");
	stop(again);
}

/* The way out is narrower than the sandbox's interface: it is told so. */
static void a_narrow_way_is_told(void **state)
{
	struct driver_instance *i = begin("sleep 600", true);
	struct driver_info info;

	(void)state;
	world.driver->ops->info(world.driver, i, &info);
	shell("ip link set up0 mtu 1300");
	shell("nsenter -t %d -n sh -c 'curl -s -m 5 -H X-Long:$(seq -s , 400) http://" PUBLIC
	      "/ | grep -q answer && ip route get " PUBLIC " | grep -q \"mtu 1300\"'",
	      (int)info.pid);
	shell("ip link set up0 mtu 1500");
	stop(i);
}

static void nothing_is_left(void **state)
{
	(void)state;
	assert_int_not_equal(shell_status("ip rule | grep -q '^98:'"), 0);
	assert_int_not_equal(shell_status("ip route | grep -q unreachable"), 0);
	assert_int_not_equal(shell_status("ip -o link | grep -q ': bth'"), 0);
	assert_int_not_equal(shell_status("nft list tables | grep -q berth_"), 0);
	assert_int_equal(shell_status("test $(cat /proc/sys/net/ipv4/ip_forward) = 0"), 0);
}

int main(void)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(only_the_public_is_reached),
		cmocka_unit_test(without_egress_nothing_is),
		cmocka_unit_test(it_can_be_turned_off),
		cmocka_unit_test(what_others_change_is_restored),
		cmocka_unit_test(without_its_rules_nothing_passes),
		cmocka_unit_test(two_nodes_have_the_same_addresses),
		cmocka_unit_test(what_a_killed_one_left_is_adopted_or_removed),
		cmocka_unit_test(a_narrow_way_is_told),
		cmocka_unit_test(nothing_is_left),
	};
	const char *lacks = world_lacks_lxc();

	if (lacks == NULL && (shell_status("nft --version >/dev/null 2>&1") != 0 ||
			      shell_status("ip -V >/dev/null 2>&1") != 0 ||
			      shell_status("curl --version >/dev/null 2>&1") != 0))
		lacks = "needs nft, ip and curl";
	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED: %s\n", lacks);
		return 77;
	}
	return cmocka_run_group_tests_name("egress", cases, open_world, close_world);
}
