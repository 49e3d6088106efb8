/* disk.h -- what a server of the log has on its disk, and copies of what the library writes and sends.
 * Owns: everything on the disk. All is made at once: what a crash leaves of a write is raft_io.c's. */
#ifndef SIM_RAFT_DISK_H
#define SIM_RAFT_DISK_H

#include <raft.h>

struct sim_disk {
	raft_term term;
	raft_id vote;
	raft_index first; /* of entries[0] */
	struct raft_entry *entries;
	size_t n, capacity;
	struct raft_snapshot snapshot; /* index 0: none; one buffer */
};

struct sim_disk *sim_disk_new(void);
void sim_disk_free(struct sim_disk *d);
void disk_append(struct sim_disk *d, const struct raft_entry *entries, unsigned n);
void disk_truncate(struct sim_disk *d, raft_index index); /* from there on */
/* Keeps `trailing` entries up to the snapshot, and what comes behind it; 0: no entry at all. */
void disk_snapshot(struct sim_disk *d, const struct raft_snapshot *from, unsigned trailing);
struct raft_snapshot *disk_load_snapshot(const struct sim_disk *d); /* a copy; NULL: none */

struct raft_buffer disk_copy_buffer(const struct raft_buffer *from, unsigned n);
void disk_copy_configuration(const struct raft_configuration *from, struct raft_configuration *to);
/* As the library wants entries that come from a disk or a peer: all in one piece of memory. NULL: none. */
struct raft_entry *disk_copy_batch(const struct raft_entry *from, size_t n);

#endif
