/* rtnetlink.h -- the few link, address and route changes that egress needs, spoken to the kernel directly. Each call acts
 * in the network namespace of the calling thread. Codes are the kernel's. */
#ifndef NET_RTNETLINK_H
#define NET_RTNETLINK_H

#include <stdbool.h>
#include <stdint.h>

#define RTNETLINK_MAC 6

struct rtnetlink_route {
	uint32_t to; /* host byte order, as all addresses here */
	uint8_t bits;
	uint32_t gateway;   /* or 0 */
	const char *device; /* or NULL: with neither the route says that it is unreachable */
	uint32_t table;     /* 0: the main one */
	uint32_t metric;
};

/* Which packets a table of routes is for: those with the mark, or, when it is 0, ICMP errors of this machine itself. */
struct rtnetlink_rule {
	uint32_t preference, table, mark;
	uint32_t to; /* with no mark: only there */
	uint8_t bits;
};

/* A veth pair: `name` here, `peer` in the namespace of the descriptor. */
int rtnetlink_veth(const char *name, const uint8_t mac[RTNETLINK_MAC], const char *peer,
		   const uint8_t peer_mac[RTNETLINK_MAC], int peer_netns);
int rtnetlink_delete(const char *name); /* -ENODEV: there is none */
int rtnetlink_up(const char *name);
/* Addresses in host byte order; `bits` of prefix. */
int rtnetlink_address(const char *name, uint32_t address, uint8_t bits);
int rtnetlink_neighbour(const char *device, uint32_t address, const uint8_t mac[RTNETLINK_MAC]);
/* -EEXIST, -ESRCH or -ENOENT: it was there already, or was not. */
int rtnetlink_route(const struct rtnetlink_route *r, bool add);
int rtnetlink_rule(const struct rtnetlink_rule *r, bool add);

#endif
