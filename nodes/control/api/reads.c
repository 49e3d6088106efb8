/* Reads that show all that was acknowledged before they came, on whichever node they came.
 *
 * Happy path: a request asks the leader, which puts the question behind a barrier of the log (all that wait share one: a leader that
 * was deposed without knowing it cannot pass it) and answers with the index of its tables then; once this node's go as far, the
 * request is served from them. On the leader itself the way is the same, without the message.
 * Failure modes: no leader, another leader, a lost answer: asked again, until READ_MS are over; then 503, because without a majority
 * nobody can tell whether these tables are the latest. */
#include <errno.h>
#include <stdlib.h>

#include "control/api/api.h"
#include "control/replica.h"
#include "core/clock.h"
#include "core/must.h"

#define READ_MS  5000
#define AGAIN_MS 200

/* A question whose barrier is under way. */
struct question {
	struct control *control;
	struct address asker;
	uint64_t correlation;
};

/* -- The leader's side --------------------------------------------------------------------------------------------- */

static void barrier_passed(void *arg, int status, uint64_t index)
{
	struct question *q = arg;
	struct control *c = q->control;
	CLEANUP_BUF struct buf body = {0};
	struct msg_indexed indexed = {
		replica_applied(c)}; /* barriers are in no table, and not fed to workers */
	struct envelope e = control_message(c, &body, q->asker, MSG_INDEXED, &indexed);

	(void)index;
	e.from = (struct address){ADDRESS_CONTROL, c->config.node_id, 0};
	e.correlation = q->correlation;
	if (status == 0)
		control_send(c, &e);
	else
		control_refuse(
			c, &(struct envelope){.to = e.from, .from = q->asker, .correlation = q->correlation},
			-EAGAIN, "this node leads no more");
	free(q);
}

void reads_question(struct control *c, const struct envelope *question)
{
	struct question *q = malloc(sizeof *q);

	must(q != NULL);
	*q = (struct question){c, question->from, question->correlation};
	if (c->leads && consensus_barrier(c->consensus, barrier_passed, q) == 0)
		return;
	free(q);
	control_refuse(c, question, -EAGAIN, "this node does not lead");
}

/* -- The asker's side ---------------------------------------------------------------------------------------------- */

static void ask(struct api_call *call)
{
	struct control *c = api_control(call->api);
	uint64_t self = c->config.node_id;

	call->asked_ms = clock_boot_ms();
	if (c->leads)
		reads_question(c, &(struct envelope){.to = {ADDRESS_CONTROL, self, 0},
						     .from = {ADDRESS_API, self, call->request->id},
						     .correlation = call->asks});
	else if (c->leader != 0)
		api_send(call, (struct address){ADDRESS_CONTROL, NODE_LEADER, 0}, MSG_INDEX, NULL);
}

void reads_begin(struct api_call *call)
{
	call->reads = true;
	call->asks++;
	call->index = 0;
	call->deadline_ms = clock_boot_ms() + READ_MS;
	ask(call);
}

void reads_answered(struct api_call *call, const struct msg_indexed *answer)
{
	if (answer == NULL)
		return; /* refused: asked again in time, or as soon as another node leads */
	call->index = answer->index;
	reads_turn(call, clock_boot_ms());
}

void reads_leader(struct api_call *call)
{
	if (call->reads && call->index == 0)
		ask(call);
}

void reads_turn(struct api_call *call, uint64_t now)
{
	struct arm_reply reply = {0};

	if (call->index != 0 && replica_applied(api_control(call->api)) >= call->index) {
		call->reads = false;
		call->asks++; /* the leader may have been asked twice */
		api_serve(call);
	} else if (now >= call->deadline_ms) {
		arm_reply_error(&reply, 503, "ServiceUnavailable",
				"No majority of the cluster could be reached within %d s, so this node "
				"cannot tell what is "
				"current. Try again, or ask another node.",
				READ_MS / 1000);
		arm_reply_header(&reply, "retry-after", STR("1"));
		api_finish(call, &reply);
	} else if (call->index == 0 && now - call->asked_ms >= AGAIN_MS) {
		ask(call);
	}
}
