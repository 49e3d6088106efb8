/* Egress of containers, from inside their namespaces with the host's programs and all rights (stage.h). What needs no more than a
 * program of theirs is in test_driver_egress.c, for both kinds of sandboxes. */
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

/* From the namespace of the sandbox, with the host's programs and all rights: is one of the addresses reached? */
static bool reaches(struct driver_instance *i, const char *addresses)
{
	struct driver_info info;
	char command[512];

	stage_world.driver->ops->info(stage_world.driver, i, &info);
	snprintf(command, sizeof command,
		 "nsenter -t %d -n sh -c 'for a in %s; do (curl -s -m 0.6 http://$a/ || true) & done; wait' "
		 "| grep "
		 "-q answer",
		 (int)info.pid, addresses);
	return stage_shell_status(command) == 0;
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
	struct driver_instance *i = stage_begin("sleep 600", true);

	(void)state;
	stage_shell("ip route add default via 198.51.100.2"); /* so that every address has a way */
	for (size_t n = 0; n < sizeof changes / sizeof *changes; n++) {
		assert_true(reaches(i, PUBLIC));
		assert_false(stage_restored());
		stage_shell("%s", changes[n].change);
		if (reaches(i, changes[n].closes ? PUBLIC " " NEVER : NEVER))
			fail_msg("open after: %s", changes[n].change);
		if (!stage_restored() || stage_restored())
			fail_msg("not restored after: %s", changes[n].change);
	}
	stage_shell("ip route del default");
	stage_stop(i);
}

/* Two clusters on one machine, whose nodes have one number: the same addresses, and nothing else in common. */
static void two_nodes_have_the_same_addresses(void **state)
{
	struct driver_instance *mine = stage_begin("sleep 600", true), *theirs;
	struct world first = stage_world, second = stage_world;
	uint32_t slot = stage_start.how.slot;
	struct err err = {0};

	(void)state;
	second.node++;
	assert_int_equal(world_open_driver(&second, &err), 0);
	stage_world = second;
	stage_world.next_id += 64; /* the next has the same slot */
	stage_world.next_id--;
	theirs = stage_begin("sleep 600", true);
	assert_int_equal(stage_start.how.slot, slot);
	assert_true(reaches(theirs, PUBLIC));
	assert_false(reaches(theirs, NEVER));
	stage_world.driver = first.driver;
	stage_world.egress = first.egress;
	assert_true(reaches(mine, PUBLIC));
	assert_false(reaches(mine, NEVER));
	assert_false(stage_restored());
	stage_world.driver = second.driver;
	stage_world.egress = second.egress;
	stage_stop(theirs);
	world_close_driver(&stage_world);
	stage_world.driver = first.driver;
	stage_world.egress = first.egress;
	stage_world.node = first.node;
	assert_false(stage_restored());
	assert_true(reaches(mine, PUBLIC));
	stage_stop(mine);
}

static void adopted(struct driver_instance *i, void *arg)
{
	*(struct driver_instance **)arg = i;
}

/* A sandboxd that was killed: what runs is adopted as it was, what belongs to nobody goes, and what is another's stays. */
static void what_a_killed_one_left_is_adopted_or_removed(void **state)
{
	struct driver_instance *i = stage_begin("sleep 600", true), *again = NULL;
	struct err err = {0};

	(void)state;
	stage_world.driver->ops->release(stage_world.driver, i);
	world_close_driver(&stage_world);
	stage_shell(
		"ip link add $(ip -o link | sed -n 's/.*: \\(bth......n\\).*/\\1/p' | head -1)999 type veth "
		"peer name "
		"stray1 && ip link add bth000000n1 type veth peer name stray2 && nft delete table "
		"inet " OUR_TABLE " && nft add table inet berth_000000 && ip rule del pref 98");
	assert_int_equal(world_open_driver(&stage_world, &err), 0);
	assert_int_equal(world_adopt(&stage_world, adopted, &again, &err), 0);
	assert_non_null(again);
	assert_true(reaches(again, PUBLIC));
	assert_false(reaches(again, NEVER));
	assert_false(stage_restored());
	assert_int_not_equal(stage_shell_status("ip -o link | grep -q 'n999:'"), 0);
	stage_shell("ip link show bth000000n1 >/dev/null && nft list table inet berth_000000 >/dev/null");
	stage_shell("ip link del bth000000n1 && nft delete table inet berth_000000");
	stage_stop(again);
}

/* The way out is narrower than the sandbox's interface: it is told so. */
static void a_narrow_way_is_told(void **state)
{
	struct driver_instance *i = stage_begin("sleep 600", true);
	struct driver_info info;

	(void)state;
	stage_world.driver->ops->info(stage_world.driver, i, &info);
	stage_shell("ip link set up0 mtu 1300");
	stage_shell("nsenter -t %d -n sh -c 'curl -s -m 5 -H X-Long:$(seq -s , 400) http://" PUBLIC
		    "/ | grep -q answer && ip route get " PUBLIC " | grep -q \"mtu 1300\"'",
		    (int)info.pid);
	stage_shell("ip link set up0 mtu 1500");
	stage_stop(i);
}

static int open_world(void **state)
{
	(void)state;
	return stage_open(WORLD_LXC);
}

static int close_world(void **state)
{
	(void)state;
	return stage_close();
}

int main(void)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(without_its_rules_nothing_passes),
		cmocka_unit_test(two_nodes_have_the_same_addresses),
		cmocka_unit_test(what_a_killed_one_left_is_adopted_or_removed),
		cmocka_unit_test(a_narrow_way_is_told),
		cmocka_unit_test(stage_nothing_is_left),
	};
	const char *lacks = stage_lacks(WORLD_LXC);

	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED: %s\n", lacks);
		return 77;
	}
	return cmocka_run_group_tests_name("egress of containers", cases, open_world, close_world);
}
