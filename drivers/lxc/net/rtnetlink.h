/* rtnetlink.h -- the few link, address and route changes that egress needs, spoken to the kernel directly. Each call acts
 * in the network namespace of the calling thread. Codes are the kernel's. */
#ifndef LXC_RTNETLINK_H
#define LXC_RTNETLINK_H

#include <stdint.h>

/* A veth pair: `name` here, `peer` in the namespace of the descriptor. */
int rtnetlink_veth(const char *name, const char *peer, int peer_netns);
int rtnetlink_delete(const char *name); /* -ENODEV: there is none */
int rtnetlink_up(const char *name);
/* Addresses in host byte order; `bits` of prefix. */
int rtnetlink_address(const char *name, uint32_t address, uint8_t bits);
int rtnetlink_default_route(uint32_t gateway);

#endif
