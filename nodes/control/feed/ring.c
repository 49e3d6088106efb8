#include "control/feed/ring.h"

#include <stdlib.h>
#include <string.h>

#include "core/must.h"

struct kept {
	uint64_t index;
	struct str entry;
};

struct ring {
	uint64_t bytes_max, bytes;
	uint64_t before;   /* all entries behind this index are held */
	uint32_t first, n; /* in `kept`, which is a circle */
	struct kept kept[RING_ENTRIES_MAX];
};

struct ring *ring_new(uint64_t bytes_max)
{
	struct ring *r = calloc(1, sizeof *r);

	must(r != NULL);
	r->bytes_max = bytes_max;
	r->before = UINT64_MAX;
	return r;
}

static struct kept *at(const struct ring *r, uint32_t i)
{
	return (struct kept *)(uintptr_t)&r->kept[(r->first + i) % RING_ENTRIES_MAX];
}

static void drop_oldest(struct ring *r)
{
	struct kept *k = at(r, 0);

	r->before = k->index;
	r->bytes -= k->entry.n;
	free((void *)(uintptr_t)k->entry.p);
	r->first = (r->first + 1) % RING_ENTRIES_MAX;
	r->n--;
}

void ring_begin(struct ring *r, uint64_t index)
{
	while (r->n > 0)
		drop_oldest(r);
	r->before = index;
}

void ring_free(struct ring *r)
{
	ring_begin(r, 0);
	free(r);
}

void ring_add(struct ring *r, uint64_t index, const void *entry, size_t n)
{
	char *copy = malloc(n > 0 ? n : 1);

	must(copy != NULL && index > r->before && (r->n == 0 || index > at(r, r->n - 1)->index));
	memcpy(copy, entry, n);
	while (r->n > 0 && (r->n == RING_ENTRIES_MAX || r->bytes + n > r->bytes_max))
		drop_oldest(r);
	*at(r, r->n++) = (struct kept){index, {copy, n}};
	r->bytes += n;
}

bool ring_reaches(const struct ring *r, uint64_t index)
{
	return index >= r->before;
}

bool ring_next(const struct ring *r, uint64_t index, uint64_t *ret_index, struct str *ret_entry)
{
	uint32_t low = 0, high = r->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (at(r, middle)->index > index)
			high = middle;
		else
			low = middle + 1;
	}
	if (low == r->n)
		return false;
	*ret_index = at(r, low)->index;
	*ret_entry = at(r, low)->entry;
	return true;
}

uint64_t ring_bytes(const struct ring *r)
{
	return r->bytes;
}
