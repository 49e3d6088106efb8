/* history.c -- what clients and owners saw of each identifier, for linear.h. */
#include <stdio.h>
#include <stdlib.h>

#include "core/must.h"
#include "sim/judge/judge.h"

#define OPS_MAX 65536

struct seen {
	uint64_t pool;
	uint32_t identifier;
	struct linear_op op;
};

struct history {
	struct seen all[OPS_MAX];
	uint32_t n;
};

struct history *history_new(void)
{
	struct history *h = calloc(1, sizeof *h);

	must(h != NULL);
	return h;
}

void history_free(struct history *h)
{
	free(h);
}

void history_add(struct sim *s, uint64_t pool, uint32_t identifier, enum linear_kind kind,
		 uint64_t generation, uint64_t begin_ms, uint64_t end_ms)
{
	struct history *h = judge_history(s);

	if (h->n < OPS_MAX)
		h->all[h->n++] =
			(struct seen){pool, identifier, {begin_ms, end_ms, generation, (uint8_t)kind}};
}

static int by_object(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	return x->pool != y->pool               ? (x->pool < y->pool ? -1 : 1)
	       : x->identifier != y->identifier ? (x->identifier < y->identifier ? -1 : 1)
						: 0;
}

static void print(const struct linear_op *ops, uint32_t n, uint32_t bad)
{
	for (uint32_t i = bad > 12 ? bad - 12 : 0; i < n && i < bad + 8; i++)
		fprintf(stderr, "%s %llu-%llu ms: %s %llu\n", i == bad ? "  -->" : "     ",
			(unsigned long long)ops[i].begin_ms, (unsigned long long)ops[i].end_ms,
			linear_kind_name[ops[i].kind], (unsigned long long)ops[i].generation);
}

void history_check(struct sim *s)
{
	struct history *h = judge_history(s);
	static struct linear_op ops[LINEAR_MAX];
	uint32_t bad = 0;

	qsort(h->all, h->n, sizeof *h->all, by_object);
	for (uint32_t first = 0, end; first < h->n; first = end) {
		uint32_t n = 0;

		for (end = first; end < h->n && by_object(&h->all[first], &h->all[end]) == 0; end++) {
			must(n < LINEAR_MAX);
			ops[n++] = h->all[end].op;
		}
		if (linear_check(ops, n, &bad))
			continue;
		print(ops, n, bad);
		sim_fail(s, "(5) no order explains what was seen of user-%u in pool %llu",
			 h->all[first].identifier, (unsigned long long)h->all[first].pool);
	}
}
