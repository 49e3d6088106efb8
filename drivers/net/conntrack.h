/* conntrack.h -- ends connections that the kernel tracks, over netlink. Acts in the network namespace of the calling thread. */
#ifndef NET_CONNTRACK_H
#define NET_CONNTRACK_H

#include <stdint.h>

/* All IPv4 connections with that mark. Codes are the kernel's. */
int conntrack_flush(uint32_t mark);

#endif
