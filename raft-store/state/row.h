/* row.h -- one row: a frozen copy of a plain struct with its strings and lists behind it, in one piece of memory,
 * with a count of its holders. A row is never written after it was made, so any thread may read one that it holds.
 * A change of a row is a new row in its place. Without memory the program ends (must): no entry may be half applied. */
#ifndef STATE_ROW_H
#define STATE_ROW_H

#include <stdatomic.h>

#include "core/codec.h"
#include "core/map.h"

struct row {
	struct map_node by_id,
		by_name; /* in the live tables' hash maps alone; a snapshot never looks at them */
	uint64_t hash;   /* of kind and content: what the row adds to the table's sum */
	_Atomic uint32_t holders;
	_Alignas(16) char value[]; /* the struct */
};

/* One holder: the caller. */
struct row *row_new(const struct codec_type *type, const void *value);
static inline struct row *row_hold(struct row *row)
{
	atomic_fetch_add_explicit(&row->holders, 1, memory_order_relaxed);
	return row;
}
void row_drop(struct row *row); /* from any thread; NULL is fine */
#define row_of(value_pointer) container_of((value_pointer), struct row, value)

#endif
