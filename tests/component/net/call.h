/* call.h -- a connection that the machine dials to a guest, whose side of TCP the test plays. */
#ifndef NET_STAGE_CALL_H
#define NET_STAGE_CALL_H

#include "guest.h"

struct call {
	int fd;
	struct guest_sent reply;
	uint32_t seq, ack; /* of the next segment that the guest sends */
};

/* Up to the SYN, which the guest has read. */
void call_dial(struct guest *g, struct call *c);
void call_make(struct guest *g, struct call *c);
void call_send(struct guest *g, struct call *c, uint8_t flags, const char *text);
bool call_connected(const struct call *c, int ms);
/* At the machine's end. */
bool call_reads(const struct call *c, const char *text, int ms);

#endif
