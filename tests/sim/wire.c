/* wire.c -- what goes between nodes: messages of actors, and commands for the leader. */
#include <errno.h>

#include "core/must.h"
#include "sim.h"

bool wire_is_open(struct sim *s, uint64_t from, uint64_t to)
{
	(void)from;
	return sim_node(s, to)->up; /* a cut is silent; a daemon that is gone refuses */
}

bool wire_passes(struct sim *s, uint64_t from, uint64_t to, uint64_t *ret_ms)
{
	if (s->cut[from][to] || sim_meets(s, s->faults.lose, FAULT_LOST))
		return false;
	*ret_ms = 1 + sim_draw(s, 3);
	if (sim_meets(s, s->faults.delay, FAULT_DELAYED))
		*ret_ms += sim_draw(s, 150);
	return true;
}

static void envelope_arrived(struct sim *s, struct sim_event *event)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct sim_node *n = sim_node(s, event->node);
	struct envelope e;
	struct err err;

	if (codec_decode(event->bytes.p, event->bytes.n, &envelope_codec, &arena, &e, &err) < 0)
		sim_fail(s, "an envelope does not decode: %s", err.message);
	if (e.deadline_ms != 0)
		e.deadline_ms += sim_boot_ms(n);
	e.to.node = n->id;
	if (e.to.kind == ADDRESS_GATEWAY || e.to.kind == ADDRESS_API || e.to.kind == ADDRESS_CONTROL)
		node_send(n, &e);
	else
		node_deliver(n, &e);
}

static void put_on_wire(struct sim_node *from, uint64_t to, const struct envelope *e, uint64_t delay_ms)
{
	struct sim_event *event = sim_after_on(sim_node(from->sim, to), delay_ms, envelope_arrived);
	struct envelope wire = *e;
	uint64_t now = sim_boot_ms(from);

	if (e->deadline_ms != 0)
		wire.deadline_ms = e->deadline_ms > now ? e->deadline_ms - now : 1;
	event->type = e->type;
	codec_encode(&event->bytes, &envelope_codec, &wire);
	must(!buf_failed(&event->bytes));
}

void wire_envelope(struct sim_node *from, uint64_t to, const struct envelope *e)
{
	struct sim *s = from->sim;
	uint64_t delay_ms;

	if (!wire_passes(s, from->id, to, &delay_ms))
		return;
	put_on_wire(from, to, e, delay_ms);
	if (sim_meets(s, s->faults.duplicate, FAULT_DOUBLED))
		put_on_wire(from, to, e, delay_ms + sim_draw(s, 200));
}

static void commands_arrived(struct sim *s, struct sim_event *e)
{
	node_commands(sim_node(s, e->node), e->number, e->bytes.p, e->bytes.n);
}

int wire_commands(void *from_node, uint64_t leader, const void *p, size_t n)
{
	struct sim_node *from = from_node;
	uint64_t delay_ms;
	struct sim_event *e;

	if (!wire_is_open(from->sim, from->id, leader))
		return -EHOSTUNREACH;
	if (!wire_passes(from->sim, from->id, leader, &delay_ms))
		return 0;
	e = sim_after_on(sim_node(from->sim, leader), delay_ms, commands_arrived);
	e->number = from->id;
	buf_add(&e->bytes, p, n);
	must(!buf_failed(&e->bytes));
	return 0;
}
