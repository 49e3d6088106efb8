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

void operator_rests(struct sim *s, uint64_t node)
{
	const struct pool_row *pool = state_pool_by_name(sim_tables(s), STR("s"), STR("g"), str_of(names[1]));
	const struct session_row *row = NULL;
	struct msg_rest body = {.resume = sim_chance(s, 300)};

	for (uint32_t n = sim_draw(s, 8); pool != NULL && n < 8; n++) {
		const struct session_row *next = state_next_pool_session(sim_tables(s), pool->uid, row);

		row = next != NULL ? next : row;
	}
	if (row == NULL)
		return;
	body.pool = row->pool;
	body.identifier = row->identifier;
	sim_send(s, node, (struct address){ADDRESS_PLACEMENT, node, 0}, MSG_REST, &body, 0);
}

static bool any_cordoned(struct sim *s)
{
	for (const struct node_row *row = NULL; (row = state_next_node(sim_tables(s), row)) != NULL;) {
		if (row->cordoned)
			return true;
	}
	return false;
}

#define SLEEPERS_MAX 64

/* Nobody else wakes those that sleep. False: none sleeps. */
static bool wake_all(struct sim *s)
{
	struct {
		uint64_t pool;
		char identifier[33];
	} sleepers[SLEEPERS_MAX];
	uint32_t n = 0;

	for (const struct pool_row *pool = NULL; (pool = state_next_pool(sim_tables(s), pool)) != NULL;) {
		for (const struct session_row *row = NULL;
		     (row = state_next_pool_session(sim_tables(s), pool->uid, row)) != NULL;) {
			if (row->rest == REST_AWAKE || n == SLEEPERS_MAX)
				continue;
			sleepers[n].pool = row->pool;
			(void)str_copy(row->identifier, sleepers[n++].identifier,
				       sizeof sleepers[0].identifier);
		}
	}
	for (uint32_t i = 0; i < n; i++)
		sim_send(s, 1, (struct address){ADDRESS_PLACEMENT, 1, 0}, MSG_REST,
			 &(struct msg_rest){sleepers[i].pool, str_of(sleepers[i].identifier), true}, 0);
	return n > 0;
}

void operator_ends(struct sim *s)
{
	for (uint32_t i = 0; i < 90 && wake_all(s); i++)
		sim_run(s, 1000);
	for (const struct sandbox_row *row = NULL; (row = state_next_sandbox(sim_tables(s), row)) != NULL;) {
		if (row->rest != REST_AWAKE)
			sim_fail(s, "sandbox %llu stays %s on node %llu, target %llu%s",
				 (unsigned long long)row->id, sandbox_rest_name[row->rest],
				 (unsigned long long)row->node, (unsigned long long)row->target,
				 row->asleep ? ", asleep" : "");
	}
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
