/* How the cluster is: what the tables say, and of each node how far its tables are and what its clock shows.
 *
 * Happy path: all nodes are asked at once; what they answered is put beside the tables' own, with what a loss of voters would mean.
 * Failure modes: a node that does not answer within ANSWER_MS counts as down, whatever the tables say of it: they notice a loss
 * late, and without a majority never. Thread: the control loop. */
#include <inttypes.h>
#include <stdio.h>

#include "control/api/api.h"
#include "control/replica.h"
#include "core/clock.h"
#include "core/must.h"
#include "json/build.h"

#define ANSWER_MS 1000

struct asked {
	uint64_t node, sent_ms;
	bool done, answered;
	uint64_t index;
	int64_t skew_ms; /* its clock beyond ours; the way there and back taken as equally long */
};

struct status {
	struct asked nodes[PEERS_MAX + 1];
	uint32_t n, left;
};

static struct asked *find(struct status *s, uint64_t node)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->nodes[i].node == node)
			return &s->nodes[i];
	}
	return NULL;
}

/* -- The answer ------------------------------------------------------------------------------------------------- */

static void put_quorum(const struct control *c, struct status *s, json_t *body)
{
	json_t *to = json_put_object(body, "quorum");
	uint32_t voters = 0, up = 0, needed;
	char text[160];

	for (const struct node_row *row = NULL; (row = state_next_node(c->state, row)) != NULL;) {
		const struct asked *a = find(s, row->id);

		if (row->member != MEMBER_VOTER)
			continue;
		voters++;
		up += a != NULL && a->answered;
	}
	needed = voters / 2 + 1;
	if (up < needed)
		snprintf(text, sizeof text,
			 "%" PRIu32 " of %" PRIu32 " voters up: writes are stopped, %" PRIu32 " are needed",
			 up, voters, needed);
	else if (up == needed)
		snprintf(text, sizeof text,
			 "%" PRIu32 " of %" PRIu32 " voters up: one more loss stops writes", up, voters);
	else
		snprintf(text, sizeof text, "%" PRIu32 " of %" PRIu32 " voters up: %" PRIu32 " may be lost",
			 up, voters, up - needed);
	json_put_u64(to, "voters", voters);
	json_put_u64(to, "up", up);
	json_put_u64(to, "needed", needed);
	json_put_i64(to, "margin", (int64_t)up - (int64_t)needed);
	json_put_cstr(to, "text", text);
}

/* As the leader knows the end of its log, or whoever is farthest. */
static uint64_t newest(const struct control *c, struct status *s)
{
	const struct asked *leader = find(s, c->leader);
	uint64_t most = leader != NULL && leader->answered ? leader->index : 0;

	for (uint32_t i = 0; i < s->n && most == 0; i++)
		most = s->nodes[i].answered && s->nodes[i].index > most ? s->nodes[i].index : most;
	return most;
}

static void put_answers(const struct control *c, struct status *s, const json_t *nodes)
{
	uint64_t most = newest(c, s);
	json_t *to;
	size_t i;

	json_array_foreach(nodes, i, to)
	{
		const struct asked *a = find(s, (uint64_t)json_integer_value(json_object_get(to, "id")));

		json_put_bool(to, "answered", a != NULL && a->answered);
		if (a == NULL || !a->answered)
			continue;
		json_put_u64(to, "index", a->index);
		json_put_u64(to, "lag", most > a->index ? most - a->index : 0);
		json_put_i64(to, "clockSkewMs", a->skew_ms);
	}
}

static void finish(struct api_call *call)
{
	struct control *c = api_control(call->api);
	struct arm_reply reply = {0};
	CLEANUP_BUF struct buf text = {0};
	json_t *body = NULL;

	must(json_parse(call->outcome.status,
			&(struct json_bounds){.bytes_max = call->outcome.status.n, .values_max = 1000000},
			&body, NULL) == 0);
	put_quorum(c, call->status, body);
	put_answers(c, call->status, json_object_get(body, "nodes"));
	json_print(&text, body, false);
	json_decref(body);
	call->status = NULL;
	arm_reply_text(&reply, 200, "application/json; charset=utf-8", buf_str(&text));
	api_finish(call, &reply);
}

/* -- Questions -------------------------------------------------------------------------------------------------- */

void status_run(struct api_call *call)
{
	struct control *c = api_control(call->api);
	struct status *s = arena_alloc(&call->arena, sizeof *s);

	must(s != NULL);
	*s = (struct status){.left = 1}; /* one more than nodes: an answer may come at once */
	for (const struct node_row *row = NULL;
	     (row = state_next_node(c->state, row)) != NULL && s->n < PEERS_MAX + 1;)
		s->nodes[s->n++] = (struct asked){.node = row->id};
	s->left += s->n;
	call->status = s;
	call->deadline_ms = clock_boot_ms() + ANSWER_MS;
	for (uint32_t i = 0; i < s->n; i++) {
		s->nodes[i].sent_ms = clock_wall_ms();
		api_send(call, (struct address){ADDRESS_CONTROL, s->nodes[i].node, 0}, MSG_PULSE, NULL);
	}
	if (--s->left == 0)
		finish(call);
}

void status_answered(struct api_call *call, uint64_t node, const struct msg_pulsed *answer)
{
	struct asked *a = find(call->status, node);
	uint64_t now = clock_wall_ms();

	if (a == NULL || a->done)
		return;
	a->done = true;
	if (answer != NULL) {
		a->answered = true;
		a->index = answer->index;
		a->skew_ms = (int64_t)answer->wall_ms - (int64_t)(a->sent_ms + (now - a->sent_ms) / 2);
	}
	if (--call->status->left == 0)
		finish(call);
}

void status_turn(struct api_call *call, uint64_t now)
{
	if (now >= call->deadline_ms)
		finish(call);
}

void status_question(struct control *c, const struct envelope *question)
{
	CLEANUP_BUF struct buf body = {0};
	struct msg_pulsed pulsed = {.index = replica_applied(c), .wall_ms = clock_wall_ms()};
	struct envelope e = control_message(c, &body, question->from, MSG_PULSED, &pulsed);

	e.from = question->to;
	e.correlation = question->correlation;
	control_send(c, &e);
}
