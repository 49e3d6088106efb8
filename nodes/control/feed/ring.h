/* ring.h -- the entries that were applied last, for feeds that are a little behind. The oldest go first.
 * Owns: copies of the entries. Thread: the control loop. */
#ifndef CONTROL_FEED_RING_H
#define CONTROL_FEED_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/str.h"

#define RING_ENTRIES_MAX 65536u

struct ring;

/* Holds at most bytes_max (one entry may be larger) and RING_ENTRIES_MAX entries. */
struct ring *ring_new(uint64_t bytes_max);
void ring_free(struct ring *r);
/* From now on it holds what comes behind `index`, and nothing of before. */
void ring_begin(struct ring *r, uint64_t index);
/* Entries come in order. */
void ring_add(struct ring *r, uint64_t index, const void *entry, size_t n);
/* Every entry behind `index` is held, or was not applied yet. */
bool ring_reaches(const struct ring *r, uint64_t index);
/* The first entry behind `index`, valid until ring_add. False: there is none. */
bool ring_next(const struct ring *r, uint64_t index, uint64_t *ret_index, struct str *ret_entry);
uint64_t ring_bytes(const struct ring *r);

#endif
