/* events.h -- what this node's berthd saw of sandboxes and sessions, a line of JSON each: the second source that bills are
 * recounted from, beside sandboxd's own (docs/events.md). It knows nothing of the ledger, and nothing reads it back.
 *
 * Failure modes and bounds: those of journal.h. Threads: any. Owns: the files. */
#ifndef RECORDS_EVENTS_H
#define RECORDS_EVENTS_H

#include <stdint.h>

#include "core/err.h"
#include "journal/journal.h"

enum event_kind {
	EVENT_READY,  /* a booting sandbox of this node answered its probe */
	EVENT_OPENED, /* a gateway of this node was given a session that it asked for first */
	EVENT_CONNECTED, /* a gateway of this node, the session's owner, made its first connection into the sandbox */
	EVENT_DEAD, /* a session's sandbox took no connection */
	EVENT_KINDS
};

struct event {
	uint64_t pool, sandbox, generation; /* generation 0: not of a session */
	char identifier_tag[33];            /* keyed hash of the identifier; empty: not known here */
};

struct events;

int events_open(const char *path, uint64_t node, uint64_t bytes_max, uint64_t age_ms_max, struct events **ret,
		struct err *err);
void events_close(struct events *e); /* NULL: nothing */
void events_write(struct events *e, enum event_kind kind, const struct event *event);
/* What is too old goes, also when nothing happens. */
void events_trim(struct events *e, uint64_t wall_ms);
void events_usage(struct events *e, struct journal_usage *ret);

#endif
