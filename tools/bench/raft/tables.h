/* tables.h -- a machine for the log that is Berth's own tables, with so many live sessions in them. */
#ifndef BENCH_RAFT_TABLES_H
#define BENCH_RAFT_TABLES_H

#include "consensus/consensus.h"
#include "core/buf.h"

#define TABLES_OPENED_MAX 4096

struct tables {
	struct state *state;
	uint64_t pool, sessions, sequence, number;
	uint64_t filled;                                 /* the index before the log's first entry */
	size_t heap_bytes;                               /* that the sessions and their sandboxes took */
	uint64_t opened[TABLES_OPENED_MAX], first, last; /* by the load, not ended yet */
};

/* Each session has a sandbox of its own. */
struct tables *tables_new(uint64_t sessions);
struct consensus_machine tables_machine(struct tables *t);
/* An entry that opens a session for a new identifier, and ends one that another entry opened. */
void tables_entry(struct tables *t, struct buf *to);
/* Of a session by its identifier, picked at random. */
double tables_lookup_ns(const struct tables *t);

#endif
