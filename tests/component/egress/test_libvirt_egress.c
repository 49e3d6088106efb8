/* What the host does to the network of a real virtual machine, and the machine to the host (stage.h); what one that lies about itself
 * may send is in tests/component/net, frame by frame. */
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

#define FOR_EVER \
	STAGE_PROBE "httpd -p 8080 -h /www; while true; do get public 198.51.100.2 80; sleep 0.2; done"

/* The name of its tap, and what the rules know it by. */
struct known {
	char tap[16], table[40];
	unsigned ip; /* 100.64.0.<ip> */
};

static struct known known(void)
{
	uint32_t node = (uint32_t)str_hash_stable(STR("test"), stage_world.node) & 0xffffff;
	struct known ret = {.ip = 2 * stage_start.how.slot + 1};

	snprintf(ret.tap, sizeof ret.tap, "bth%06xn%u", node, stage_start.how.slot);
	snprintf(ret.table, sizeof ret.table, "inet berth_%06x", node);
	return ret;
}

static void host_reaches(const char *options, const struct known *k, bool wanted)
{
	char command[128];

	snprintf(command, sizeof command, "curl -s -m 2 -o /dev/null %s http://100.64.0.%u:8080/", options,
		 k->ip);
	if ((stage_shell_status(command) == 0) != wanted)
		fail_msg("%s: %s", wanted ? "not reached" : "reached", command);
}

static void only_sandboxd_reaches_a_machine(void **state)
{
	struct driver_instance *i = stage_begin("exec httpd -f -p 8080 -h /www", true);
	struct known k = known();
	char by_name[32];

	(void)state;
	snprintf(by_name, sizeof by_name, "--interface %s", k.tap);
	assert_int_equal(world_get(&stage_world, i, 8080), 200);
	host_reaches("", &k, false);
	host_reaches(by_name, &k, false);
	stage_shell("nft flush ruleset");
	host_reaches("", &k, false);
	host_reaches(by_name, &k, false);
	assert_true(world_get(&stage_world, i, 8080) < 0);
	assert_true(stage_restored());
	assert_int_equal(world_get(&stage_world, i, 8080), 200);
	/* The control: with the mark's rule for everybody, a program of the machine gets there. */
	stage_shell("ip rule add pref 99 lookup $(ip rule | sed -n 's/^98:.* fwmark 0x[0-9a-f]* lookup "
		    "\\([0-9]*\\).*/\\1/p') "
		    "&& nft flush chain %s others && nft insert rule %s answers iifname %s meta mark set "
		    "$(ip rule | sed -n 's/^98:.* fwmark \\(0x[0-9a-f]*\\) .*/\\1/p') accept",
		    k.table, k.table, k.tap);
	host_reaches("", &k, true);
	stage_shell("ip rule del pref 99");
	assert_true(stage_restored());
	host_reaches("", &k, false);
	stage_stop(i);
}

/* The rules are told another identity than the machine has: to them it is a machine that lies. */
static void another_identity_is_not_believed(void **state)
{
	static const char *const lies[][2] = {{"06:00:00:00:00:01", NULL}, {NULL, "100.64.0.99"}};
	struct driver_instance *i = stage_begin(FOR_EVER, true);
	struct known k = known();
	uint8_t mac[EGRESS_MAC];
	char own[2][24];

	(void)state;
	egress_mac(stage_world.egress, stage_start.how.slot, mac);
	snprintf(own[0], sizeof own[0], "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		 mac[4], mac[5]);
	snprintf(own[1], sizeof own[1], "100.64.0.%u", k.ip);
	for (size_t n = 0; n < sizeof lies / sizeof *lies; n++) {
		stage_expect(i, (const char *const[]){"public reached", NULL});
		assert_int_equal(world_get(&stage_world, i, 8080), 200);
		assert_false(stage_restored());
		for (unsigned which = 0; which < 2; which++)
			stage_shell("nft 'delete element %s %s { \"%s\" . %s . %s }; "
				    "add element %s %s { \"%s\" . %s . %s }'",
				    k.table, which == 0 ? "on" : "guests", k.tap, own[0], own[1], k.table,
				    which == 0 ? "on" : "guests", k.tap,
				    lies[n][0] != NULL ? lies[n][0] : own[0],
				    lies[n][1] != NULL ? lies[n][1] : own[1]);
		assert_true(world_get(&stage_world, i, 8080) < 0);
		stage_expect(i, (const char *const[]){"public blocked", NULL});
		assert_true(stage_restored());
	}
	assert_int_equal(world_get(&stage_world, i, 8080), 200);
	stage_stop(i);
}

static void adopted(struct driver_instance *i, void *arg)
{
	*(struct driver_instance **)arg = i;
}

static void a_restart_keeps_its_network(void **state)
{
	struct driver_instance *i = stage_begin(FOR_EVER, true), *again = NULL;
	struct known k = known();
	struct err err = {0};

	(void)state;
	stage_expect(i, (const char *const[]){"public reached", NULL});
	stage_world.driver->ops->release(stage_world.driver, i);
	world_close_driver(&stage_world);
	stage_shell("nft delete table %s && ip rule del pref 98", k.table);
	assert_int_equal(world_open_driver(&stage_world, &err), 0);
	assert_int_equal(world_adopt(&stage_world, adopted, &again, &err), 0);
	assert_non_null(again);
	assert_false(stage_restored());
	assert_int_equal(world_get(&stage_world, again, 8080), 200);
	assert_int_equal(stage_world.driver->ops->egress(stage_world.driver, again, false, &err), 0);
	stage_expect(again, (const char *const[]){"public blocked", NULL});
	assert_int_equal(world_get(&stage_world, again, 8080), 200);
	stage_stop(again);
}

static int open_world(void **state)
{
	(void)state;
	return stage_open(WORLD_LIBVIRT);
}

static int close_world(void **state)
{
	(void)state;
	return stage_close();
}

int main(void)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(only_sandboxd_reaches_a_machine),
		cmocka_unit_test(another_identity_is_not_believed),
		cmocka_unit_test(a_restart_keeps_its_network),
		cmocka_unit_test(stage_nothing_is_left),
	};
	const char *lacks = stage_lacks(WORLD_LIBVIRT);

	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED: %s\n", lacks);
		return 77;
	}
	return cmocka_run_group_tests_name("egress of machines", cases, open_world, close_world);
}
