/* confine.h -- berth-vmshim gives up everything that a guest which takes it over could use. */
#ifndef LIBVIRT_SHIM_CONFINE_H
#define LIBVIRT_SHIM_CONFINE_H

#include <stdint.h>

#include "core/err.h"

/* User and group `id`, no capabilities, no new privileges, no cores; of the system calls those that its loop and its log
 * need: no new sockets, processes, programs. */
int confine(uint32_t id, struct err *err);

#endif
