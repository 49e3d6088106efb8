/* node.c -- a node's daemon: what nodes/control does between log, actors, proposer and the wires, without its loop.
 *
 * Happy path: an event reaches the node; its turn follows the leader, runs the actors, sends the commands and hands proposals to the
 * log. A daemon that ends leaves its disk and its host's sandboxes behind; the next one starts from them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/consensus.h"
#include "core/must.h"
#include "judge/judge.h"
#include "raft/raft_io.h"
#include "raft/server.h"
#include "sim.h"

#define TICK_MS 250
#define JOIN_MS 10000
#define ABLE_MS 5000
#define NO_VM   "the fake has none"

/* -- Envelopes ---------------------------------------------------------------------------------------------------- */

static void deliver_now(struct sim *s, struct sim_event *e)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct sim_node *n = sim_node(s, e->node);
	struct envelope envelope;
	struct err err;

	if (codec_decode(e->bytes.p, e->bytes.n, &envelope_codec, &arena, &envelope, &err) < 0)
		sim_fail(s, "an envelope does not decode: %s", err.message);
	runtime_post(n->runtime, &envelope, sim_boot_ms(n));
}

void node_deliver(struct sim_node *n, const struct envelope *e)
{
	codec_encode(&sim_after_on(n, 0, deliver_now)->bytes, &envelope_codec, e);
}

void node_outcome(struct sim_node *n, uint64_t delay_ms, const struct address *to, uint64_t correlation,
		  uint16_t type, const void *body)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct envelope e = {.to = *to,
			     .from = {ADDRESS_CONTROL, n->id, 0},
			     .type = type,
			     .correlation = correlation,
			     .incarnation = 1};

	if (!n->up)
		return;
	codec_encode(&bytes, message_body_codec[type], body);
	e.body = buf_str(&bytes);
	codec_encode(&sim_after_on(n, delay_ms, deliver_now)->bytes, &envelope_codec, &e);
}

static void refuse(struct sim_node *n, const struct envelope *request, int code, const char *why)
{
	CLEANUP_BUF struct buf body = {0};
	struct envelope e = {.to = request->from,
			     .from = request->to,
			     .type = MSG_REFUSED,
			     .correlation = request->correlation,
			     .incarnation = request->incarnation};

	if (request->correlation == 0)
		return;
	codec_encode(&body, message_body_codec[MSG_REFUSED], &(struct msg_refused){code, str_of(why)});
	e.body = buf_str(&body);
	if (e.to.kind == ADDRESS_GATEWAY || e.to.kind == ADDRESS_API)
		node_send(n, &e);
	else
		node_deliver(n, &e);
}

static void send_to_node(struct sim_node *n, uint64_t to, const struct envelope *e)
{
	if (wire_is_open(n->sim, n->id, to))
		wire_envelope(n, to, e);
	else if (!leaderbox_takes(e->type))
		refuse(n, e, -EHOSTUNREACH, "that node cannot be reached");
}

static void send_to_leader(void *node, const struct envelope *e)
{
	struct sim_node *n = node;
	struct envelope mine = *e;

	if (n->leader == 0) {
		if (!leaderbox_takes(e->type))
			refuse(n, e, -EAGAIN, "the cluster has no leader at the moment");
		return;
	}
	if (n->leader != n->id) {
		send_to_node(n, n->leader, e);
		return;
	}
	mine.to.node = n->id;
	node_deliver(n, &mine);
}

static bool refused_again(struct sim_node *n, const struct envelope *e)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct msg_refused body;

	return codec_decode(e->body.p, e->body.n, message_body_codec[MSG_REFUSED], &arena, &body, NULL) ==
		       0 &&
	       body.code == -EAGAIN && leaderbox_refused(n->leaderbox, e);
}

void node_send(struct sim_node *n, const struct envelope *e)
{
	if (e->to.node == NODE_LEADER) {
		if (leaderbox_takes(e->type) && e->correlation != 0 && leaderbox_keep(n->leaderbox, e) < 0)
			refuse(n, e, -ENOBUFS, "too many requests wait for the leader");
		else
			send_to_leader(n, e);
		return;
	}
	if (e->to.node != n->id) {
		send_to_node(n, e->to.node, e);
		return;
	}
	if (e->correlation != 0 && e->type == MSG_REFUSED && refused_again(n, e))
		return;
	if (e->correlation != 0)
		leaderbox_answered(n->leaderbox, e);
	if (e->to.kind == ADDRESS_API || e->to.kind == ADDRESS_CONTROL || e->to.kind == ADDRESS_GATEWAY)
		sim_receive(n, e);
	else
		node_deliver(n, e);
}

static void on_late(void *node, const struct envelope *e)
{
	refuse(node, e, -ETIMEDOUT, "the leader did not answer in time");
}

/* -- Commands ----------------------------------------------------------------------------------------------------- */

static void joined(struct sim_node *n, int code, const struct result *result)
{
	n->joining = false;
	if (code != 0 || result == NULL)
		return;
	proposer_joined(n->proposer, result->id);
	runtime_joined(n->runtime, result->id, sim_boot_ms(n));
	sim_adopt(n->sim, n);
}

static void on_proposed(void *context, const struct address *to, uint64_t correlation, int code,
			const struct result *result)
{
	struct sim_node *n = context;
	struct msg_proposed body = {.code = code};

	if (to->kind == ADDRESS_CONTROL) {
		if (correlation == n->join && n->joining)
			joined(n, code, result);
		return;
	}
	if (correlation == 0)
		return;
	if (result != NULL)
		body = (struct msg_proposed){.code = code,
					     .message = result->message,
					     .index = result->index,
					     .id = result->id,
					     .session = result->session,
					     .created = result->created,
					     .operation = result->operation,
					     .waiting = result->waiting};
	node_outcome(n, 0, to, correlation, MSG_PROPOSED, &body);
}

static void on_written(void *node, int status, uint64_t index)
{
	(void)node;
	(void)status; /* the proposer sends again what was lost */
	(void)index;
}

static int on_propose(void *context, const void *entry, size_t size)
{
	struct sim_node *n = context;

	return n->consensus == NULL ? -EAGAIN : consensus_propose(n->consensus, entry, size, on_written, n);
}

static void init_cluster(struct sim_node *n)
{
	struct address to = {ADDRESS_CONTROL, n->id, 0};
	struct cmd_cluster_init init = {.id = STR("sim"),
					.settings = {.cooldown_ms_min = 1000,
						     .queue_ms = 10000,
						     .lease_ms = 15000,
						     .lost_ms = 20000,
						     .operation_kept_ms = 86400000,
						     .overcommit_cpu = 8,
						     .overcommit_memory = 1}};

	proposer_submit(n->proposer, COMMAND_CLUSTER_INIT, &init, &to, 0, sim_boot_ms(n) + JOIN_MS);
}

static void join(struct sim_node *n)
{
	struct address to = {ADDRESS_CONTROL, n->id, 0};
	char name[16], address[16];
	struct cmd_node_join body = {.id = n->id,
				     .voter = n->voter,
				     .cpu_milli = n->sim->options.cpu_milli != 0 ? n->sim->options.cpu_milli
										 : 64000,
				     .memory_bytes = 1ull << 40,
				     .isolations = n->able,
				     .no_vm = STR(NO_VM)};

	if (n->joining || n->leader == 0 || state_cluster(n->tables)->id.n == 0)
		return;
	snprintf(name, sizeof name, "node-%u", (unsigned)n->id);
	snprintf(address, sizeof address, "10.0.0.%u:1", (unsigned)n->id);
	body.name = str_of(name);
	body.raft_address = body.peer_address = body.api_address = str_of(address);
	n->joining = true;
	n->join = sim_boot_ms(n);
	proposer_submit(n->proposer, COMMAND_NODE_JOIN, &body, &to, n->join, sim_boot_ms(n) + JOIN_MS);
}

/* As nodes/control/links/able.c does it. */
static void tell_able(struct sim_node *n, const struct node_row *self)
{
	struct address nobody = {ADDRESS_CONTROL, n->id, 0};
	struct cmd_node_able body = {.isolations = n->able, .no_vm = STR(NO_VM)};
	uint64_t now = sim_boot_ms(n);

	if (self == NULL || proposer_epoch(n->proposer) == 0 || self->isolations == n->able ||
	    now < n->able_told_ms)
		return;
	n->able_told_ms = now + ABLE_MS;
	proposer_submit(n->proposer, COMMAND_NODE_ABLE, &body, &nobody, 0, now + ABLE_MS);
}

/* -- What the log tells --------------------------------------------------------------------------------------------- */

void node_applied(struct sim_node *n, const struct applied *applied)
{
	runtime_applied(n->runtime, applied, sim_boot_ms(n));
	proposer_applied(n->proposer, applied);
}

void node_restored(struct sim_node *n)
{
	runtime_rescan(n->runtime, sim_boot_ms(n));
}

void node_leading(struct sim_node *n, bool leads, uint64_t term)
{
	n->leads = leads;
	runtime_leading(n->runtime, leads, term, sim_boot_ms(n));
	proposer_leader(n->proposer, leads ? n->id : 0, leads);
	if (leads && state_cluster(n->tables)->id.n == 0)
		init_cluster(n);
}

static void follow_leader(struct sim_node *n)
{
	uint64_t leader = n->leads               ? n->id
			  : n->consensus != NULL ? consensus_leader(n->consensus, NULL)
						 : feed_leader(n);

	proposer_leader(n->proposer, leader, n->leads);
	if (!n->leads && leader == n->id)
		leader = 0; /* elected, but not yet sure of all that was committed */
	if (leader == n->leader)
		return;
	n->leader = leader;
	if (leader != 0)
		leaderbox_each(n->leaderbox, send_to_leader, n);
}

/* The sender may know of this node's election before its next turn does. */
void node_commands(struct sim_node *n, uint64_t from, const void *p, size_t size)
{
	struct err err = {0};

	follow_leader(n);
	if (proposer_forwarded(n->proposer, from, p, size, &err) < 0)
		sim_fail(n->sim, "commands of node %llu: %s", (unsigned long long)from, err.message);
}

/* -- Turns -------------------------------------------------------------------------------------------------------- */

static void tick(struct sim_node *n)
{
	const struct node_row *self = state_node(n->tables, n->id);
	uint64_t now = sim_boot_ms(n);

	heap_set(&n->sim->events, &n->tick, sim_at_boot(n, now + TICK_MS));
	leaderbox_expire(n->leaderbox, now, on_late, n);
	leaderbox_resend(n->leaderbox, now, send_to_leader, n);
	n->allowed = runtime_lease_ms(n->runtime) > now;
	tell_able(n, self);
	if (proposer_epoch(n->proposer) == 0 ||
	    (self != NULL && (self->epoch > proposer_epoch(n->proposer) ||
			      (self->epoch == proposer_epoch(n->proposer) && self->state == NODE_LOST))))
		join(n);
}

void node_fire(struct sim_node *n, struct heap_node *due)
{
	if (due == &n->raft_tick)
		sim_io_tick(n);
	else if (due == &n->tick)
		tick(n);
}

void node_turn(struct sim_node *n)
{
	uint64_t now = sim_boot_ms(n), next_ms, proposer_ms;

	if (!n->up)
		return;
	follow_leader(n);
	runtime_run(n->runtime, now);
	proposer_turn(n->proposer, now, sim_wall_ms(n));
	server_turn(n);
	next_ms = runtime_next_ms(n->runtime);
	proposer_ms = proposer_next_ms(n->proposer);
	if (next_ms != 0 && proposer_ms < next_ms)
		next_ms = proposer_ms;
	if (next_ms == UINT64_MAX)
		heap_remove(&n->sim->events, &n->wake);
	else if (next_ms == 0)
		heap_set(&n->sim->events, &n->wake, n->sim->now_ms);
	else
		heap_set(&n->sim->events, &n->wake, sim_at_boot(n, next_ms > now ? next_ms : now + 1));
}

/* -- A daemon's life ------------------------------------------------------------------------------------------------ */

static void on_effect(void *context, const struct effect *effect)
{
	struct sim_node *n = context;

	if (!n->up) /* actors end with their daemon, and tell nobody */
		return;
	switch ((enum effect_kind)effect->kind) {
	case EFFECT_SEND:
		node_send(n, effect->envelope);
		break;
	case EFFECT_PROPOSE:
		proposer_submit(n->proposer, effect->type, effect->body, &effect->from, effect->correlation,
				effect->deadline_ms);
		break;
	case EFFECT_DRIVE:
		sim_drive(n->sim, n, effect);
		break;
	case EFFECT_PROBE:
		sim_probe(n->sim, n, effect);
		break;
	case EFFECT_FETCH:
		sim_fetch(n->sim, n, effect);
		break;
	case EFFECT_YIELD:
		if (n->consensus != NULL)
			consensus_transfer(n->consensus, effect->node, NULL, NULL);
		break;
	case EFFECT_MEMBER: /* the voters are given */
	case EFFECT_KINDS:
		must(false);
	}
}

void node_boot(struct sim_node *n)
{
	must(!n->up);
	n->life++;
	n->up = true;
	n->leader = 0;
	n->leads = n->joining = n->allowed = false;
	n->asleep_until_ms = n->able_told_ms = 0;
	n->tables = state_new();
	n->leaderbox = leaderbox_new();
	n->proposer = proposer_new(&(struct proposer_options){.node = n->id,
							      .state = n->tables,
							      .done = on_proposed,
							      .propose = on_propose,
							      .forward = wire_commands,
							      .context = n});
	n->runtime = runtime_new(&(struct runtime_options){.node = n->id,
							   .incarnation = 1,
							   .n_gateway_loops = SIM_LOOPS,
							   .state = n->tables,
							   .classes = cast_classes,
							   .n_classes = CAST_CLASSES,
							   .effect = on_effect,
							   .context = n});
	must(n->tables != NULL && n->runtime != NULL);
	if (n->voter)
		server_start(n);
	else
		feed_start(n);
	runtime_rescan(n->runtime, sim_boot_ms(n));
	heap_set(&n->sim->events, &n->tick, n->sim->now_ms + 1);
	sim_adopt(n->sim, n);
}

void node_kill(struct sim_node *n)
{
	if (!n->up)
		return;
	n->up = false;
	n->life++; /* what was sent to it is lost */
	server_stop(n);
	n->asleep_until_ms = 0;
	n->leads = n->allowed = false;
	runtime_free(n->runtime);
	proposer_free(n->proposer);
	leaderbox_free(n->leaderbox);
	state_free(n->tables);
	n->runtime = NULL;
	n->proposer = NULL;
	n->leaderbox = NULL;
	n->tables = NULL;
	heap_remove(&n->sim->events, &n->wake);
	heap_remove(&n->sim->events, &n->raft_tick);
	heap_remove(&n->sim->events, &n->tick);
	n->n_accounts = 0;
	memset(n->routes, 0, sizeof n->routes);
}
