/* heap.h -- an intrusive binary heap by time; the element embeds a heap_node and is owned by the caller.
 * Zero-initialised is empty. A node knows its place, so that it can be moved and taken out. Equal times come in an order that
 * depends on the calls alone. */
#ifndef RUNTIME_HEAP_H
#define RUNTIME_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct heap_node {
	uint64_t at_ms;
	size_t place; /* 1-based; 0: not in a heap */
};

struct heap {
	struct heap_node **nodes; /* nodes[0] is the first */
	size_t n, capacity;
};

/* Puts the node in, or moves it. Without memory the program ends (must): the heap grows with actors and requests,
 * which are bounded. */
void heap_set(struct heap *h, struct heap_node *node, uint64_t at_ms);
void heap_remove(struct heap *h, struct heap_node *node); /* may be out already */
struct heap_node *heap_first(const struct heap *h);       /* NULL: empty */
void heap_done(struct heap *h);

#endif
