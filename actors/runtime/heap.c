#include "heap.h"

#include <stdlib.h>

#include "core/must.h"

static void put(struct heap *h, size_t i, struct heap_node *node)
{
	h->nodes[i] = node;
	node->place = i + 1;
}

static void rise(struct heap *h, size_t i)
{
	struct heap_node *node = h->nodes[i];

	while (i > 0 && h->nodes[(i - 1) / 2]->at_ms > node->at_ms) {
		put(h, i, h->nodes[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	put(h, i, node);
}

static void sink(struct heap *h, size_t i)
{
	struct heap_node *node = h->nodes[i];

	for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
		if (child + 1 < h->n && h->nodes[child + 1]->at_ms < h->nodes[child]->at_ms)
			child++;
		if (h->nodes[child]->at_ms >= node->at_ms)
			break;
		put(h, i, h->nodes[child]);
	}
	put(h, i, node);
}

void heap_set(struct heap *h, struct heap_node *node, uint64_t at_ms)
{
	if (node->place == 0) {
		if (h->n == h->capacity) {
			size_t capacity = h->capacity == 0 ? 64 : h->capacity * 2;
			struct heap_node **nodes = realloc(h->nodes, capacity * sizeof *nodes);

			must(nodes != NULL);
			h->nodes = nodes;
			h->capacity = capacity;
		}
		put(h, h->n++, node);
	}
	node->at_ms = at_ms;
	rise(h, node->place - 1);
	sink(h, node->place - 1);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
	if (node->place == 0)
		return;
	size_t i = node->place - 1;

	must(i < h->n && h->nodes[i] == node);
	node->place = 0;
	h->n--;
	if (i == h->n)
		return;
	struct heap_node *moved = h->nodes[h->n];

	put(h, i, moved);
	rise(h, i);
	sink(h, moved->place - 1);
}

struct heap_node *heap_first(const struct heap *h)
{
	return h->n == 0 ? NULL : h->nodes[0];
}

void heap_done(struct heap *h)
{
	free(h->nodes);
	*h = (struct heap){0};
}
