/* crowd.h -- who is connected: how many in all, and from one address (IPv4) or one /64 (IPv6), over all loops.
 * Asked when a connection comes and when it goes, never for a request. Thread: any. Owner: the gateway. */
#ifndef GATEWAY_CROWD_H
#define GATEWAY_CROWD_H

#include <stdint.h>
#include <sys/socket.h>

struct crowd;

struct crowd *crowd_new(uint32_t all_max, uint32_t address_max); /* 0: no bound. NULL without memory */
void crowd_free(struct crowd *c);                                /* after all have left */
/* 0; -ENFILE: as many as allowed are there; -EUSERS: from this address; -ENOMEM. */
int crowd_enter(struct crowd *c, const struct sockaddr *from);
void crowd_leave(struct crowd *c, const struct sockaddr *from);

#endif
