/* network.h -- lo, and the one interface to the host: its addresses come with START. */
#ifndef GUEST_INIT_NETWORK_H
#define GUEST_INIT_NETWORK_H

#include "libvirt_guest/protocol.h"

int network_loopback(struct err *err);
/* MAC, address, default route and the gateway as a permanent neighbour. Nothing without a MAC. */
int network_apply(const struct guest_network *n, struct err *err);

#endif
