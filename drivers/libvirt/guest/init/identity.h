/* identity.h -- what makes this machine another one than all others that were copied from the same template: random
 * numbers, clock, names, addresses. Before any process of the image runs. */
#ifndef GUEST_INIT_IDENTITY_H
#define GUEST_INIT_IDENTITY_H

#include "libvirt_guest/protocol.h"

/* The kernel makes its boot id when it is first read: afterwards. */
int identity_apply(const struct guest_start *s, struct err *err);

int identity_set_clock(uint64_t wall_ns, struct err *err);

/* Inside the image's root. */
void identity_write_machine_id(void);

#endif
