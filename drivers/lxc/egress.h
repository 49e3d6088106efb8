/* egress.h -- outbound traffic of sandboxes: a veth pair each, and one nft table a node.
 *
 * Happy path: egress_attach() makes the pair before the program begins; the table drops everything of every pair of
 * this node unless (interface, address) is in the set @on. IPv4 to public addresses only; DNS to the resolvers
 * only; IPv6 never. egress_switch() changes the set: established flows end with it, because each packet is looked up.
 * Each change is one batch of the nft program. Thread: any; calls are serialised inside. */
#ifndef LXC_EGRESS_H
#define LXC_EGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include <stddef.h>

#include "core/err.h"

struct egress;

struct egress_options {
	uint32_t hash;         /* of cluster and node: names */
	uint32_t base;         /* first address */
	const char *resolvers; /* borrowed for life */
	const char *denied;
};

int egress_new(const struct egress_options *o, struct egress **ret, struct err *err);
/* Takes the table and remaining interfaces away when nothing is attached any more. */
void egress_free(struct egress *e);
/* The pair for a slot into the namespace of the descriptor, on. On failure nothing is left. */
int egress_attach(struct egress *e, uint32_t slot, int netns, struct err *err);
int egress_switch(struct egress *e, uint32_t slot, bool on, struct err *err);
/* Also for a slot that never had one. */
int egress_detach(struct egress *e, uint32_t slot, struct err *err);
/* What /etc/resolv.conf says inside. */
void egress_resolv_conf(const struct egress *e, char *ret, size_t size);

#endif
