/* Messages on their way, and the turn that handles them: inbox, actors, proposals, answers.
 * Failure modes: what cannot be delivered is answered with MSG_REFUSED; requests to the leader that may be executed twice
 * wait in the leaderbox for the next one. */
#include "control/control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "control/api/api.h"
#include "control/api/relay.h"
#include "control/keys/unsealing.h"
#include "control/keys/certificates.h"
#include "control/keys/rotation.h"
#include "control/moving/copies.h"
#include "control/links/able.h"
#include "control/links/border.h"
#include "control/links/inlet.h"
#include "control/replica.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/must.h"

#define YIELD_MS     30000
#define TICK_MS      250
#define RESEND_MS    20 /* one that was just elected needs that long to know all that was committed */
#define COMPLAINT_MS 1000

/* -- Envelopes ---------------------------------------------------------------------------------------------- */

uint64_t control_incarnation(const struct control *c)
{
	return c->incarnation;
}

bool control_caught_up(const struct control *c)
{
	return proposer_epoch(c->proposer) != 0;
}

void control_kick(struct control *c)
{
	loop_defer(&c->loop, &c->turn);
}

struct envelope control_message(const struct control *c, struct buf *bytes, struct address to, uint16_t type,
				const void *body)
{
	if (body != NULL)
		codec_encode(bytes, message_body_codec[type], body);
	return (struct envelope){.to = to,
				 .from = {ADDRESS_CONTROL, c->config.node_id, 0},
				 .type = type,
				 .incarnation = control_incarnation(c),
				 .body = buf_str(bytes)};
}

void control_deliver(struct control *c, const struct envelope *e)
{
	struct inbox_item *item = calloc(1, sizeof *item);

	must(item != NULL);
	codec_encode(&item->bytes, &envelope_codec, e);
	*c->inbox_last = item;
	c->inbox_last = &item->next;
	control_kick(c);
}

void control_refuse(struct control *c, const struct envelope *request, int code, const char *why)
{
	CLEANUP_BUF struct buf body = {0};
	struct msg_refused refused = {.code = code, .message = str_of(why)};
	struct envelope e;

	if (request->correlation == 0)
		return;
	e = control_message(c, &body, request->from, MSG_REFUSED, &refused);
	e.from = request->to;
	e.correlation = request->correlation;
	e.incarnation = request->incarnation;
	if (e.to.node == c->config.node_id &&
	    (e.to.kind == ADDRESS_GATEWAY || e.to.kind == ADDRESS_API || e.to.kind == ADDRESS_CONTROL))
		control_send(c, &e);
	else
		control_deliver(c, &e);
}

static void send_to_node(struct control *c, uint64_t node, const struct envelope *e)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct envelope wire = *e;
	uint64_t now = clock_boot_ms();

	if (e->deadline_ms != 0)
		wire.deadline_ms = e->deadline_ms > now ? e->deadline_ms - now : 1;
	codec_encode(&bytes, &envelope_codec, &wire);
	if (peers_send(c->peers, node, PEER_ENVELOPE, bytes.p, bytes.n) < 0 && !leaderbox_takes(e->type))
		control_refuse(c, e, -EHOSTUNREACH, "that node cannot be reached");
}

static void send_to_leader(void *control, const struct envelope *e)
{
	struct control *c = control;

	if (c->leader == 0) {
		if (!leaderbox_takes(e->type))
			control_refuse(c, e, -EAGAIN, "the cluster has no leader at the moment");
		return;
	}
	if (c->leader != c->config.node_id) {
		send_to_node(c, c->leader, e);
		return;
	}
	struct envelope mine = *e;

	mine.to.node = c->config.node_id;
	control_deliver(c, &mine);
}

/* "I do not lead" is no answer while another may lead soon. */
static bool refused_again(struct control *c, const struct envelope *e)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct msg_refused body;

	if (codec_decode(e->body.p, e->body.n, message_body_codec[MSG_REFUSED], &arena, &body, NULL) < 0 ||
	    body.code != -EAGAIN || !leaderbox_refused(c->leaderbox, e))
		return false;
	if (c->resend_ms == 0)
		c->resend_ms = clock_boot_ms() + RESEND_MS;
	control_kick(c);
	return true;
}

static void send_refused(struct control *c, uint64_t now)
{
	if (c->resend_ms == 0 || now < c->resend_ms)
		return;
	c->resend_ms = 0;
	leaderbox_resend(c->leaderbox, now, send_to_leader, c);
}

void control_send(struct control *c, const struct envelope *e)
{
	CLEANUP_BUF struct buf bytes = {0};

	if (e->to.node == NODE_LEADER) {
		if (leaderbox_takes(e->type) && e->correlation != 0 && leaderbox_keep(c->leaderbox, e) < 0)
			control_refuse(c, e, -ENOBUFS, "too many requests wait for the leader");
		else
			send_to_leader(c, e);
		return;
	}
	if (e->to.node != c->config.node_id) {
		send_to_node(c, e->to.node, e);
		return;
	}
	if (e->correlation != 0 && e->type == MSG_REFUSED && refused_again(c, e))
		return;
	if (e->correlation != 0)
		leaderbox_answered(c->leaderbox, e);
	if (e->to.kind == ADDRESS_API) {
		api_answered(c->api, e);
	} else if (e->to.kind == ADDRESS_CONTROL) {
		if (e->type == MSG_LOG)
			tasks_log(c, e);
		else if (e->type == MSG_HOLDINGS)
			node_question(c, e);
		else if (e->type == MSG_PULSE)
			status_question(c, e);
		else if (e->type == MSG_CERTIFY)
			certificates_question(c, e);
		else if (e->type == MSG_CERTIFIED)
			certificates_answered(c, e);
		else if (e->type == MSG_INDEX)
			reads_question(c, e);
		else if (e->type == MSG_ACTIVITY)
			activity_question(c, e);
		else if (e->type == MSG_ACTIVE)
			activity_gathered(c, e);
		else if (e->type == MSG_RELAY)
			relay_question(c, e);
		else if (e->type == MSG_UNSEAL)
			unsealing_question(c, e);
		else if (e->type == MSG_COPY)
			copies_question(c, e);
		else if ((e->type == MSG_COPIED || e->type == MSG_REFUSED) && copies_answered(c, e))
			return;
		else if (e->type == MSG_UNSEALED || e->type == MSG_REFUSED)
			unsealing_answered(c, e);
	} else if (e->to.kind == ADDRESS_GATEWAY) {
		codec_encode(&bytes, &envelope_codec, e);
		gateway_post(c->gateway, (unsigned)e->to.key, bytes.p, bytes.n);
	} else {
		control_deliver(c, e);
	}
}

static void follow_leader(struct control *c)
{
	uint64_t leader = c->leads ? c->config.node_id : replica_leader(c);

	proposer_leader(c->proposer, leader, c->leads);
	if (!c->leads && leader == c->config.node_id)
		leader = 0; /* elected, but not yet sure of all that was committed */
	if (leader == c->leader)
		return;
	c->leader = leader;
	api_leader(c->api, leader, replica_term(c));
	if (leader != 0)
		leaderbox_each(c->leaderbox, send_to_leader, c);
}

void control_complain(struct control *c, uint64_t node, const char *what)
{
	uint64_t now = clock_boot_ms();

	if (c->complained_ms != 0 && now - c->complained_ms < COMPLAINT_MS)
		return;
	c->complained_ms = now;
	log_warn("node %" PRIu64 " was refused: %s", node, what);
}

void control_frame(void *context, const struct peer_from *sender, uint8_t type, const void *p, size_t n)
{
	struct control *c = context;
	CLEANUP_ARENA struct arena arena = {0};
	uint64_t from = sender->node;
	struct envelope e;
	struct err err = {0};

	if (!border_lets_frame(sender->voter, type)) {
		control_complain(c, from, "a frame of a kind that only voters send");
		return;
	}
	if (type == PEER_REMOVED) {
		roster_told(c, from);
		return;
	}
	if (type == PEER_FEED || type == PEER_FEED_ASK) {
		replica_frame(c, from, type, p, n);
		return;
	}
	if (type == PEER_REFUSED) {
		if (from == c->leader && proposer_refused(c->proposer, p, n, &err) < 0)
			control_complain(c, from, err.message);
		control_kick(c);
		return;
	}
	if (type == PEER_COMMANDS) {
		follow_leader(c); /* the sender may know of this node's election before its next turn does */
		c->voter_speaks = sender->voter;
		if (proposer_forwarded(c->proposer, from, p, n, &err) < 0)
			control_complain(c, from, err.message);
		control_kick(c);
		return;
	}
	if (codec_decode(p, n, &envelope_codec, &arena, &e, &err) == 0) {
		if (e.from.node != from || (e.to.node != c->config.node_id && e.to.node != NODE_LEADER))
			err_set(&err, -EPERM, "a message whose addresses do not fit");
		else if (!border_lets_message(sender->voter, e.type))
			err_set(&err, -EPERM, "a message of type %u, which it may not send", e.type);
	}
	if (err.code != 0) {
		control_complain(c, from, err.message);
		return;
	}
	if (e.deadline_ms != 0)
		e.deadline_ms += clock_boot_ms();
	e.to.node = c->config.node_id;
	if (e.to.kind == ADDRESS_GATEWAY || e.to.kind == ADDRESS_API || e.to.kind == ADDRESS_CONTROL)
		control_send(c, &e);
	else
		control_deliver(c, &e);
	if (e.type == MSG_UNSEALED)
		unsealing_wipe(&e, p, n);
}

void control_peer(void *context, uint64_t node, bool reachable)
{
	struct control *c = context;

	log_info("node %" PRIu64 " is %s", node, reachable ? "connected" : "out of reach");
	replica_peer(c, node, reachable);
	runtime_away(c->runtime, node, !reachable);
	if (reachable && node == c->leader) {
		leaderbox_each(c->leaderbox, send_to_leader, c);
		control_kick(c);
	}
}

/* -- Turns ------------------------------------------------------------------------------------------------------ */

static void take_inbox(struct control *c, uint64_t now)
{
	struct inbox_item *item = c->inbox;

	c->inbox = NULL;
	c->inbox_last = &c->inbox;
	while (item != NULL) {
		struct inbox_item *next = item->next;
		CLEANUP_ARENA struct arena arena = {0};
		struct envelope e;

		if (codec_decode(item->bytes.p, item->bytes.n, &envelope_codec, &arena, &e, NULL) == 0)
			runtime_post(c->runtime, &e, now);
		buf_done(&item->bytes);
		free(item);
		item = next;
	}
}

/* Whether this node may serve its sandboxes: its lease lasts. */
static void check_lease(struct control *c, uint64_t now)
{
	bool allowed = runtime_lease_ms(c->runtime) > now;

	if (allowed == c->allowed)
		return;
	c->allowed = allowed;
	gateway_allow(c->gateway, allowed);
	log_line(allowed ? LOG_INFO : LOG_WARN, "%s",
		 allowed ? "the lease lasts: sessions are served"
			 : "the lease ended: sessions of this node are not served");
}

static void run_turn(struct control *c)
{
	uint64_t now = clock_boot_ms();

	follow_leader(c);
	send_refused(c, now);
	keyholder_turn(c);
	able_turn(c, now);
	take_inbox(c, now);
	runtime_run(c->runtime, now);
	check_lease(c, now);
	proposer_turn(c->proposer, now, clock_wall_ms());
	inlet_applied(c);
	api_turn(c->api);
	replica_turn(c, now);
	roster_turn(c);
	if (c->view_dirty && control_caught_up(c)) {
		c->view_dirty = false;
		views_publish(c);
	}
	uint64_t next = runtime_next_ms(c->runtime), proposer = proposer_next_ms(c->proposer);

	if (proposer < next)
		next = proposer;
	if (c->resend_ms != 0 && c->resend_ms < next)
		next = c->resend_ms;
	if (next != UINT64_MAX)
		loop_timer_set(&c->loop, &c->timer, next > now ? next - now : 1);
	else
		loop_timer_clear(&c->loop, &c->timer);
}

void control_turn(struct loop_deferred *deferred)
{
	run_turn(container_of(deferred, struct control, turn));
}

void control_timer(struct loop_timer *timer)
{
	control_kick(container_of(timer, struct control, timer));
}

static void on_late(void *context, const struct envelope *e)
{
	control_refuse(context, e, -ETIMEDOUT, "the leader did not answer in time");
}

/* Nothing new begins where the log has no room. Another node may have more; if none has, the lead comes around again. */
static void leave_full_disk(struct control *c, uint64_t now)
{
	bool low = c->consensus != NULL && consensus_disk_low(c->consensus); /* a worker has no log */

	if (!low)
		c->yield_ms = 0; /* what fills it later is another matter */
	if (!low || !c->leads || now < c->yield_ms)
		return;
	c->yield_ms = now + YIELD_MS;
	if (consensus_transfer(c->consensus, 0, NULL, NULL) == 0)
		log_warn("this node leads and %s: another one shall lead", control_log_full(c));
}

void control_tick(struct loop_timer *timer)
{
	struct control *c = container_of(timer, struct control, tick);
	const struct node_row *self = state_node(c->state, c->config.node_id);
	uint64_t now = clock_boot_ms();

	loop_timer_set(&c->loop, &c->tick, TICK_MS);
	replica_tick(c, now);
	roster_tick(c, now);
	unsealing_tick(c, now);
	copies_tick(c);
	leaderbox_expire(c->leaderbox, now, on_late, c);
	leaderbox_resend(c->leaderbox, now, send_to_leader, c);
	check_lease(c, now);
	leave_full_disk(c, now);
	c->view_dirty |= silence_look(&c->silence, c->state, c->config.node_id, now);
	bookkeeping_tick(c, now);
	activity_tick(c, now);
	certificates_tick(c, now);
	rotation_tick(c, now);
	/* Not joined yet, declared lost meanwhile, or joined by a copy of the command that came later: with a new epoch. */
	if (proposer_epoch(c->proposer) == 0 ||
	    (self != NULL && (self->epoch > proposer_epoch(c->proposer) ||
			      (self->epoch == proposer_epoch(c->proposer) && self->state == NODE_LOST))))
		control_join(c);
	control_kick(c);
}
