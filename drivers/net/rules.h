/* rules.h -- the nft tables of a node's sandboxes, as text, and what identifies each. Pure.
 *
 * No mark, no route: a packet of a sandbox goes nowhere, not even to this machine, unless the table `berth_<node>` gave it the
 * node's mark (egress.h tells the routing side), and every rule there that can be deleted, every set and element,
 * only ever leads to a mark. So whatever is missing from it closes, and never opens. (The exception: what programs of the machine
 * send into a sandbox's interface by its name is dropped there; nothing comes back in any case.)
 * What a machine answers gets the mark exactly while there is a socket with the mark that it answers to: no table of
 * connections is asked. Its requests for the gateway's address are in a table of their own, `arp berth_<node>`.
 * What bounds the traffic stands in a table of its own, `berth_<node>_limits`, because its sets remember: it is written once. */
#ifndef NET_RULES_H
#define NET_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "drivers/driver.h"

#define EGRESS_SLOTS_MAX 2048u
#define RULES_MAC        6
#define RULES_NAME_MAX   40

struct egress_slot {
	bool attached, on;
	bool tap; /* of a machine, which is dialled through it and asks for the gateway */
};

struct rules {
	uint32_t node;         /* 24 bits, of cluster and node */
	uint32_t base;         /* address of slot 0's outer end */
	const char *resolvers; /* with spaces between */
	const char *allowed;   /* as ranges_allowed() writes them */
	struct egress_limits limits;
};

uint32_t rules_mark(const struct rules *r); /* also the number of the node's routing table */
/* Of connections: tells node and slot. */
uint32_t rules_connection_mark(const struct rules *r, uint32_t slot);
void rules_mac(const struct rules *r, uint32_t slot, uint8_t ret[RULES_MAC]); /* the inner end's */
void rules_table_name(const struct rules *r, char ret[RULES_NAME_MAX]);       /* "inet berth_00abcd" */
void rules_arp_name(const struct rules *r, char ret[RULES_NAME_MAX]);         /* "arp berth_00abcd" */
void rules_limits_name(const struct rules *r, char ret[RULES_NAME_MAX]);
void rules_interface(const struct rules *r, uint32_t slot, char ret[16]);

/* Each replaces what it writes in one transaction; rules_table() the table for ARP too. */
void rules_table(const struct rules *r, const struct egress_slot slots[EGRESS_SLOTS_MAX], struct buf *b);
void rules_limits(const struct rules *r, struct buf *b);
void rules_remove(const struct rules *r, struct buf *b); /* all */

#endif
