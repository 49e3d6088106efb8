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

void rules_table_name(const struct rules *r, char ret[RULES_NAME_MAX])
{
	snprintf(ret, RULES_NAME_MAX, "inet berth_%06x", r->node);
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

/* @on: who may send, from which address; @marks: the mark of its connections; @live: those whose answers come back. */
static void add_slots(const struct rules *r, const struct egress_slot *slots, struct buf *b)
{
	static const char *const head[] = {"set on { typeof iifname . ip saddr; ",
					   "map marks { typeof iifname : ct mark; ",
					   "set live { typeof ct mark; "};

	for (unsigned which = 0; which < 3; which++) {
		bool first = true;

		buf_printf(b, "%s", head[which]);
		for (uint32_t slot = 0; slot < EGRESS_SLOTS_MAX; slot++) {
			char name[16];

			if (!slots[slot].attached || !slots[slot].on)
				continue;
			buf_printf(b, "%s", first ? "elements = { " : ", ");
			first = false;
			rules_interface(r, slot, name);
			if (which < 2)
				buf_printf(b, "\"%s\" %c ", name, which == 0 ? '.' : ':');
			if (which == 0)
				ranges_print(b, r->base + 2 * slot + 1);
			else
				buf_printf(b, "0x%08x", rules_connection_mark(r, slot));
		}
		buf_printf(b, first ? "}\n" : " } }\n");
	}
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
		   "chain zone { type filter hook prerouting priority raw; "
		   "iifname \"bth%06xn*\" ct original zone set %u; }\n",
		   r->node, 1 + r->node % 65535);
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
		"iifname . ip saddr @on fib daddr type unicast ct state { new, established, related } jump "
		"choose; "
		"counter drop; }\n",
		r->node);
	buf_printf(b,
		   "chain back { type filter hook prerouting priority dstnat + 10; iifname != \"bth*\" "
		   "ct direction reply ct mark @live ct state { established, related } meta mark set "
		   "0x%08x; }\n"
		   "chain masquerade_all { type nat hook postrouting priority srcnat; meta mark 0x%08x "
		   "oifname != \"bth*\" masquerade; }\n",
		   rules_mark(r), rules_mark(r));
	/* The machine's own errors are routed once more when their address is translated back. */
	buf_printf(b,
		   "chain errors { type filter hook output priority mangle; oifname \"bth%06xn*\" meta "
		   "l4proto icmp "
		   "meta mark set 0x%08x; }\n",
		   r->node, rules_mark(r));
}

void rules_table(const struct rules *r, const struct egress_slot slots[EGRESS_SLOTS_MAX], struct buf *b)
{
	char name[RULES_NAME_MAX];

	rules_table_name(r, name);
	buf_printf(b, "add table %s\ndelete table %s\ntable %s {\n", name, name, name);
	add_slots(r, slots, b);
	add_ranges(r, b);
	add_chains(r, b);
	buf_printf(b, "}\n");
}

/* Packets and bytes are judged before a connection is looked up, new connections once they have the mark: by their first packet, for
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
		   "update @bytes { iifname limit rate over %" PRIu64 " bytes/second burst %" PRIu64
		   " bytes } counter drop; }\n",
		   r->node, l->packets_second, l->packets_second / 4 + 5, l->bytes_second, burst);
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
	rules_limits_name(r, name);
	buf_printf(b, "add table %s\ndelete table %s\n", name, name);
}
