/* When sessions were last used. It is in no table: the gateway loops of a session's node count its requests.
 *
 * Happy path: a request of the API names sessions; each of their owners is asked once; an owner asks its gateway loops,
 * keeps the latest of what they say, answers when all have; the request is handled again with what came.
 * Failure modes: an owner or a loop that does not answer within a second is left out: then a session shows when it was opened.
 * Between nodes and loops go ages, since their clocks are not the same. */
#include <errno.h>
#include <stdlib.h>

#include "control/api/api.h"
#include "core/clock.h"
#include "core/must.h"

#define OWNER_MS    1000
#define LOOP_MS     500
#define GATHERS_MAX 256

/* -- The node that was asked by a client ------------------------------------------------------------------------- */

static void arrived(struct api_call *call)
{
	if (--call->owners_left == 0)
		api_serve(call);
}

/* One question for all sessions of this owner. */
static void ask_owner(struct api_call *call, uint64_t node)
{
	uint64_t generations[ACTIVITY_MAX];
	struct msg_activity body = {.generations = generations};

	for (uint32_t i = 0; i < call->outcome.n_asks && body.n_generations < ACTIVITY_MAX; i++) {
		if (call->outcome.asks[i].node == node)
			generations[body.n_generations++] = call->outcome.asks[i].generation;
	}
	api_send(call, (struct address){ADDRESS_CONTROL, node, 0}, MSG_ACTIVITY, &body);
}

void activity_ask(struct api_call *call)
{
	struct control *c = api_control(call->api);
	uint32_t n = 0;
	uint64_t nodes[PEERS_MAX];

	for (uint32_t i = 0; i < call->outcome.n_asks; i++) {
		uint64_t node = call->outcome.asks[i].node;
		bool known = state_node(c->state, node) == NULL;

		for (uint32_t k = 0; k < n && !known; k++)
			known = nodes[k] == node;
		if (!known && n < PEERS_MAX)
			nodes[n++] = node;
	}
	call->question.activity = call->outcome.asks;
	call->question.n_activity = call->outcome.n_asks;
	call->deadline_ms = clock_boot_ms() + OWNER_MS;
	call->owners_left = n + 1; /* one more than owners: a refusal may come at once, and end the call */
	for (uint32_t i = 0; i < n; i++)
		ask_owner(call, nodes[i]);
	arrived(call);
}

static void note_activity(struct api_call *call, uint64_t generation, uint64_t at_ms)
{
	for (uint32_t i = 0; i < call->outcome.n_asks; i++) {
		struct arm_activity *ask = &call->outcome.asks[i];

		if (ask->generation == generation && at_ms > ask->at_ms)
			ask->at_ms = at_ms;
	}
}

void activity_answered(struct api_call *call, uint16_t type, const void *body)
{
	const struct msg_active *active = body;
	uint64_t now = clock_wall_ms();

	for (uint32_t i = 0; type == MSG_ACTIVE && i < active->n_generations && i < active->n_ago_ms; i++)
		note_activity(call, active->generations[i],
			      now > active->ago_ms[i] ? now - active->ago_ms[i] : 0);
	arrived(call);
}

/* -- The owner ------------------------------------------------------------------------------------------------- */

struct gather {
	struct gather *next;
	struct address asker;
	uint64_t correlation; /* of the question */
	uint64_t key;         /* of the questions to the loops */
	uint64_t deadline_ms;
	uint32_t loops_left;
	uint32_t n;
	uint64_t generations[ACTIVITY_MAX], ago_ms[ACTIVITY_MAX]; /* UINT64_MAX: not known */
};

static void finish(struct control *c, struct gather *g)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct msg_active body = {.generations = g->generations, .ago_ms = g->ago_ms};
	struct envelope e;

	for (uint32_t i = 0; i < g->n; i++) {
		if (g->ago_ms[i] == UINT64_MAX)
			continue;
		g->generations[body.n_generations++] = g->generations[i];
		g->ago_ms[body.n_ago_ms++] = g->ago_ms[i];
	}
	e = control_message(c, &bytes, g->asker, MSG_ACTIVE, &body);
	e.correlation = g->correlation;
	for (struct gather **at = &c->gathers; *at != NULL; at = &(*at)->next) {
		if (*at == g) {
			*at = g->next;
			c->n_gathers--;
			break;
		}
	}
	free(g);
	control_send(c, &e);
}

static void ask_loops(struct control *c, struct gather *g, struct str body)
{
	struct envelope e = {.from = {ADDRESS_CONTROL, c->config.node_id, 0},
			     .type = MSG_ACTIVITY,
			     .correlation = g->key,
			     .incarnation = control_incarnation(c),
			     .body = body};

	for (unsigned loop = 0; loop < (unsigned)c->config.gateway_loops; loop++) {
		CLEANUP_BUF struct buf bytes = {0};

		e.to = (struct address){ADDRESS_GATEWAY, c->config.node_id, loop};
		codec_encode(&bytes, &envelope_codec, &e);
		if (gateway_post(c->gateway, loop, bytes.p, bytes.n) == 0)
			g->loops_left++;
	}
}

void activity_question(struct control *c, const struct envelope *question)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct msg_activity body;
	struct gather *g;

	if (codec_decode(question->body.p, question->body.n, message_body_codec[MSG_ACTIVITY], &arena, &body,
			 NULL) < 0)
		return;
	if (c->n_gathers >= GATHERS_MAX) {
		control_refuse(c, question, -ENOBUFS, "too many questions about the activity of sessions");
		return;
	}
	g = calloc(1, sizeof *g);
	must(g != NULL);
	g->asker = question->from;
	g->correlation = question->correlation;
	g->key = ++c->gather_key;
	g->deadline_ms = clock_boot_ms() + LOOP_MS;
	for (g->n = 0; g->n < body.n_generations; g->n++) {
		g->generations[g->n] = body.generations[g->n];
		g->ago_ms[g->n] = UINT64_MAX;
	}
	g->next = c->gathers;
	c->gathers = g;
	c->n_gathers++;
	ask_loops(c, g, question->body);
	if (g->loops_left == 0)
		finish(c, g);
}

void activity_gathered(struct control *c, const struct envelope *answer)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct msg_active body;
	struct gather *g = c->gathers;

	while (g != NULL && g->key != answer->correlation)
		g = g->next;
	if (g == NULL || answer->from.node != c->config.node_id ||
	    codec_decode(answer->body.p, answer->body.n, message_body_codec[MSG_ACTIVE], &arena, &body,
			 NULL) < 0)
		return;
	/* In the order of the question, some left out. */
	for (uint32_t i = 0, k = 0; i < body.n_generations && i < body.n_ago_ms; i++) {
		while (k < g->n && g->generations[k] != body.generations[i])
			k++;
		if (k < g->n && body.ago_ms[i] < g->ago_ms[k])
			g->ago_ms[k] = body.ago_ms[i];
	}
	if (--g->loops_left == 0)
		finish(c, g);
}

void activity_tick(struct control *c, uint64_t now)
{
	for (struct gather *g = c->gathers, *next; g != NULL; g = next) {
		next = g->next;
		if (now >= g->deadline_ms)
			finish(c, g);
	}
}
