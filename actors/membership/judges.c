#include "judges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROPOSE_MS 5000

void judges_take(struct judges *j, struct context *c, const struct message *m)
{
	const struct msg_orphans *body = m->body;

	if (body->node != m->envelope->from.node) {
		context_reply(
			c, m, MSG_REFUSED,
			&(struct msg_refused){-EPERM, STR("it asks about the sandboxes of another node")});
		return;
	}
	for (uint32_t i = 0; i < JUDGES_MAX; i++) {
		if (j->cases[i].request != 0)
			continue;
		j->cases[i].ids = calloc(body->n_sandboxes + 1u, sizeof *j->cases[i].ids);
		if (j->cases[i].ids == NULL)
			break;
		if (body->n_sandboxes > 0)
			memcpy(j->cases[i].ids, body->sandboxes, body->n_sandboxes * sizeof *body->sandboxes);
		j->cases[i].n_ids = body->n_sandboxes;
		j->cases[i].node = body->node;
		j->cases[i].asker = context_asker(m);
		/* Any command will do; this one changes nothing that is not due anyway. */
		j->cases[i].request = context_propose(c, COMMAND_WAITERS_EXPIRE, NULL, PROPOSE_MS);
		return;
	}
	context_reply(c, m, MSG_REFUSED, &(struct msg_refused){-ENOBUFS, STR("too many nodes ask at once")});
}

bool judges_proposed(struct judges *j, struct context *c, uint64_t request, int32_t code)
{
	for (uint32_t i = 0; i < JUDGES_MAX; i++) {
		struct msg_orphans body = {.node = j->cases[i].node, .sandboxes = j->cases[i].ids};

		if (request == 0 || j->cases[i].request != request)
			continue;
		for (uint32_t k = 0; k < j->cases[i].n_ids; k++) {
			const struct sandbox_row *row = state_sandbox(c->state, j->cases[i].ids[k]);

			if (row == NULL || (row->node != body.node && row->target != body.node))
				body.sandboxes[body.n_sandboxes++] = j->cases[i].ids[k];
		}
		if (code == 0)
			context_answer(c, &j->cases[i].asker, MSG_JUDGED, &body);
		else
			context_refuse(c, &j->cases[i].asker, -EAGAIN, "the barrier did not commit");
		free(j->cases[i].ids);
		j->cases[i].ids = NULL;
		j->cases[i].request = 0;
		return true;
	}
	return false;
}

void judges_clear(struct judges *j, struct context *c)
{
	for (uint32_t i = 0; i < JUDGES_MAX; i++) {
		context_refuse(c, &j->cases[i].asker, -EAGAIN, "this node leads no more");
		free(j->cases[i].ids);
		j->cases[i].ids = NULL;
		j->cases[i].request = 0;
	}
}
