/* intake.h -- a worker's side of its feed: asks a voter, takes in what it sends, goes to another one when need be.
 *
 * Happy path: a voter that can be reached is asked from the index of the tables; a snapshot is gathered and restored, entries are
 * applied as they come, and what was taken is acknowledged. While tables are made of a snapshot, elsewhere, entries are dropped: they
 * are asked for again.
 * Failure modes: a voter that is silent for INTAKE_SILENT_MS, knows of no leader for INTAKE_STILL_MS, or whose entries stand
 * still for that long, is left for the next one; the tables go on from where they are. A piece that does not fit to the one
 * before it makes the worker ask anew. What was not asked for is dropped.
 * Owns: the snapshot while it comes, at most INTAKE_SNAPSHOT_MAX. Thread: the control loop. */
#ifndef CONTROL_FEED_INTAKE_H
#define CONTROL_FEED_INTAKE_H

#include "control/feed/wire.h"
#include "core/err.h"

#define INTAKE_SILENT_MS    2000
#define INTAKE_STILL_MS     5000
#define INTAKE_SNAPSHOT_MAX (4ull << 30)

struct intake;

struct intake_options {
	uint64_t number; /* above all that an earlier process of this node used */
	/* The voter behind `voter` (0: any) that can be reached, around; 0: none. */
	uint64_t (*next_voter)(void *context, uint64_t voter);
	/* 0 or -errno. */
	int (*ask)(void *context, uint64_t voter, const void *ask, size_t n);
	/* Incarnation (0: none yet), index and cluster time of the tables. */
	void (*tables)(void *context, uint64_t *ret_incarnation, uint64_t *ret_index, uint64_t *ret_time_ms);
	/* An error ends the program. */
	int (*apply)(void *context, uint64_t index, const void *entry, size_t n, struct err *err);
	/* Takes the bytes over. intake_restored tells, later, what became of them. */
	void (*restore)(void *context, struct buf *bytes);
	void (*tag_key)(void *context, struct str key);
	void *context;
};

struct intake *intake_new(const struct intake_options *options);
void intake_free(struct intake *i);
/* A frame of a node. What it says is looked at only if this is the voter that was asked. */
void intake_received(struct intake *i, uint64_t from, const void *piece, size_t n, uint64_t boot_ms);
/* The tables are those of the snapshot now, or (`why` not NULL) as they were: then another voter is asked. */
void intake_restored(struct intake *i, const char *why, uint64_t boot_ms);
/* A node became reachable, or ceased to be. */
void intake_peer(struct intake *i, uint64_t node, bool reachable, uint64_t boot_ms);
/* FEED_BEAT_MS apart at most. */
void intake_tick(struct intake *i, uint64_t boot_ms);

/* Who feeds; 0: nobody. */
uint64_t intake_voter(const struct intake *i);
/* As the voter knows it; 0: none is known. */
uint64_t intake_leader(const struct intake *i);
uint64_t intake_term(const struct intake *i);

struct intake_counts {
	uint64_t restores, entries, voters; /* voters: how often another was asked */
};
struct intake_counts intake_counts(const struct intake *i);

#endif
