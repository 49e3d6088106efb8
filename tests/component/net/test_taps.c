/* What a virtual machine sends into its tap, with frames written by hand, in a network namespace of this process (stage.h). Each
 * thing that is blocked has a control beside it that passes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net_stage/stage.h"

static void only_the_public_is_reached(void **state)
{
	struct guest g, other;

	(void)state;
	/* The first packet of each, with the machine's interface just there. */
	guest_begin(&other, stage_egress, 1, true);
	guest_begin(&g, stage_egress, 0, true);
	assert_true(stage_reaches(&g, OUTSIDE_PUBLIC, OUTSIDE_PORT, "public"));
	assert_true(stage_reaches(&g, OUTSIDE_RESOLVER, 53, "resolver"));
	stage_never_reaches(&g);
	/* Controls: the machine reaches them, so they are there. */
	assert_true(outside_answers_host(OUTSIDE_PRIVATE, OUTSIDE_PORT));
	assert_true(outside_answers_host(OUTSIDE_METADATA, OUTSIDE_PORT));
	assert_true(outside_answers_host(OUTSIDE_PUBLIC, 53));
	stage_host_says(OUTSIDE_OF_HOST, STAGE_HOST_PORT, "control");
	assert_true(stage_host_got(stage_host, "control", STAGE_HEARD_MS));
	/* Another machine, by way of the gateway. */
	struct guest_sent to_other = guest_honest(&g, other.ip, OUTSIDE_PORT);

	guest_udp(&g, &to_other, "neighbour");
	assert_true(guest_hears_nothing(&other, STAGE_SILENT_MS));
	assert_true(stage_reaches(&other, OUTSIDE_PUBLIC, OUTSIDE_PORT, "is-there"));
	stage_detach(&other);
	stage_detach(&g);
}

static void fragments_are_judged_whole(void **state)
{
	struct guest g;

	(void)state;
	guest_begin(&g, stage_egress, 0, true);
	struct guest_sent good = guest_honest(&g, OUTSIDE_PUBLIC, OUTSIDE_PORT);
	struct guest_sent bad = guest_honest(&g, OUTSIDE_PRIVATE, OUTSIDE_PORT);

	guest_udp_fragments(&g, &good, "a datagram in parts");
	assert_true(outside_saw(&stage_world, "a datagram in parts", STAGE_HEARD_MS));
	guest_udp_fragments(&g, &bad, "another one in parts");
	assert_false(outside_saw(&stage_world, "another one", STAGE_SILENT_MS));
	stage_detach(&g);
}

static void egress_is_switched(void **state)
{
	struct guest g;
	struct err err = {0};

	(void)state;
	guest_begin(&g, stage_egress, 0, false);
	for (int round = 0; round < 2; round++) {
		char text[32];
		struct guest_sent s = guest_honest(&g, OUTSIDE_PUBLIC, OUTSIDE_PORT);

		snprintf(text, sizeof text, "switched-%d", round);
		guest_udp(&g, &s, "off-out");
		s.to_port = 53;
		s.to = OUTSIDE_RESOLVER;
		guest_udp(&g, &s, "off-dns");
		stage_never_reaches(&g);
		assert_int_equal(egress_switch(stage_egress, 0, true, &err), 0);
		assert_true(stage_reaches(&g, OUTSIDE_PUBLIC, OUTSIDE_PORT, text));
		assert_int_equal(egress_switch(stage_egress, 0, false, &err), 0);
	}
	stage_detach(&g);
}

/* -- Who it says it is ------------------------------------------------------------------------------------------- */

static void nobody_else_is_believed(void **state)
{
	struct guest g, other;

	(void)state;
	guest_begin(&g, stage_egress, 0, true);
	guest_begin(&other, stage_egress, 1, true);
	struct guest_sent s = guest_honest(&g, OUTSIDE_PUBLIC, OUTSIDE_PORT);

	memcpy(s.mac, other.mac, EGRESS_MAC);
	guest_udp(&g, &s, "spoofed-mac");
	s.from = other.ip;
	guest_udp(&g, &s, "spoofed-both");
	memcpy(s.mac, g.mac, EGRESS_MAC);
	guest_udp(&g, &s, "spoofed-ip");
	s.from = g.gateway;
	guest_udp(&g, &s, "spoofed-gateway");
	s.from = OUTSIDE_OF_HOST;
	guest_udp(&g, &s, "spoofed-host");
	s.from = 0;
	guest_udp(&g, &s, "spoofed-nobody");
	assert_false(outside_saw(&stage_world, "spoofed", STAGE_SILENT_MS));
	assert_true(guest_hears_nothing(&other, 0));
	assert_true(stage_reaches(&g, OUTSIDE_PUBLIC, OUTSIDE_PORT, "honest"));
	stage_detach(&other);
	stage_detach(&g);
}

static void it_learns_its_gateway_alone(void **state)
{
	struct guest g, other;

	(void)state;
	guest_begin(&g, stage_egress, 0, false);
	guest_begin(&other, stage_egress, 1, false);
	guest_arp(&g, false, g.mac, g.ip, OUTSIDE_OF_HOST);
	guest_arp(&g, false, g.mac, g.ip, other.gateway);
	guest_arp(&g, false, g.mac, g.ip, other.ip);
	guest_arp(&g, false, g.mac, other.ip, g.gateway);
	guest_arp(&g, false, other.mac, g.ip, g.gateway);
	guest_arp(&g, false, g.mac, 0, g.gateway);
	assert_true(guest_hears_nothing(&g, STAGE_SILENT_MS));
	guest_arp(&g, false, g.mac, g.ip, g.gateway);
	assert_true(guest_hears_arp(&g, g.gateway, STAGE_HEARD_MS));
	/* Nor does the machine learn what it claims. */
	guest_arp(&g, true, g.mac, other.ip, other.ip);
	guest_arp(&g, true, g.mac, OUTSIDE_PUBLIC, OUTSIDE_PUBLIC);
	guest_arp(&g, true, other.mac, g.ip, g.ip);
	usleep(STAGE_SILENT_MS * 1000);
	assert_int_equal(
		outside_shell(
			"test $(ip neigh show dev %s | wc -l) = 1 && "
			"ip neigh show dev %s | grep -q '100.64.0.1 lladdr 06:00:ab:cd:00:00 PERMANENT'",
			g.name, g.name),
		0);
	stage_detach(&other);
	stage_detach(&g);
}

static void other_protocols_are_dropped(void **state)
{
	static const uint8_t all[EGRESS_MAC] = {255, 255, 255, 255, 255, 255},
			     nodes[EGRESS_MAC] = {0x33, 0x33, 0, 0, 0, 1};
	/* An echo request from fe80::1 to all nodes (RFC 4443), with its checksum. */
	static const uint8_t ping[] = {0x60, 0, 0, 0, 0, 8, 58, 64, 0xfe, 0x80, 0,    0,    0, 0, 0, 0,
				       0,    0, 0, 0, 0, 0, 0,  1,  0xff, 0x02, 0,    0,    0, 0, 0, 0,
				       0,    0, 0, 0, 0, 0, 0,  1,  128,  0,    0x81, 0x41, 0, 0, 0, 0};
	struct guest g;
	int dhcp = stage_host_service(67);

	(void)state;
	guest_begin(&g, stage_egress, 0, true);
	struct guest_sent ask = guest_honest(&g, 0xffffffff, 67);

	ask.from = 0;
	ask.from_port = 68;
	memcpy(ask.to_mac, all, EGRESS_MAC);
	guest_udp(&g, &ask, "dhcp");
	guest_frame(&g, nodes, 0x86dd, ping, sizeof ping);
	guest_frame(&g, g.gateway_mac, 0x86dd, ping, sizeof ping);
	guest_frame(&g, all, 0x88cc, ping, sizeof ping);
	assert_false(stage_host_got(dhcp, "dhcp", STAGE_SILENT_MS));
	assert_true(guest_hears_nothing(&g, 0));
	assert_int_equal(outside_shell("test -z \"$(ip -6 addr show dev %s)\"", g.name), 0);
	stage_host_says(0x7f000001, 67, "dhcp");
	assert_true(stage_host_got(dhcp, "dhcp", STAGE_HEARD_MS));
	/* The control of the ping, which shows that it is well made: with IPv6 on and the rules gone it is answered. */
	assert_int_equal(
		outside_shell("nft flush ruleset && echo 0 >/proc/sys/net/ipv6/conf/%s/disable_ipv6 && "
			      "ip -6 addr add fe80::9/64 dev %s nodad",
			      g.name, g.name),
		0);
	guest_frame(&g, nodes, 0x86dd, ping, sizeof ping);
	assert_false(guest_hears_nothing(&g, STAGE_HEARD_MS));
	stage_restored("flush");
	close(dhcp);
	stage_detach(&g);
}

static void asking_is_restored(void **state)
{
	struct guest g;

	(void)state;
	guest_begin(&g, stage_egress, 0, false);
	assert_int_equal(outside_shell("nft flush ruleset"), 0);
	guest_arp(&g, false, g.mac, g.ip, g.gateway);
	assert_true(guest_hears_nothing(&g, STAGE_SILENT_MS));
	stage_restored("flush");
	guest_arp(&g, false, g.mac, g.ip, g.gateway);
	assert_true(guest_hears_arp(&g, g.gateway, STAGE_HEARD_MS));
	stage_detach(&g);
}

/* Is it given to somebody without privileges? */
static bool taken_by_anybody(const char *name)
{
	pid_t child = fork();
	int status = -1;

	if (child == 0) {
		struct ifreq q = {.ifr_flags = IFF_TAP | IFF_NO_PI};
		int fd;

		snprintf(q.ifr_name, sizeof q.ifr_name, "%s", name);
		if (setgid(65534) != 0 || setuid(65534) != 0)
			_exit(2);
		fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
		_exit(fd >= 0 && ioctl(fd, TUNSETIFF, &q) == 0 ? 0 : 1);
	}
	waitpid(child, &status, 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
	return WEXITSTATUS(status) == 0;
}

static void only_root_opens_it(void **state)
{
	struct guest g;

	(void)state;
	guest_begin(&g, stage_egress, 0, false);
	guest_close(&g); /* as when QEMU died */
	assert_false(taken_by_anybody(g.name));
	/* The control, where /dev/net/tun is everybody's. */
	assert_int_equal(outside_shell("ip tuntap add dev nobodys mode tap"), 0);
	if (access("/dev/net/tun", F_OK) == 0 &&
	    outside_shell("test -n \"$(find /dev/net/tun -perm -2)\"") == 0)
		assert_true(taken_by_anybody("nobodys"));
	assert_int_equal(outside_shell("ip link del nobodys"), 0);
	guest_open(&g, stage_egress, 0, g.name);
	assert_true(guest_hears_nothing(&g, 0));
	stage_detach(&g);
}

int main(void)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(only_the_public_is_reached),  cmocka_unit_test(fragments_are_judged_whole),
		cmocka_unit_test(egress_is_switched),          cmocka_unit_test(nobody_else_is_believed),
		cmocka_unit_test(it_learns_its_gateway_alone), cmocka_unit_test(other_protocols_are_dropped),
		cmocka_unit_test(asking_is_restored),          cmocka_unit_test(only_root_opens_it),
		cmocka_unit_test(stage_nothing_is_left),
	};
	const char *lacks = stage_lacks();

	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED: %s\n", lacks);
		return 77;
	}
	return cmocka_run_group_tests_name("taps", cases, stage_open, stage_close);
}
