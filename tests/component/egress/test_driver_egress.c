/* Egress, as a sandbox's own program sees it: each case with containers and with virtual machines (stage.h). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "egress_stage/stage.h"

static enum world_kind kind;

static int open_world(void **state)
{
	(void)state;
	return stage_open(kind);
}

static int close_world(void **state)
{
	(void)state;
	return stage_close();
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
					     "gateway blocked",
					     "neighbours-gateway blocked",
					     "six blocked",
					     "nameserver 198.51.100.53",
					     "done",
					     NULL};
	struct driver_instance *other =
		stage_begin("mkdir /n; echo answer > /n/index.html; exec httpd -f -p 80 -h /n", true);
	struct driver_instance *i;
	char script[2048];

	(void)state;
	stage_shell("ip addr add fd00:99::1/64 dev up0 nodad");
	/* The other one's address: slot 1 of 100.64.0.0. The first request goes out in the first instruction. */
	snprintf(script, sizeof script,
		 STAGE_PROBE
		 "get public 198.51.100.2 80; get resolver 198.51.100.53 53; get other-dns 198.51.100.2 53; "
		 "get private 10.9.9.2 80; get metadata 169.254.169.254 80; get host 198.51.100.1 8888; "
		 "get hosts-private 10.9.9.1 8888; get neighbour 100.64.0.3 80; "
		 "get gateway 100.64.0.4 8888; get neighbours-gateway 100.64.0.2 8888; get six fd00:99::1 "
		 "8888; cat /etc/resolv.conf; echo "
		 "done; "
		 "exec httpd -f -p 8080 -h /www");
	i = stage_begin(script, true);
	stage_expect(i, wanted);
	/* Positive controls: the host reaches what was blocked, so the rules blocked it. */
	assert_int_equal(stage_shell_status("curl -s -m 2 -o /dev/null http://10.9.9.2/"), 0);
	assert_int_equal(stage_shell_status("curl -s -m 2 -o /dev/null http://169.254.169.254/"), 0);
	assert_int_equal(stage_shell_status("curl -s -m 2 -o /dev/null http://198.51.100.2:53/"), 0);
	assert_int_equal(stage_shell_status("curl -s -m 2 -o /dev/null http://198.51.100.1:8888/"), 0);
	assert_int_equal(stage_shell_status("curl -s -m 2 -o /dev/null http://100.64.0.4:8888/"), 0);
	assert_int_equal(stage_shell_status("curl -g -s -m 2 -o /dev/null 'http://[fd00:99::1]:8888/'"), 0);
	assert_int_equal(world_get(&stage_world, i, 8080), 200); /* ingress is dialled */
	assert_int_equal(world_get(&stage_world, other, 80), 200);
	stage_stop(i);
	stage_stop(other);
}

static void without_egress_nothing_is(void **state)
{
	static const char *const wanted[] = {"public blocked", "resolver blocked", "gateway blocked", "done",
					     NULL};
	char script[1024];
	struct driver_instance *i;

	(void)state;
	snprintf(script, sizeof script,
		 STAGE_PROBE "get public 198.51.100.2 80; get resolver 198.51.100.53 53; "
			     "get gateway 100.64.0.%u 8888; echo done; exec httpd -f -p 8080 -h /www",
		 2 * (unsigned)(stage_world.next_id % 64));
	i = stage_begin(script, false);
	stage_expect(i, wanted);
	assert_int_equal(world_get(&stage_world, i, 8080), 200);
	stage_stop(i);
}

static void it_can_be_turned_off(void **state)
{
	static const char *const on[] = {"public reached", NULL}, *const off[] = {"public blocked", NULL};
	struct driver_instance *i =
		stage_begin(STAGE_PROBE "while true; do get public 198.51.100.2 80; sleep 0.2; done", true);
	struct err err = {0};

	(void)state;
	stage_expect(i, on);
	assert_null(strstr(stage_text, "blocked"));
	assert_int_equal(stage_world.driver->ops->egress(stage_world.driver, i, false, &err), 0);
	stage_expect(i, off);
	assert_int_equal(stage_world.driver->ops->egress(stage_world.driver, i, true, &err), 0);
	for (int n = 0; n < 500; n++) {
		world_log_has(&stage_world, i, "public", stage_text, sizeof stage_text);
		if (strstr(strstr(stage_text, "blocked"), "reached") != NULL)
			break;
		usleep(10000);
	}
	assert_non_null(strstr(strstr(stage_text, "blocked"), "reached"));
	stage_stop(i);
}

/* The node's table: berth_ and the hexadecimal name of its cluster and node. */
#define FLUSH_OURS \
	"nft flush table inet $(nft list tables | sed -n 's/.* \\(berth_[0-9a-f]*\\)$/\\1/p' | head -1)"

static void what_others_change_is_restored(void **state)
{
	static const char *const break_it[] = {"nft flush ruleset", "nft delete table inet berth_forward",
					       FLUSH_OURS, "echo 0 >/proc/sys/net/ipv4/ip_forward"};
	static const char *const wanted[] = {"public reached", "private blocked", "done", NULL};
	struct driver_instance *first = stage_begin("sleep 600", true), *i;
	struct err err = {0};

	(void)state;
	assert_int_equal(egress_tend(stage_world.egress, &err), 0);
	for (size_t n = 0; n < sizeof break_it / sizeof *break_it; n++) {
		stage_shell("%s", break_it[n]);
		if (egress_tend(stage_world.egress, &err) != 1)
			fail_msg("not restored after: %s", break_it[n]);
		assert_int_equal(egress_tend(stage_world.egress, &err), 0);
		assert_int_equal(egress_tend(stage_world.egress, &err), 0);
	}
	stage_shell("nft add table inet berth_test_other && nft delete table inet berth_test_other");
	assert_int_equal(egress_tend(stage_world.egress, &err),
			 0); /* of somebody else: none of our business */
	i = stage_begin(
		STAGE_PROBE "get public 198.51.100.2 80; get private 10.9.9.2 80; echo done; sleep 60", true);
	stage_expect(i, wanted);
	stage_stop(i);
	stage_stop(first);
}

static int run(const char *name, enum world_kind which, int *skipped)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(only_the_public_is_reached),
		cmocka_unit_test(without_egress_nothing_is),
		cmocka_unit_test(it_can_be_turned_off),
		cmocka_unit_test(what_others_change_is_restored),
		cmocka_unit_test(stage_nothing_is_left),
	};
	const char *lacks = stage_lacks(which);

	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED: %s: %s\n", name, lacks);
		++*skipped;
		return 0;
	}
	kind = which;
	return cmocka_run_group_tests_name(name, cases, open_world, close_world);
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : "lxc libvirt";
	int skipped = 0, failed = 0;

	if (strstr(only, "lxc") != NULL)
		failed += run("egress of containers", WORLD_LXC, &skipped);
	if (strstr(only, "libvirt") != NULL)
		failed += run("egress of machines", WORLD_LIBVIRT, &skipped);
	return failed > 0 ? 1 : skipped > 0 ? 77 : 0;
}
