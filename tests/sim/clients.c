/* Gateways and the management API: they ask, and count what they are answered. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/must.h"
#include "sim.h"

#define PUT_CORRELATION 1000000

void sim_send(struct sim *s, uint64_t node, struct address to, uint16_t type, const void *body,
	      uint64_t correlation)
{
	CLEANUP_BUF struct buf bytes = {0};

	struct sim_node *n = sim_node(s, node);

	codec_encode(&bytes, message_body_codec[type], body);
	node_send(n, &(struct envelope){.to = to,
					.from = {ADDRESS_GATEWAY, node, 0},
					.type = type,
					.correlation = correlation,
					.deadline_ms = sim_boot_ms(n) + 15000,
					.incarnation = 1,
					.body = buf_str(&bytes)});
	node_turn(n);
}

/* An answer must be of the identifier that was asked for. */
static void check_opened(struct sim *s, const struct sim_ask *ask, const struct msg_opened *opened)
{
	const struct session_row *row;

	if (opened->code != OPEN_OK)
		return;
	row = state_session_by_generation(sim_tables(s), opened->session.generation);
	if (opened->session.sandbox == 0 || opened->session.node == 0 || opened->session.generation == 0)
		sim_fail(s, "an answer without a sandbox");
	if (row != NULL && !str_eq(row->identifier, str_of(ask->identifier)))
		sim_fail(s, "%s was answered with the session of %.*s", ask->identifier,
			 STR_ARGS(row->identifier));
}

static void answered(struct sim *s, uint64_t correlation, const struct envelope *e, const void *body)
{
	struct sim_ask *ask;

	must(correlation >= 1 && correlation <= s->n_asks);
	ask = &s->asks[correlation - 1];
	ask->answers++;
	if (ask->answers > 1) /* a copy that was sent again: a gateway drops what it does not wait for */
		return;
	ask->answered_ms = s->now_ms;
	ask->refused = e->type == MSG_REFUSED;
	if (e->type == MSG_OPENED) {
		ask->opened = *(const struct msg_opened *)body;
		check_opened(s, ask, &ask->opened);
		ask->opened.message = STR_NONE;
	}
	gateway_opened(sim_node(s, ask->node), ask);
}

void sim_receive(struct sim_node *n, const struct envelope *e)
{
	struct sim *s = n->sim;
	CLEANUP_ARENA struct arena arena = {0};
	const struct codec_type *type = message_body_codec[e->type];
	void *body = arena_alloc(&arena, type->size);
	struct err err;

	if (codec_decode(e->body.p, e->body.n, type, &arena, body, &err) < 0)
		sim_fail(s, "a body does not decode: %s", err.message);
	if (e->type == MSG_QUIESCE) {
		gateway_quiesce(n, e, body);
	} else if (e->type == MSG_ENDED) {
		s->n_ended++;
		gateway_ended(n, ((struct msg_session_event *)body)->generation);
	} else if (e->type == MSG_REOPEN) {
		s->n_reopened++;
		gateway_reopened(n, ((struct msg_session_event *)body)->generation);
	} else if (e->correlation == PUT_CORRELATION) {
		s->n_put++;
		s->put_code = e->type == MSG_REFUSED ? ((struct msg_refused *)body)->code
						     : ((struct msg_pool_answer *)body)->code;
		s->put_pool = e->type == MSG_REFUSED ? 0 : ((struct msg_pool_answer *)body)->pool;
	} else if (e->correlation > PUT_CORRELATION && e->correlation <= PUT_CORRELATION + SIM_UPDATES_MAX) {
		if (e->type != MSG_REFUSED && ((struct msg_pool_answer *)body)->code == 0)
			s->updates[e->correlation - PUT_CORRELATION - 1].acknowledged_ms = s->now_ms;
	} else if (e->correlation >= ORDER_CORRELATION) {
		s->n_ordered++;
	} else if (e->correlation >= STOP_CORRELATION) {
		gateway_stopped(s, e->correlation - STOP_CORRELATION,
				e->type == MSG_REFUSED ? -EAGAIN : ((struct msg_stopped *)body)->code);
		s->stop_code_set++;
		s->stop_code = e->type == MSG_REFUSED ? ((struct msg_refused *)body)->code
						      : ((struct msg_stopped *)body)->code;
	} else if (e->correlation != 0) {
		answered(s, e->correlation, e, body);
	}
}

struct sim_ask *sim_open(struct sim *s, uint64_t node, uint64_t pool, const char *identifier, uint64_t gone)
{
	struct sim_ask *ask = &s->asks[s->n_asks];

	must(s->n_asks < SIM_ASKS_MAX);
	*ask = (struct sim_ask){
		.node = node, .deadline_ms = s->now_ms + 15000, .pool = pool, .invoked_ms = s->now_ms};
	snprintf(ask->identifier, sizeof ask->identifier, "%s", identifier);
	sim_send(s, node, (struct address){ADDRESS_PLACEMENT, NODE_LEADER, 0}, MSG_OPEN,
		 &(struct msg_open){.pool = pool, .identifier = str_of(identifier), .gone = gone},
		 ++s->n_asks);
	return ask;
}

static bool put_answered(struct sim *s)
{
	return s->n_put > 0;
}

static void put(struct sim *s, uint64_t node, const struct sim_put *p, uint64_t correlation)
{
	struct msg_pool_put body = {.subscription = STR("s"),
				    .resource_group = STR("g"),
				    .name = str_of(p->name),
				    .document = STR("{}"),
				    .limits = {.max_sessions = p->max,
					       .ready_target = p->ready,
					       .cooldown_ms = p->cooldown_ms,
					       .egress = s->put_egress},
				    .template = {.container_name = STR("c"),
						 .image = str_of(p->image),
						 .cpu_milli = 250,
						 .memory_bytes = 64 << 20,
						 .target_port = 8080},
				    .new_revision = true,
				    .isolation = p->isolation};

	sim_send(s, node, (struct address){ADDRESS_POOL, node, 0}, MSG_POOL_PUT, &body,
		 correlation); /* as the API does */
}

/* Creates or updates the pool; returns its uid, 0 when refused. */
uint64_t sim_put(struct sim *s, const char *name, const char *image, uint32_t max, uint32_t ready,
		 uint64_t cooldown_ms)
{
	s->n_put = 0;
	put(s, sim_leader(s),
	    &(struct sim_put){name, image, max, ready, cooldown_ms, .isolation = s->put_isolation},
	    PUT_CORRELATION);
	if (!sim_until(s, put_answered, 10000))
		sim_fail(s, "PUT is not answered");
	return s->put_code == 0 ? s->put_pool : 0;
}

void sim_update(struct sim *s, uint64_t node, const struct sim_put *p)
{
	if (s->n_updates == SIM_UPDATES_MAX)
		return;
	s->updates[s->n_updates] = *p;
	s->updates[s->n_updates].begun_ms = s->now_ms;
	put(s, node, p, PUT_CORRELATION + 1 + s->n_updates++);
}
