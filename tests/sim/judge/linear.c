/* linear.c -- see linear.h. */
#include "sim/judge/linear.h"

#include <stdlib.h>
#include <string.h>

#include "core/must.h"

#define WORDS (LINEAR_MAX / 64)

const char *const linear_kind_name[LINEAR_KINDS] = {
	[LINEAR_OPENED] = "opened",       [LINEAR_SERVED] = "served", [LINEAR_STOPPED] = "stopped",
	[LINEAR_NONE] = "has no session", [LINEAR_CLOSED] = "closed",
};

#define UNNAMED UINT64_MAX /* a session that nobody was told of yet; a later operation names it */

/* The identifier: its session, and the newest that it ever had. */
struct object {
	uint64_t live, newest; /* live 0: none */
};

struct search {
	const struct linear_op *ops;
	uint32_t n, n_done, deepest, bad;
	uint64_t done[WORDS], hash; /* hash: of `done` */
	uint64_t *seen;             /* hashes of (done, object) that lead nowhere */
	size_t n_seen, capacity;
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static int by_begin(const void *a, const void *b)
{
	const struct linear_op *x = a, *y = b;

	return x->begin_ms != y->begin_ms ? (x->begin_ms < y->begin_ms ? -1 : 1)
	       : x->end_ms != y->end_ms   ? (x->end_ms < y->end_ms ? -1 : 1)
					  : 0;
}

/* False: it cannot happen now. */
static bool happen(struct object *o, const struct linear_op *op)
{
	bool fresh = op->generation > o->newest;

	switch ((enum linear_kind)op->kind) {
	case LINEAR_OPENED:
	case LINEAR_SERVED:
		if (o->live == op->generation)
			return true;
		if ((o->live != 0 && o->live != UNNAMED) || !fresh)
			return false;
		o->live = o->newest = op->generation;
		return true;
	case LINEAR_STOPPED:
		if (o->live == 0)
			o->live = UNNAMED;
		return true;
	case LINEAR_NONE:
		return o->live == 0;
	case LINEAR_CLOSED:
		/* One that nobody was ever told of was made unseen. */
		if (o->live != op->generation && ((o->live != 0 && o->live != UNNAMED) || !fresh))
			return false;
		o->newest = op->generation;
		o->live = 0;
		return true;
	case LINEAR_KINDS:
		break;
	}
	return false;
}

static bool was_seen(struct search *s, uint64_t key)
{
	size_t at;

	if (s->n_seen * 2 >= s->capacity) {
		size_t capacity = s->capacity == 0 ? 1024 : s->capacity * 2;
		uint64_t *seen = calloc(capacity, sizeof *seen);

		must(seen != NULL);
		for (size_t i = 0; i < s->capacity; i++) {
			if (s->seen[i] == 0)
				continue;
			for (at = s->seen[i] % capacity; seen[at] != 0;)
				at = (at + 1) % capacity;
			seen[at] = s->seen[i];
		}
		free(s->seen);
		s->seen = seen;
		s->capacity = capacity;
	}
	key = key == 0 ? 1 : key;
	for (at = key % s->capacity; s->seen[at] != 0; at = (at + 1) % s->capacity) {
		if (s->seen[at] == key)
			return true;
	}
	s->seen[at] = key;
	s->n_seen++;
	return false;
}

static bool is_done(const struct search *s, uint32_t i)
{
	return (s->done[i / 64] >> i % 64 & 1) != 0;
}

static void flip(struct search *s, uint32_t i)
{
	s->done[i / 64] ^= 1ull << i % 64;
	s->hash ^= mix(i + 1);
}

/* The end of the first that ends of those that are left: what begins behind it may not come next. */
static uint64_t horizon(const struct search *s, uint32_t from)
{
	uint64_t first_end = UINT64_MAX;

	for (uint32_t i = from; i < s->n && s->ops[i].begin_ms <= first_end; i++) {
		if (!is_done(s, i) && s->ops[i].end_ms < first_end)
			first_end = s->ops[i].end_ms;
	}
	return first_end;
}

static bool go_on(struct search *s, struct object o, uint32_t from);

static bool try_one(struct search *s, struct object o, uint32_t from, uint32_t i)
{
	flip(s, i);
	s->n_done++;
	if (go_on(s, o, from))
		return true;
	flip(s, i);
	s->n_done--;
	return false;
}

/* Tries each operation that may come next. What changes nothing may come at once: no order needs it later. */
static bool go_on(struct search *s, struct object o, uint32_t from)
{
	uint64_t end;

	while (from < s->n && is_done(s, from))
		from++;
	if (from == s->n)
		return o.live != UNNAMED;
	if (was_seen(s, s->hash ^ mix(o.live * 2 + 1) ^ mix(~o.newest)))
		return false;
	if (s->n_done >= s->deepest) {
		s->deepest = s->n_done;
		s->bad = from;
	}
	end = horizon(s, from);
	for (int change = 0; change < 2; change++) {
		for (uint32_t i = from; i < s->n && s->ops[i].begin_ms <= end; i++) {
			struct object next = o;

			if (is_done(s, i) || !happen(&next, &s->ops[i]))
				continue;
			if (next.live == o.live && next.newest == o.newest)
				return try_one(s, next, from, i);
			if (change == 1 && try_one(s, next, from, i))
				return true;
		}
	}
	return false;
}

bool linear_check(struct linear_op *ops, uint32_t n, uint32_t *ret_bad)
{
	struct search *s = calloc(1, sizeof *s);
	bool right;

	must(s != NULL && n <= LINEAR_MAX);
	if (n > 1)
		qsort(ops, n, sizeof *ops, by_begin);
	s->ops = ops;
	s->n = n;
	right = go_on(s, (struct object){0}, 0);
	if (!right)
		*ret_bad = s->bad;
	free(s->seen);
	free(s);
	return right;
}
