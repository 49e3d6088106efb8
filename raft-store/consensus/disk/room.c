/* room.c -- see room.h. */
#include "consensus/disk/room.h"

#include <stddef.h>
#include <sys/statvfs.h>

#define EACH_MS 100

uint64_t room_free(struct room *r, uint64_t now_ms)
{
	struct statvfs st;
	if (r->checked_ms != 0 && now_ms - r->checked_ms < EACH_MS)
		return r->free;
	r->checked_ms = now_ms;
	r->free = UINT64_MAX;
	if (r->dir != NULL && statvfs(r->dir, &st) == 0)
		r->free = (uint64_t)st.f_bavail * st.f_frsize;
	return r->free;
}
