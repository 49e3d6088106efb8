/* tap.h -- a tap device that stays when nobody has it open. Acts in the network namespace of the calling thread. */
#ifndef NET_TAP_H
#define NET_TAP_H

#include "rtnetlink.h"

/* Down. Only root and CAP_NET_ADMIN may open it: /dev/net/tun is everybody's, and a tap without owner too. -EEXIST. */
int tap_make(const char *name, const uint8_t mac[RTNETLINK_MAC]);

#endif
