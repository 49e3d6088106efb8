/* machine_memory.h -- where a machine's memory comes from, as arguments of QEMU in a domain's <qemu:commandline>. Pure.
 *
 * The block has the same name in all of them, so that the state of one can be loaded into another:
 *   own       cold boot: fresh private memory
 *   template  booted over a descriptor that sandboxd hands over, shared: what the guest writes stays there
 *   clone     private mapping of the same, sealed; waits for the template's devices (vmstate_load, VMSTATE_DEVICES)
 *   loaded    fresh private memory; waits for all of a saved machine (VMSTATE_ALL)
 * A clone that was saved becomes a loaded one: nothing of its template is needed then. */
#ifndef CLONE_MACHINE_MEMORY_H
#define CLONE_MACHINE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"

enum machine_memory {
	MACHINE_MEMORY_OWN,
	MACHINE_MEMORY_TEMPLATE,
	MACHINE_MEMORY_CLONE,
	MACHINE_MEMORY_LOADED
};

/* Appends <qemu:arg/> elements, and <qemu:env/> behind them when a descriptor is handed over (`socket`: handover.h's path,
 * NULL otherwise): the whole of <qemu:commandline>, unless others put arguments before. */
void machine_memory_xml(struct buf *xml, enum machine_memory kind, uint64_t bytes, const char *socket);
/* Its domain must be created with VIR_DOMAIN_START_PAUSED, and loaded. */
static inline bool machine_memory_waits(enum machine_memory kind)
{
	return kind == MACHINE_MEMORY_CLONE || kind == MACHINE_MEMORY_LOADED;
}

#endif
