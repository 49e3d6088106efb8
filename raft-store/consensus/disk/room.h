/* room.h -- how much room is left on the disk of a server's files, looked at often enough to refuse entries before a write fails:
 * a full disk ends the process in the middle of one. Thread: the loop's. */
#ifndef RAFT_CONSENSUS_DISK_ROOM_H
#define RAFT_CONSENSUS_DISK_ROOM_H

#include <stdint.h>

struct room {
	const char *dir;     /* NULL: a simulated one */
	uint64_t checked_ms; /* 0: never */
	uint64_t free;       /* UINT64_MAX: not known */
};

uint64_t room_free(struct room *r, uint64_t now_ms);

#endif
