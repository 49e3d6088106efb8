#include "rules.h"

#include <inttypes.h>
#include <stdio.h>

#include "ranges.h"

#define MARKS     0x62000000u /* of all nodes on a machine: the upper 8 bits */
#define SLOT_BITS 11

_Static_assert(EGRESS_SLOTS_MAX == 1u << SLOT_BITS, "a connection's mark holds its slot");

uint32_t rules_mark(const struct rules *r)
{
	return MARKS | r->node;
}

uint32_t rules_connection_mark(const struct rules *r, uint32_t slot)
{
	return (r->node | 1) << SLOT_BITS | slot;
}

void rules_mac(const struct rules *r, uint32_t slot, uint8_t ret[RULES_MAC])
{
	const uint8_t mac[RULES_MAC] = {0x06, /* ours to give: locally administered */
					(uint8_t)(r->node >> 16),
					(uint8_t)(r->node >> 8),
					(uint8_t)r->node,
					(uint8_t)(slot >> 8),
					(uint8_t)slot};

	for (unsigned i = 0; i < RULES_MAC; i++)
		ret[i] = mac[i];
}

void rules_table_name(const struct rules *r, char ret[RULES_NAME_MAX])
{
	snprintf(ret, RULES_NAME_MAX, "inet berth_%06x", r->node);
}

void rules_arp_name(const struct rules *r, char ret[RULES_NAME_MAX])
{
	snprintf(ret, RULES_NAME_MAX, "arp berth_%06x", r->node);
}

void rules_limits_name(const struct rules *r, char ret[RULES_NAME_MAX])
{
	snprintf(ret, RULES_NAME_MAX, "inet berth_%06x_limits", r->node);
}

void rules_interface(const struct rules *r, uint32_t slot, char ret[16])
{
	snprintf(ret, 16, "bth%06xn%u", r->node, slot % EGRESS_SLOTS_MAX);
}

/* "a b" to "a, b" */
static void add_list(struct buf *b, const char *words)
{
	for (; *words != '\0'; words++)
		buf_add(b, *words == ' ' ? ", " : words, *words == ' ' ? 2 : 1);
}

/* "bth00abcdn0" . 06:00:ab:cd:00:00 . 100.64.0.1: where a packet comes in, and what it has to say that it comes from. */
static void add_sender(const struct rules *r, uint32_t slot, struct buf *b)
{
	char name[16];
	uint8_t mac[RULES_MAC];

	rules_interface(r, slot, name);
	rules_mac(r, slot, mac);
	buf_printf(b, "\"%s\" . %02x:%02x:%02x:%02x:%02x:%02x . ", name, mac[0], mac[1], mac[2], mac[3],
		   mac[4], mac[5]);
	ranges_print(b, r->base + 2 * slot + 1);
}

enum which { ON, MARKS_OF, LIVE, GUESTS, ASKS };

static void add_element(const struct rules *r, enum which which, uint32_t slot, struct buf *b)
{
	char name[16];

	rules_interface(r, slot, name);
	switch (which) {
	case MARKS_OF:
		buf_printf(b, "\"%s\" : ", name);
		/* fall through */
	case LIVE:
		buf_printf(b, "0x%08x", rules_connection_mark(r, slot));
		break;
	case ON:
	case GUESTS:
	case ASKS:
		add_sender(r, slot, b);
	}
	if (which == ASKS) {
		buf_printf(b, " . ");
		ranges_print(b, r->base + 2 * slot);
	}
}

/* @on: who may send, from which addresses; @marks: the mark of its connections; @live: those whose answers come back; @guests:
 * machines; @asks: which may ask for their gateway. */
static void add_set(const struct rules *r, const struct egress_slot *slots, enum which which, struct buf *b)
{
	static const char *const heads[] = {
		[ON] = "set on { typeof iifname . ether saddr . ip saddr; ",
		[MARKS_OF] = "map marks { typeof iifname : ct mark; ",
		[LIVE] = "set live { typeof ct mark; ",
		[GUESTS] = "set guests { typeof iifname . ether saddr . ip saddr; ",
		[ASKS] = "set asks { typeof iifname . arp saddr ether . arp saddr ip . arp daddr ip; "};
	bool first = true;

	buf_printf(b, "%s", heads[which]);
	for (uint32_t slot = 0; slot < EGRESS_SLOTS_MAX; slot++) {
		const struct egress_slot *s = &slots[slot];

		if (!s->attached || !(which == GUESTS || which == ASKS ? s->tap : s->on))
			continue;
		buf_printf(b, "%s", first ? "elements = { " : ", ");
		first = false;
		add_element(r, which, slot, b);
	}
	buf_printf(b, first ? "}\n" : " } }\n");
}

static void add_ranges(const struct rules *r, struct buf *b)
{
	buf_printf(b, "set allowed { type ipv4_addr; flags interval; ");
	if (r->allowed[0] != '\0')
		buf_printf(b, "elements = { %s } ", r->allowed);
	buf_printf(b, "}\nset resolvers { type ipv4_addr; flags interval; auto-merge; ");
	if (r->resolvers[0] != '\0') {
		buf_printf(b, "elements = { ");
		add_list(b, r->resolvers);
		buf_printf(b, " } ");
	}
	buf_printf(b, "}\n");
}

/* Connections are tracked in a zone of the node's own, so that two nodes of one machine may have the same addresses. Answers
 * are found by the outer address, which both share, and their way back by the connection's mark. */
static void add_chains(const struct rules *r, struct buf *b)
{
	buf_printf(b,
		   "chain answers { type filter hook prerouting priority raw - 20; "
		   "iifname . ether saddr . ip saddr @guests meta l4proto tcp socket mark 0x%08x "
		   "meta mark set 0x%08x notrack accept; }\n"
		   "chain zone { type filter hook prerouting priority raw; "
		   "iifname \"bth%06xn*\" meta mark != 0x%08x ct original zone set %u; }\n",
		   rules_mark(r), rules_mark(r), r->node, rules_mark(r), 1 + r->node % 65535);
	/* In inet tables `ip` matches IPv4 alone. */
	buf_printf(b,
		   "chain leave { ct state new ct mark set iifname map @marks; meta mark set 0x%08x; "
		   "counter accept; }\n"
		   "chain choose { "
		   "ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 goto leave; "
		   "ip daddr @allowed meta l4proto { tcp, udp } th dport != { 53, 853 } goto leave; "
		   "ip daddr @allowed meta l4proto icmp goto leave; }\n",
		   rules_mark(r));
	buf_printf(
		b,
		"chain out { type filter hook prerouting priority mangle; iifname != \"bth%06xn*\" accept; "
		"meta mark 0x%08x counter accept; "
		"iifname . ether saddr . ip saddr @on fib daddr type unicast ct state { new, established, "
		"related } jump "
		"choose; "
		"counter drop; }\n",
		r->node, rules_mark(r));
	buf_printf(b,
		   "chain back { type filter hook prerouting priority dstnat + 10; iifname != \"bth*\" "
		   "ct direction reply ct mark @live ct state { established, related } meta mark set "
		   "0x%08x; }\n"
		   "chain masquerade_all { type nat hook postrouting priority srcnat; meta mark 0x%08x "
		   "oifname != \"bth*\" masquerade; }\n",
		   rules_mark(r), rules_mark(r));
	/* The machine's own errors are routed once more when their address is translated back. What programs of the machine send
	 * needs no route when it names the interface; dialled connections are not tracked. */
	buf_printf(b,
		   "chain errors { type filter hook output priority mangle; oifname \"bth%06xn*\" icmp type "
		   "{ destination-unreachable, time-exceeded, parameter-problem } meta mark set 0x%08x; }\n"
		   "chain dialled { type filter hook output priority raw; oifname \"bth%06xn*\" meta mark "
		   "0x%08x notrack; }\n"
		   "chain others { type filter hook output priority filter; oifname \"bth%06xn*\" meta mark "
		   "!= 0x%08x counter drop; }\n",
		   r->node, rules_mark(r), r->node, rules_mark(r), r->node, rules_mark(r));
}

/* Without the mark it is not answered: there is no route back. */
static void add_arp(const struct rules *r, const struct egress_slot *slots, struct buf *b)
{
	char name[RULES_NAME_MAX];

	rules_arp_name(r, name);
	buf_printf(b, "add table %s\ndelete table %s\ntable %s {\n", name, name, name);
	add_set(r, slots, ASKS, b);
	buf_printf(
		b,
		"chain in { type filter hook input priority filter; iifname != \"bth%06xn*\" accept; "
		"iifname . arp saddr ether . arp saddr ip . arp daddr ip @asks meta mark set 0x%08x accept; "
		"drop; }\n}\n",
		r->node, rules_mark(r));
}

void rules_table(const struct rules *r, const struct egress_slot slots[EGRESS_SLOTS_MAX], struct buf *b)
{
	char name[RULES_NAME_MAX];

	rules_table_name(r, name);
	buf_printf(b, "add table %s\ndelete table %s\ntable %s {\n", name, name, name);
	for (enum which w = ON; w <= GUESTS; w++)
		add_set(r, slots, w, b);
	add_ranges(r, b);
	add_chains(r, b);
	buf_printf(b, "}\n");
	add_arp(r, slots, b);
}

/* Packets and bytes are judged before a connection is looked up (the bytes of answers by the connection's reader), new connections once they have the mark: by their first packet, for
 * one that nobody answers stays new. */
void rules_limits(const struct rules *r, struct buf *b)
{
	const struct egress_limits *l = &r->limits;
	uint64_t burst = l->bytes_second / 8 + 65536;
	char name[RULES_NAME_MAX];

	if (burst > UINT32_MAX)
		burst = UINT32_MAX;
	rules_limits_name(r, name);
	buf_printf(b, "add table %s\ndelete table %s\ntable %s {\n", name, name, name);
	for (unsigned i = 0; i < 4; i++)
		buf_printf(b, "set %s { typeof iifname; size %u; flags dynamic; }\n",
			   (const char *const[]){"packets", "bytes", "opened", "open"}[i], EGRESS_SLOTS_MAX);
	buf_printf(b, "set received { typeof ct mark; size %u; flags dynamic; }\n", EGRESS_SLOTS_MAX);
	buf_printf(b,
		   "chain sent { type filter hook prerouting priority raw - 10; iifname != \"bth%06xn*\" "
		   "accept; "
		   "update @packets { iifname limit rate over %u/second burst %u packets } counter drop; "
		   "meta mark 0x%08x accept; "
		   "update @bytes { iifname limit rate over %" PRIu64 " bytes/second burst %" PRIu64
		   " bytes } counter drop; }\n",
		   r->node, l->packets_second, l->packets_second / 4 + 5, rules_mark(r), l->bytes_second,
		   burst);
	buf_printf(b,
		   "chain opens { type filter hook prerouting priority mangle + 10; "
		   "iifname != \"bth%06xn*\" accept; ct state != new accept; ct status confirmed accept; "
		   "update @opened { iifname limit rate over %u/second burst %u packets } counter drop; "
		   "add @open { iifname ct count over %u } counter drop; }\n",
		   r->node, l->connections_second, l->connections_second + 5, l->connections);
	buf_printf(
		b,
		"chain received { type filter hook prerouting priority dstnat + 20; iifname \"bth*\" accept; "
		"meta mark 0x%08x update @received { ct mark limit rate over %" PRIu64
		" bytes/second burst %" PRIu64 " bytes } counter drop; }\n}\n",
		rules_mark(r), l->bytes_second, burst);
}

void rules_remove(const struct rules *r, struct buf *b)
{
	char name[RULES_NAME_MAX];

	rules_table_name(r, name);
	buf_printf(b, "add table %s\ndelete table %s\n", name, name);
	rules_arp_name(r, name);
	buf_printf(b, "add table %s\ndelete table %s\n", name, name);
	rules_limits_name(r, name);
	buf_printf(b, "add table %s\ndelete table %s\n", name, name);
}
