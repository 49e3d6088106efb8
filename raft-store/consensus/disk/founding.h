/* founding.h -- a server's directory while no server runs in it: what it holds, and a new one that begins with a snapshot.
 *
 * For clusters that are restored from a backup, or that lost their majority: consensus_survey() hands everything that the files
 * hold to a machine, committed or not, as a server that is elected by itself would; consensus_found() makes the directory
 * of a server that is the only voter and whose log begins behind a snapshot. Both use the library's own files and
 * calls; both block. The caller runs as a user who may read and write there, and changes owners itself. */
#ifndef RAFT_CONSENSUS_DISK_FOUNDING_H
#define RAFT_CONSENSUS_DISK_FOUNDING_H

#include "consensus/consensus.h"

struct consensus_survey {
	uint64_t term, last_index, snapshot_index;
	uint64_t last_term; /* of the last entry */
	uint64_t
		promised_index; /* it once had entries up to here: more than last_index means that it lost some */
	uint64_t n_entries;     /* of commands, behind the snapshot */
	uint64_t written_ms; /* wall clock: when the newest of its files was last written */
};

/* Restores and applies all that `dir` holds; `machine` needs apply and restore. -ENOENT: no server ever ran there; -EBUSY: one
 * runs; -EUCLEAN: damaged files, with the same words as at a start; -EINVAL: another server's. */
int consensus_survey(const char *dir, uint64_t id, const char *address,
		     const struct consensus_machine *machine, struct consensus_survey *ret, struct err *err);

struct consensus_founding {
	const char *dir; /* must not be there yet */
	uint64_t id;
	const char *address;
	uint64_t index,
		term; /* of the last entry that the snapshot stands for; index above 0, term above 1 */
	const void *snapshot;
	int (*snapshot_write)(const void *snapshot, int (*write)(void *to, const void *p, size_t n),
			      void *to);
};

/* -EEXIST; -EIO... What was made so far is left for the caller to remove. */
int consensus_found(const struct consensus_founding *f, struct err *err);

#endif
