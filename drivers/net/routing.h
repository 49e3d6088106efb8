/* routing.h -- what the machine's routing has to know of a node's sandboxes, so that only packets with the node's mark go
 * anywhere, and its switch for forwarding. rules.h tells who gets the mark.
 *
 * No mark, no route: the addresses of the node's sandboxes are routed in a table of the node's own, which only packets with its
 * mark look into; everywhere else they are unreachable. Each packet from a sandbox's interface is checked for a route back to
 * its source (rp_filter with src_valid_mark): without the mark there is none, and it is dropped, also one that is meant for this
 * machine. So when the rules are gone, nothing passes. ICMP errors that the machine itself has for a sandbox (too big) have a
 * way of their own.
 * The machine's ip_forward is turned on for the first pair of any node and back off with the last, if it was off.
 * Thread: one caller at a time; several nodes of a machine share what routing_lock() guards. */
#ifndef NET_ROUTING_H
#define NET_ROUTING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

struct routing {
	int netns; /* ours; a lock on it is one among all nodes of this machine */
	uint32_t mark, base;
	bool forward_ours;
};

int routing_open(struct routing *r, uint32_t mark, uint32_t base, struct err *err);
void routing_close(struct routing *r); /* leaves everything as it is */
/* While it is held nobody switches forwarding back. */
void routing_lock(const struct routing *r);
void routing_unlock(const struct routing *r);
/* Under the lock, before the first pair of the node, and again for each. */
int routing_begin(struct routing *r, struct err *err);
/* After the node's last pair is gone. */
void routing_end(struct routing *r);
/* 1: something was amiss and is restored. *ret_routes: routes to sandboxes may be gone too. `changed`: rules of the machine were. */
int routing_tend(struct routing *r, bool changed, bool *ret_routes, struct err *err);
/* After a restart, with pairs that are there. */
void routing_adopt(struct routing *r);
/* One interface of the node, still down: no packet is let in but by the above. */
int routing_guard(const char *device, struct err *err);
/* In the network namespace of the calling thread. */
int routing_no_ipv6(const char *device);
/* The way to one sandbox. */
int routing_to(const struct routing *r, const char *device, uint32_t address);

#endif
