/* operator.c -- see operator.h. Each update has a cooldown of its own, by which it is known again. */
#include "sim/seeds/operator.h"

static const char *const names[] = {"first", "second"};

/* Of a seed with virtual machines, the second pool's; sometimes the other one, which must be refused. */
static uint8_t isolation_of(struct sim *s, uint32_t slot)
{
	bool vm = s->put_isolation == ISOLATION_VM && slot == 1;

	if (s->put_isolation == ISOLATION_VM && sim_chance(s, 100))
		vm = !vm;
	return vm ? ISOLATION_VM : ISOLATION_CONTAINER;
}

void operator_updates(struct sim *s, uint64_t node, uint32_t slot)
{
	sim_update(s, node,
		   &(struct sim_put){.name = names[slot],
				     .image = sim_chance(s, 500) ? "registry/image:1" : "registry/image:2",
				     .max = 4 + sim_draw(s, 30),
				     .ready = sim_draw(s, 6),
				     .cooldown_ms = 1000 + sim_draw(s, 4000) * 8 + s->n_updates % 8,
				     .isolation = isolation_of(s, slot)});
}

static void order(struct sim *s, uint64_t by, uint64_t node, enum node_order what)
{
	sim_send(s, by, (struct address){ADDRESS_DRAIN, by, 0}, MSG_NODE_ORDER,
		 &(struct msg_node_order){node, (uint8_t)what, 10000}, ORDER_CORRELATION);
}

void operator_orders(struct sim *s, uint64_t node)
{
	order(s, node, 1 + sim_draw(s, s->n_nodes), (enum node_order)sim_draw(s, NODE_ORDERS));
}

static bool any_cordoned(struct sim *s)
{
	for (const struct node_row *row = NULL; (row = state_next_node(sim_tables(s), row)) != NULL;) {
		if (row->cordoned)
			return true;
	}
	return false;
}

void operator_ends(struct sim *s)
{
	for (uint32_t i = 0; i < 30 && (i == 0 || any_cordoned(s)); i++) {
		for (uint64_t node = 1; node <= s->n_nodes; node++)
			order(s, 1, node, NODE_UNCORDON);
		sim_run(s, 1000);
	}
	if (any_cordoned(s))
		sim_fail(s, "a node stays cordoned");
}

void operator_check(struct sim *s, uint32_t slot, uint64_t pool)
{
	const struct pool_row *row = state_pool(sim_tables(s), pool);
	const struct sim_put *last = NULL;

	if (row->isolation != (slot == 1 ? s->put_isolation : ISOLATION_CONTAINER))
		sim_fail(s, "(7) the isolation of pool %s has changed", names[slot]);
	for (uint32_t i = 0; i < s->n_updates; i++) {
		const struct sim_put *u = &s->updates[i];

		if (u->name == names[slot] && u->acknowledged_ms != 0 &&
		    (last == NULL || u->begun_ms > last->begun_ms))
			last = u;
	}
	for (uint32_t i = 0; last != NULL && i < s->n_updates; i++) {
		const struct sim_put *u = &s->updates[i];

		if (u->name == names[slot] && u->cooldown_ms == row->limits.cooldown_ms &&
		    (u == last || u->acknowledged_ms == 0 || u->acknowledged_ms >= last->begun_ms))
			return;
	}
	if (last != NULL)
		sim_fail(s, "(5) an update of pool %s was acknowledged, and it shows an older one",
			 names[slot]);
}
