#include "sim.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"

void sim_fail(const struct sim *s, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "seed %llu at %llu ms: ", (unsigned long long)s->seed, (unsigned long long)s->now_ms);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	abort();
}

/* splitmix64 */
uint32_t sim_draw(struct sim *s, uint32_t below)
{
	uint64_t x = s->random += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return (uint32_t)((x ^ x >> 31) >> 32) % below;
}

bool sim_chance(struct sim *s, uint32_t per_mille)
{
	return per_mille != 0 && sim_draw(s, 1000) < per_mille;
}

struct sim_node *sim_node(struct sim *s, uint64_t id)
{
	must(id >= 1 && id <= SIM_NODES);
	return &s->nodes[id - 1];
}

struct state *sim_tables(struct sim *s)
{
	return sim_node(s, s->leader == 0 ? 1 : s->leader)->tables;
}

struct sim_event *sim_after(struct sim *s, uint64_t delay_ms,
			    void (*fire)(struct sim *s, struct sim_event *e))
{
	struct sim_event *e = calloc(1, sizeof *e);

	must(e != NULL);
	e->fire = fire;
	heap_set(&s->events, &e->due, s->now_ms + delay_ms);
	return e;
}

/* -- Messages ---------------------------------------------------------------------------------------------------- */

static void deliver(struct sim *s, struct sim_event *e)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct sim_node *n = sim_node(s, e->node);
	struct envelope envelope;
	struct err err;

	if (codec_decode(e->bytes.p, e->bytes.n, &envelope_codec, &arena, &envelope, &err) < 0)
		sim_fail(s, "an envelope does not decode: %s", err.message);
	if (envelope.to.kind == ADDRESS_GATEWAY || envelope.to.kind == ADDRESS_API ||
	    envelope.to.kind == ADDRESS_CONTROL)
		sim_receive(s, e->node, &envelope);
	else if (e->life == 0 || e->life == n->life)
		runtime_post(n->runtime, &envelope, s->now_ms);
}

static void put_on_wire(struct sim *s, uint64_t to, const struct envelope *envelope, uint64_t delay_ms,
			uint32_t life)
{
	struct sim_event *e = sim_after(s, delay_ms, deliver);

	e->node = to;
	e->life = life;
	codec_encode(&e->bytes, &envelope_codec, envelope);
	must(!buf_failed(&e->bytes));
}

static void send(struct sim *s, struct sim_node *from, const struct envelope *e)
{
	uint64_t to = e->to.node == NODE_LEADER ? s->leader : e->to.node;

	if (to == 0)
		return; /* nobody leads: lost */
	if (to == from->id) {
		put_on_wire(s, to, e, 0, 0);
		return;
	}
	if (sim_chance(s, s->faults.lose))
		return;
	if (sim_chance(s, s->faults.duplicate))
		put_on_wire(s, to, e, 1 + sim_draw(s, 200), 0);
	put_on_wire(s, to, e, 1 + sim_draw(s, 3) + (sim_chance(s, s->faults.lose) ? sim_draw(s, 100) : 0), 0);
}

void sim_outcome(struct sim *s, uint64_t node, uint64_t delay_ms, const struct address *to,
		 uint64_t correlation, uint16_t type, const void *body)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct envelope e = {
		.to = *to, .from = {ADDRESS_CONTROL, node, 0}, .type = type, .correlation = correlation};

	codec_encode(&bytes, message_body_codec[type], body);
	e.body = buf_str(&bytes);
	put_on_wire(s, node, &e, delay_ms, sim_node(s, node)->life);
}

static void on_effect(void *context, const struct effect *effect)
{
	struct sim_node *n = context;

	switch ((enum effect_kind)effect->kind) {
	case EFFECT_SEND:
		send(n->sim, n, effect->envelope);
		break;
	case EFFECT_PROPOSE:
		sim_propose(n->sim, n, effect->type, effect->body, effect->from, effect->correlation);
		break;
	case EFFECT_DRIVE:
		sim_drive(n->sim, n, effect);
		break;
	case EFFECT_PROBE:
		sim_probe(n->sim, n, effect);
		break;
	case EFFECT_KINDS:
		must(false);
	}
}

/* -- Nodes ------------------------------------------------------------------------------------------------------- */

static void join(struct sim *s, struct sim_node *n)
{
	struct cmd_node_join body = {.id = n->id,
				     .name = STR("node"),
				     .raft_address = STR("r:1"),
				     .peer_address = STR("p:1"),
				     .api_address = STR("a:1"),
				     .voter = true,
				     .cpu_milli = 64000,
				     .memory_bytes = 1ull << 40};

	n->join = s->now_ms + n->life + 1;
	sim_propose(s, n, COMMAND_NODE_JOIN, &body, (struct address){ADDRESS_CONTROL, n->id, 0}, n->join);
}

static void boot(struct sim *s, struct sim_node *n)
{
	n->life++;
	n->runtime = runtime_new(&(struct runtime_options){.node = n->id,
							   .incarnation = 1,
							   .n_gateway_loops = SIM_LOOPS,
							   .state = n->tables,
							   .classes = cast_classes,
							   .n_classes = CAST_CLASSES,
							   .effect = on_effect,
							   .context = n});
	must(n->runtime != NULL);
	runtime_rescan(n->runtime, s->now_ms);
	n->epoch = 0;
	join(s, n);
	sim_adopt(s, n);
}

void sim_restart(struct sim *s, struct sim_node *n)
{
	if (s->leader == n->id)
		sim_elect(s, n->id % SIM_NODES + 1);
	runtime_free(n->runtime);
	boot(s, n);
}

static void random_second(struct sim *s, struct sim_event *e)
{
	(void)e;
	if (sim_chance(s, s->faults.elections))
		sim_elect(s, 1 + sim_draw(s, SIM_NODES));
	if (sim_chance(s, s->faults.restarts))
		sim_restart(s, &s->nodes[sim_draw(s, SIM_NODES)]);
	for (uint32_t i = 0; i < SIM_NODES; i++) {
		if (s->nodes[i].epoch == 0)
			join(s, &s->nodes[i]); /* the one before got lost */
	}
	sim_after(s, 1000, random_second);
}

struct sim *sim_new(uint64_t seed)
{
	struct sim *s = calloc(1, sizeof *s);
	struct cmd_cluster_init init = {.id = STR("sim"),
					.settings = {.cooldown_ms_min = 1000,
						     .queue_ms = 10000,
						     .lease_ms = 15000,
						     .lost_ms = 20000,
						     .operation_kept_ms = 86400000,
						     .overcommit_cpu = 8,
						     .overcommit_memory = 1}};

	must(s != NULL);
	s->seed = s->random = seed;
	s->now_ms = 1000;
	for (uint64_t i = 0; i < SIM_NODES; i++) {
		s->nodes[i] = (struct sim_node){.sim = s, .id = i + 1, .tables = state_new()};
		must(s->nodes[i].tables != NULL);
	}
	s->leader = 1;
	s->term = 1;
	sim_propose(s, &s->nodes[0], COMMAND_CLUSTER_INIT, &init, (struct address){0}, 0);
	for (uint64_t i = 0; i < SIM_NODES; i++)
		boot(s, &s->nodes[i]);
	runtime_leading(s->nodes[0].runtime, true, 1, s->now_ms);
	sim_after(s, 1000, random_second);
	sim_run(s, 3000);
	return s;
}

void sim_free(struct sim *s)
{
	for (struct heap_node *first; (first = heap_first(&s->events)) != NULL;) {
		struct sim_event *e = container_of(first, struct sim_event, due);

		heap_remove(&s->events, first);
		buf_done(&e->bytes);
		free(e);
	}
	for (uint32_t i = 0; i < SIM_NODES; i++)
		runtime_free(s->nodes[i].runtime);
	for (struct heap_node *first; (first = heap_first(&s->events)) != NULL;) {
		struct sim_event *e = container_of(first, struct sim_event, due);

		heap_remove(&s->events, first);
		buf_done(&e->bytes);
		free(e);
	}
	for (uint32_t i = 0; i < SIM_NODES; i++)
		state_free(s->nodes[i].tables);
	heap_done(&s->events);
	sim_log_done(s);
	free(s);
}

/* The next moment at which anything happens, and all of it. False: nothing until then. */
static bool turn(struct sim *s, uint64_t until_ms)
{
	uint64_t at_ms = heap_first(&s->events) == NULL ? UINT64_MAX : heap_first(&s->events)->at_ms;
	struct heap_node *first;

	for (uint32_t i = 0; i < SIM_NODES; i++) {
		uint64_t next_ms = runtime_next_ms(s->nodes[i].runtime);

		at_ms = next_ms < at_ms ? next_ms : at_ms;
	}
	if (at_ms > until_ms)
		return false;
	s->now_ms = at_ms > s->now_ms ? at_ms : s->now_ms;
	if ((first = heap_first(&s->events)) != NULL && first->at_ms <= s->now_ms) {
		struct sim_event *e = container_of(first, struct sim_event, due);

		heap_remove(&s->events, first);
		e->fire(s, e);
		buf_done(&e->bytes);
		free(e);
	}
	for (uint32_t i = 0; i < SIM_NODES; i++)
		runtime_run(s->nodes[i].runtime, s->now_ms);
	return true;
}

void sim_run(struct sim *s, uint64_t for_ms)
{
	uint64_t until_ms = s->now_ms + for_ms;

	while (turn(s, until_ms))
		;
	s->now_ms = until_ms;
}

bool sim_until(struct sim *s, bool (*holds)(struct sim *s), uint64_t for_ms)
{
	uint64_t until_ms = s->now_ms + for_ms;

	while (!holds(s)) {
		if (!turn(s, until_ms))
			return false;
	}
	return true;
}
