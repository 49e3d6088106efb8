/* repeats.c -- a command that is applied twice is executed once: its result is that of the first time, for ever, or that it is too old. */
#include <errno.h>
#include <stdlib.h>

#include "core/must.h"
#include "sim/judge/judge.h"
#include "state/command.h"

#define SEQUENCES_MAX 16384

/* Of a node's present epoch: the index of the entry that each command was executed in. */
struct executed {
	uint64_t epoch;
	uint64_t index[SEQUENCES_MAX];
};

struct repeats {
	struct executed *nodes[SIM_NODES_MAX + 1];
};

struct repeats *repeats_new(void)
{
	struct repeats *r = calloc(1, sizeof *r);

	must(r != NULL);
	return r;
}

void repeats_free(struct repeats *r)
{
	for (uint32_t i = 0; i <= SIM_NODES_MAX; i++)
		free(r->nodes[i]);
	free(r);
}

static struct executed *executed_of(struct repeats *r, const struct command *c)
{
	struct executed *e = r->nodes[c->node];

	if (e == NULL || e->epoch < c->epoch) {
		free(e);
		e = r->nodes[c->node] = calloc(1, sizeof *e);
		must(e != NULL);
		e->epoch = c->epoch;
	}
	return e->epoch == c->epoch ? e : NULL;
}

void repeats_check(struct repeats *r, struct sim *s, const struct applied *applied)
{
	for (uint32_t i = 0; i < applied->n_results; i++) {
		const struct command *c = &applied->commands[i];
		const struct result *result = &applied->results[i];
		struct executed *e;

		if (c->epoch == 0 || c->node > SIM_NODES_MAX || c->sequence >= SEQUENCES_MAX ||
		    result->code == -ESTALE ||
		    result->code == -EPERM) /* refused for who asks, before it is looked for */
			continue;
		e = executed_of(r, c);
		if (e != NULL && e->index[c->sequence] != 0 && e->index[c->sequence] != result->index)
			sim_fail(s,
				 "(5) command %llu of node %llu, %s, was executed at %llu and again at %llu",
				 (unsigned long long)c->sequence, (unsigned long long)c->node,
				 command_type_name[c->type], (unsigned long long)e->index[c->sequence],
				 (unsigned long long)result->index);
		if (e == NULL)
			sim_fail(s, "(5) a command of an earlier epoch of node %llu was executed",
				 (unsigned long long)c->node);
		else
			e->index[c->sequence] = result->index;
	}
}
