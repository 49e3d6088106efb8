/* machine_memory.c -- see machine_memory.h. */
#include "machine_memory.h"

#include <stddef.h>

#include "core/must.h"
#include "emulator.h"

/* Not in cores, and never merged with what others hold: who could measure merging would learn of them. */
#define ALONE     ",merge=off,dump=off"
#define FROM_FILE "memory-backend-file" ALONE ",mem-path=/proc/self/fd/" EMULATOR_FD_TEXT

static const char *const backend[] = {
	[MACHINE_MEMORY_OWN] = "memory-backend-ram" ALONE,
	[MACHINE_MEMORY_TEMPLATE] = FROM_FILE ",share=on",
	[MACHINE_MEMORY_CLONE] = FROM_FILE ",share=off",
	[MACHINE_MEMORY_LOADED] = "memory-backend-ram" ALONE,
};

static bool handed_over(enum machine_memory kind)
{
	return kind == MACHINE_MEMORY_TEMPLATE || kind == MACHINE_MEMORY_CLONE;
}

void machine_memory_xml(struct buf *xml, enum machine_memory kind, uint64_t bytes, const char *socket)
{
	must(handed_over(kind) == (socket != NULL));
	buf_printf(xml,
		   "<qemu:arg value='-object'/><qemu:arg value='%s,id=berth.ram,size=%llu'/>"
		   "<qemu:arg value='-machine'/><qemu:arg value='memory-backend=berth.ram'/>",
		   backend[kind], (unsigned long long)bytes);
	if (machine_memory_waits(kind))
		buf_printf(xml, "<qemu:arg value='-incoming'/><qemu:arg value='defer'/>");
	if (socket != NULL)
		buf_printf(xml, "<qemu:env name='" EMULATOR_ENVIRONMENT "' value='%s'/>", socket);
}
