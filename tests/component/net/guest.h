/* guest.h -- a virtual machine as a tap sees it: this process opens the tap as QEMU does, writes frames into it and reads what
 * comes out. It says of itself what a test wants, true or not. */
#ifndef NET_STAGE_GUEST_H
#define NET_STAGE_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "drivers_net/egress.h"

#define GUEST_FRAME 2048

struct guest {
	int tap;
	uint32_t slot, ip, gateway;
	uint8_t mac[EGRESS_MAC], gateway_mac[EGRESS_MAC]; /* the latter as the tap itself has it */
	char name[16];
};

struct guest_sent {
	uint8_t mac[EGRESS_MAC]; /* source */
	uint32_t from, to;
	uint16_t from_port, to_port;
	uint8_t to_mac[EGRESS_MAC];
};

struct guest_segment {
	uint8_t flags; /* as in the header */
	uint32_t seq, ack, from, to;
	uint16_t from_port, to_port;
	char text[64];
};

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

/* Attaches a tap and opens it. */
void guest_begin(struct guest *g, struct egress *e, uint32_t slot, bool on);
void guest_open(struct guest *g, const struct egress *e, uint32_t slot, const char *name);
void guest_close(struct guest *g);

/* What a well-behaved one writes: to the gateway's MAC, from its own. */
struct guest_sent guest_honest(const struct guest *g, uint32_t to, uint16_t port);
void guest_udp(struct guest *g, const struct guest_sent *s, const char *text);
/* In two fragments. */
void guest_udp_fragments(struct guest *g, const struct guest_sent *s, const char *text);
void guest_tcp(struct guest *g, const struct guest_sent *s, const struct guest_segment *t);
void guest_arp(struct guest *g, bool answer, const uint8_t mac[EGRESS_MAC], uint32_t from, uint32_t to);
/* An ethernet frame of any type. */
void guest_frame(struct guest *g, const uint8_t to[EGRESS_MAC], uint16_t type, const void *p, unsigned n);

/* The next frame within the time; its length or 0. */
unsigned guest_read(struct guest *g, uint8_t frame[GUEST_FRAME], int ms);
/* A datagram with that text came out within the time. */
bool guest_hears(struct guest *g, const char *text, int ms);
bool guest_hears_arp(struct guest *g, uint32_t from, int ms);
bool guest_reads_tcp(struct guest *g, struct guest_segment *ret, int ms);
/* Nothing at all came out for so long. */
bool guest_hears_nothing(struct guest *g, int ms);

#endif
