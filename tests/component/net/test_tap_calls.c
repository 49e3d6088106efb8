/* What comes in to a virtual machine, and that nothing but answers leaves it for the machine that it runs on; what others change in
 * the rules meanwhile. As test_taps.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/fd.h"
#include "net_stage/call.h"
#include "net_stage/stage.h"

static void what_was_dialled_is_answered(void **state)
{
	struct guest g;
	struct call c;
	struct guest_segment t;

	(void)state;
	guest_begin(&g, stage_egress, 0, false);
	call_make(&g, &c);
	assert_int_equal(send(c.fd, "request", 7, 0), 7);
	assert_true(guest_reads_tcp(&g, &t, STAGE_HEARD_MS) && strcmp(t.text, "request") == 0);
	c.ack += 7;
	/* From a MAC or an address that is not its own, to the same socket. */
	memcpy(c.reply.mac, "\x06zzzzz", EGRESS_MAC);
	call_send(&g, &c, TCP_ACK, "spoof");
	assert_false(call_reads(&c, "spoof", STAGE_SILENT_MS));
	c.seq -= 5;
	memcpy(c.reply.mac, g.mac, EGRESS_MAC);
	call_send(&g, &c, TCP_ACK, "answer");
	assert_true(call_reads(&c, "answer", STAGE_HEARD_MS));
	assert_int_not_equal(outside_shell("grep -s 8080 /proc/net/nf_conntrack"),
			     0); /* nothing to be remembered */
	while (t.ack != c.seq)   /* it may have said its request again meanwhile */
		assert_true(guest_reads_tcp(&g, &t, STAGE_HEARD_MS));
	close(c.fd);
	stage_detach(&g);
}

/* The guest ends after the machine did: its end is answered, or it would repeat it for minutes. Afterwards nothing is. */
static void both_ends_close(void **state)
{
	struct guest g;
	struct call c;
	struct guest_segment t;

	(void)state;
	guest_begin(&g, stage_egress, 0, false);
	call_make(&g, &c);
	close(c.fd);
	assert_true(guest_reads_tcp(&g, &t, STAGE_HEARD_MS) && (t.flags & TCP_FIN) != 0);
	c.ack++;
	call_send(&g, &c, TCP_ACK, "");
	assert_true(guest_hears_nothing(&g, STAGE_SILENT_MS));
	call_send(&g, &c, TCP_ACK | TCP_FIN, "");
	assert_true(guest_reads_tcp(&g, &t, STAGE_HEARD_MS) && t.flags == TCP_ACK && t.ack == c.seq);
	stage_detach(&g);
}

/* Somebody still holds a connection to the machine that the slot had before. */
static void an_old_connection_does_not_meet_the_next(void **state)
{
	struct guest g;
	struct call old, c;

	(void)state;
	guest_begin(&g, stage_egress, 0, false);
	call_make(&g, &old);
	stage_detach(&g);
	guest_begin(&g, stage_egress, 0, false);
	(void)!send(old.fd, "secret", 6, MSG_NOSIGNAL);
	assert_true(guest_hears_nothing(&g, 1000)); /* nor any repetition */
	call_send(&g, &old, TCP_ACK, "forged");
	assert_false(call_reads(&old, "forged", STAGE_SILENT_MS));
	call_make(&g, &c);
	call_send(&g, &c, TCP_ACK, "own");
	assert_true(call_reads(&c, "own", STAGE_HEARD_MS));
	close(old.fd);
	close(c.fd);
	stage_detach(&g);
}

static void it_opens_no_connection_to_the_machine(void **state)
{
	static const uint32_t addresses[] = {STAGE_BASE, OUTSIDE_OF_HOST, 0x0a090901, STAGE_BASE + 2};
	const struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(STAGE_HOST_PORT)};
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct guest g;
	struct call c;

	(void)state;
	assert_true(bind(s, (const struct sockaddr *)&a, sizeof a) == 0 && listen(s, 8) == 0);
	guest_begin(&g, stage_egress, 0, true);
	call_make(&g, &c); /* while it has answers to give */
	for (size_t n = 0; n < sizeof addresses / sizeof *addresses; n++) {
		struct guest_sent to = guest_honest(&g, addresses[n], STAGE_HOST_PORT);

		for (unsigned flags = 1; flags < 32; flags++) {
			struct guest_segment t = {.flags = (uint8_t)flags, .seq = 1};

			guest_tcp(&g, &to, &t);
			to.from_port = to.from_port == 8080 ? 4000 : 8080;
		}
	}
	assert_true(guest_hears_nothing(&g, STAGE_SILENT_MS)); /* neither SYN-ACK nor RST */
	assert_int_equal(outside_shell("bash -c ': </dev/tcp/100.64.0.0/8888'"), 0);
	call_send(&g, &c, TCP_ACK, "alive");
	assert_true(call_reads(&c, "alive", STAGE_HEARD_MS));
	close(c.fd);
	close(s);
	stage_detach(&g);
}

/* `protocol`: of a program that speaks UDP, or makes packets of its own. */
static bool host_sends(const struct guest *g, bool by_name, int protocol)
{
	static const uint8_t message[16] = {8, 0, 0xf7, 0xff}; /* echo request, with its checksum */
	const struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(g->ip)};
	CLEANUP_FD int s =
		socket(AF_INET, (protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_RAW) | SOCK_CLOEXEC, protocol);

	if (by_name)
		assert_int_equal(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, g->name, sizeof g->name), 0);
	return sendto(s, message, sizeof message, 0, (const struct sockaddr *)&to, sizeof to) > 0;
}

static void only_what_is_dialled_comes_in(void **state)
{
	struct guest g;
	struct call c;

	(void)state;
	guest_begin(&g, stage_egress, 0, true);
	assert_false(host_sends(&g, false, IPPROTO_UDP));
	assert_false(host_sends(&g, false, IPPROTO_ICMP));
	(void)host_sends(&g, true, IPPROTO_UDP);
	(void)host_sends(&g, true, IPPROTO_ICMP);
	/* From the network, with a route by us. */
	assert_int_equal(
		outside_shell("nsenter -t %d -n sh -c 'ip route replace 100.64.0.0/20 via 198.51.100.1; "
			      "bash -c \"printf intruder >/dev/udp/100.64.0.1/8080\"'",
			      (int)stage_world.pid),
		0);
	assert_true(guest_hears_nothing(&g, STAGE_SILENT_MS));
	/* Controls: what is dialled does; and with the node's rules gone a program that names the interface sends, and
	 * hears nothing back. */
	call_make(&g, &c);
	close(c.fd);
	assert_int_equal(outside_shell("nft flush ruleset"), 0);
	(void)guest_hears(&g, "", STAGE_SILENT_MS); /* the call's end */
	assert_true(host_sends(&g, true, IPPROTO_UDP) && !guest_hears_nothing(&g, STAGE_HEARD_MS));
	assert_true(host_sends(&g, true, IPPROTO_ICMP) && !guest_hears_nothing(&g, STAGE_HEARD_MS));
	stage_restored("flush");
	stage_detach(&g);
}

/* -- When others change the rules --------------------------------------------------------------------------------- */

/* Connections that are there may go on meanwhile: the kernel knows the way of their packets. */
static void without_its_rules_nothing_passes(void **state)
{
	static const struct {
		const char *change;
		bool out, in; /* pass nevertheless */
	} changes[] = {
		{"nft flush ruleset", false, false},
		{"nft flush table " STAGE_TABLE, false, false},
		{"nft flush set " STAGE_TABLE " on", false, true},
		{"nft flush set " STAGE_TABLE " guests", true, false},
		{"nft flush chain " STAGE_TABLE " answers", true, false},
		{"nft flush chain " STAGE_TABLE " choose", false, true},
		{"nft flush chain " STAGE_TABLE " dialled", true, true},
		{"nft flush chain " STAGE_TABLE " others", true, true},
		{"nft delete table arp berth_00abcd", true, true},
		{"nft delete table " STAGE_TABLE "_limits", true, true},
		{"ip rule del pref 98; ip rule del pref 98", false, false},
		{"ip route del unreachable 100.64.0.0/20", true, true},
	};
	struct guest g;

	(void)state;
	guest_begin(&g, stage_egress, 0, true);
	assert_int_equal(outside_shell("ip route add default via 198.51.100.2"), 0); /* a way to everywhere */
	for (size_t n = 0; n < sizeof changes / sizeof *changes; n++) {
		struct guest_sent s = guest_honest(&g, OUTSIDE_PUBLIC, OUTSIDE_PORT);
		struct call c;
		char text[32];

		snprintf(text, sizeof text, "change%zu.", n);
		stage_settled();
		assert_int_equal(outside_shell("%s", changes[n].change), 0);
		guest_udp(&g, &s, text);
		if (outside_saw(&stage_world, text, changes[n].out ? STAGE_HEARD_MS : STAGE_SILENT_MS) !=
		    changes[n].out)
			fail_msg("outbound, after: %s", changes[n].change);
		(void)guest_hears(&g, "", STAGE_SILENT_MS);
		call_dial(&g, &c);
		call_send(&g, &c, TCP_SYN | TCP_ACK, "");
		if (call_connected(&c, changes[n].in ? STAGE_HEARD_MS : STAGE_SILENT_MS) != changes[n].in)
			fail_msg("inbound, after: %s", changes[n].change);
		stage_never_reaches(&g);
		stage_restored(changes[n].change);
		c.seq--; /* the machine asks again, and so the guest answers again */
		call_send(&g, &c, TCP_SYN | TCP_ACK, "");
		assert_true(call_connected(&c, STAGE_HEARD_MS));
		close(c.fd);
		(void)guest_hears(&g, "", STAGE_SILENT_MS);
	}
	assert_int_equal(outside_shell("ip route del default"), 0);
	stage_detach(&g);
}

static void a_restart_adopts_it(void **state)
{
	struct guest g, stray;
	struct call c;
	struct err err = {0};

	(void)state;
	guest_begin(&g, stage_egress, 0, true);
	guest_begin(&stray, stage_egress, 5, true);
	call_make(&g, &c);
	egress_free(stage_egress);
	stage_open_egress();
	egress_adopt_tap(stage_egress, 0, true);
	assert_int_equal(egress_settle(stage_egress, &err), 0);
	stage_settled();
	assert_int_equal(if_nametoindex(stray.name), 0);
	guest_close(&stray);
	call_send(&g, &c, TCP_ACK, "still");
	assert_true(call_reads(&c, "still", STAGE_HEARD_MS));
	assert_true(stage_reaches(&g, OUTSIDE_PUBLIC, OUTSIDE_PORT, "adopted"));
	stage_never_reaches(&g);
	close(c.fd);
	stage_detach(&g);
}

static void a_dial_to_nobody_is_refused(void **state)
{
	struct guest g;
	struct err err = {0};
	int fd = -1;

	(void)state;
	guest_begin(&g, stage_egress, 0, false);
	assert_true(egress_dial(stage_egress, 1, 80, &fd, &err) < 0);
	assert_true(egress_dial(stage_egress, 5000, 80, &fd, &err) < 0);
	assert_int_equal(fd, -1);
	stage_detach(&g);
}

int main(void)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(what_was_dialled_is_answered),
		cmocka_unit_test(both_ends_close),
		cmocka_unit_test(an_old_connection_does_not_meet_the_next),
		cmocka_unit_test(it_opens_no_connection_to_the_machine),
		cmocka_unit_test(only_what_is_dialled_comes_in),
		cmocka_unit_test(without_its_rules_nothing_passes),
		cmocka_unit_test(a_restart_adopts_it),
		cmocka_unit_test(a_dial_to_nobody_is_refused),
		cmocka_unit_test(stage_nothing_is_left),
	};
	const char *lacks = stage_lacks();

	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED: %s\n", lacks);
		return 77;
	}
	return cmocka_run_group_tests_name("tap calls", cases, stage_open, stage_close);
}
