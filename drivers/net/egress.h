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

#define EGRESS_MAC 6

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
/* After a restart: a slot that has a pair already; then egress_settle() once, after all drivers adopted theirs: it writes the
 * rules anew and removes what of this node nobody named. */
void egress_adopt(struct egress *e, uint32_t slot, bool on);
int egress_settle(struct egress *e, struct err *err);
/* Looks whether rules, routes and forwarding are as they should be, and restores them. 0: they were; 1: restored. Costs a
 * question to the kernel unless some rule on the machine was changed since. */
int egress_tend(struct egress *e, struct err *err);

/* A tap for a virtual machine, which QEMU opens by that name (persistent; root may; with or without IFF_VNET_HDR). The guest
 * has to have the slot's MAC and address (/31), and routes by the gateway, which answers its ARP. With `on` false nothing
 * passes but what was dialled; egress_switch() and egress_detach() as with a pair. On failure nothing is left. */
int egress_attach_tap(struct egress *e, uint32_t slot, bool on, char ret_name[16], struct err *err);
void egress_adopt_tap(struct egress *e, uint32_t slot, bool on);
/* In host byte order. Neither needs an attached slot. */
void egress_addresses(const struct egress *e, uint32_t slot, uint32_t *ret_guest, uint32_t *ret_gateway);
void egress_mac(const struct egress *e, uint32_t slot, uint8_t ret[EGRESS_MAC]);
extern const uint8_t egress_gateway_mac[EGRESS_MAC]; /* of every gateway */
/* A TCP socket, non-blocking, to the machine at the slot's tap; its connect may still be under way. Never blocks. */
int egress_dial(const struct egress *e, uint32_t slot, uint16_t port, int *ret_fd, struct err *err);

/* What /etc/resolv.conf says inside. */
void egress_resolv_conf(const struct egress *e, char *ret, size_t size);

#endif
