/* egress.h -- outbound traffic of sandboxes: a veth pair each, and one nft table a node.
 *
 * Happy path: egress_attach() writes the rules (rules.h) and the routes (routing.h), then makes the pair, before the program
 * begins. Packets of a sandbox go nowhere unless the rules mark them: IPv4 to public addresses only (ranges.h), DNS to the
 * resolvers only, IPv6 never, nothing to the host itself or to other sandboxes. Each change replaces the whole table in one
 * batch of the nft program, which the kernel takes or refuses as one; established flows end with their entry, because each
 * packet is looked up, and what the kernel tracked of them is dropped.
 * Each second egress_tend() repairs what others did to rules and routes: flushed, deleted, or changed.
 * Failure: when nft refuses, nothing changed, and the caller is told; egress_tend() tells it too until it works again.
 * Ingress does not come this way: it is dialled inside. Thread: any; calls are serialised inside. */
#ifndef NET_EGRESS_H
#define NET_EGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "rules.h"

struct egress;

struct egress_options {
	uint32_t hash;         /* of cluster and node: for names */
	uint32_t base;         /* first of 4096 addresses, a multiple of that; host byte order */
	const char *resolvers; /* IPv4, spaces between; copied */
	const char *denied;    /* more ranges that must not be reached */
	struct egress_limits limits;
};

int egress_new(const struct egress_options *o, struct egress **ret, struct err *err);
void egress_free(struct egress *e); /* leaves rules and interfaces as they are */
/* The pair for a slot into the namespace of the descriptor, on. On failure nothing is left. */
int egress_attach(struct egress *e, uint32_t slot, int netns, struct err *err);
int egress_switch(struct egress *e, uint32_t slot, bool on, struct err *err);
/* Nothing for a slot that has none. */
int egress_detach(struct egress *e, uint32_t slot, struct err *err);
/* After a restart: a slot that has a pair already; then egress_settle() once, which writes the rules anew and removes
 * pairs of this node that nobody named. */
void egress_adopt(struct egress *e, uint32_t slot, bool on);
int egress_settle(struct egress *e, struct err *err);
/* Looks whether rules, routes and forwarding are as they should be, and restores them. 0: they were; 1: restored. Costs a
 * question to the kernel unless some rule on the machine was changed since. */
int egress_tend(struct egress *e, struct err *err);
/* What /etc/resolv.conf says inside. */
void egress_resolv_conf(const struct egress *e, char *ret, size_t size);

#endif
