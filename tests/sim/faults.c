/* faults.c -- what goes wrong between, below and in the daemons, and how long. */
#include <stdlib.h>

#include "consensus/consensus.h"
#include "core/must.h"
#include "raft/server.h"
#include "sim.h"

static struct sim_node *any(struct sim *s)
{
	return sim_node(s, 1 + sim_draw(s, s->n_nodes));
}

/* Mostly short, sometimes longer than any lease. */
static uint64_t a_while(struct sim *s)
{
	if (s->storm)
		return 50 + sim_draw(s, 1500);
	return sim_chance(s, 700) ? 50 + sim_draw(s, 3000) : 3000 + sim_draw(s, 27000);
}

/* -- Daemons and machines ------------------------------------------------------------------------------------------ */

void sim_restart(struct sim *s, struct sim_node *n)
{
	(void)s;
	node_kill(n);
	node_boot(n);
}

static void boot_later(struct sim *s, struct sim_event *e)
{
	struct sim_node *n = sim_node(s, e->node);

	if (!n->up)
		node_boot(n);
}

static void down_for(struct sim_node *n, uint64_t for_ms)
{
	node_kill(n);
	sim_after(n->sim, for_ms, boot_later)->node = n->id;
}

static void reboot(struct sim_node *n)
{
	uint64_t for_ms = 2000 + a_while(n->sim);

	host_reboot(n);
	down_for(n, for_ms);
	n->clock.base_ms = 0; /* the boot clock begins anew */
	n->clock.since_ms = n->sim->now_ms;
}

static void stop(struct sim_node *n)
{
	if (n->up)
		n->asleep_until_ms = n->sim->now_ms + a_while(n->sim);
}

/* -- Links -------------------------------------------------------------------------------------------------------- */

static void heal(struct sim *s, struct sim_event *e)
{
	s->cut[e->number][e->correlation] = false;
}

static void cut(struct sim *s, uint64_t from, uint64_t to, uint64_t for_ms)
{
	struct sim_event *e = sim_after(s, for_ms, heal);

	s->cut[from][to] = true;
	e->number = from;
	e->correlation = to;
}

/* A node from all others, or from one. */
static void cut_off(struct sim *s, bool both_ways)
{
	uint64_t node = any(s)->id, other = any(s)->id, for_ms = a_while(s);
	bool all = sim_chance(s, 600), from = sim_chance(s, 500);

	for (uint64_t id = 1; id <= s->n_nodes; id++) {
		if (id == node || (!all && id != other))
			continue;
		if (both_ways || from)
			cut(s, node, id, for_ms);
		if (both_ways || !from)
			cut(s, id, node, for_ms);
	}
}

/* -- Disks, clocks, leadership -------------------------------------------------------------------------------------- */

static void disk_again(struct sim *s, struct sim_event *e)
{
	sim_node(s, e->node)->disk_ms_max = 2;
}

static void slow_disk(struct sim_node *n)
{
	n->disk_ms_max = 20 + sim_draw(n->sim, 400);
	sim_after(n->sim, a_while(n->sim), disk_again)->node = n->id;
}

static void jump(struct sim_node *n)
{
	n->clock.wall_off_ms = (int64_t)sim_draw(n->sim, SIM_SKEW_MS) - SIM_SKEW_MS / 2;
}

static bool is_led(struct sim *s)
{
	return sim_leader(s) != 0;
}

static void hand_over(struct sim *s, uint64_t to)
{
	uint64_t leader = sim_leader(s);

	if (leader != 0 && leader != to)
		consensus_transfer(sim_node(s, leader)->consensus, to, NULL, NULL);
}

void sim_elect(struct sim *s, uint64_t node)
{
	for (uint32_t i = 0; i < 20 && sim_leader(s) != node; i++) {
		hand_over(s, node);
		sim_run(s, 400);
	}
	must(sim_until(s, is_led, 5000) && sim_leader(s) == node);
}

void sim_able(struct sim_node *n, bool vm)
{
	n->able = 1u << ISOLATION_CONTAINER | (vm ? 1u << ISOLATION_VM : 0);
	n->changed = true;
}

static bool made_for_vms(const struct sim_node *n)
{
	return (n->sim->options.no_vm & 1ull << n->id) == 0;
}

/* Never the first that can: with none at all pools would rightly fail. */
static void other_able(struct sim_node *n)
{
	uint64_t first = 1;

	while (first < n->sim->n_nodes && !made_for_vms(sim_node(n->sim, first)))
		first++;
	if (n->id != first)
		sim_able(n, (n->able & 1u << ISOLATION_VM) == 0);
}

/* -- Each second -------------------------------------------------------------------------------------------------- */

void faults_second(struct sim *s, struct sim_event *e)
{
	const struct sim_faults *f = &s->faults;
	struct sim_node *n = any(s);

	(void)e;
	if (sim_chance(s, f->kills) && n->up) {
		s->counts[FAULT_KILL]++;
		down_for(n, sim_chance(s, 500) ? 1 : a_while(s));
	}
	if (sim_chance(s, f->reboots) && (n = any(s))->up) {
		s->counts[FAULT_REBOOT]++;
		reboot(n);
	}
	if (sim_meets(s, f->stops, FAULT_STOP))
		stop(any(s));
	if (sim_meets(s, f->cuts, FAULT_CUT))
		cut_off(s, true);
	if (sim_meets(s, f->one_way, FAULT_DEAF))
		cut_off(s, false);
	if (sim_meets(s, f->slow_disks, FAULT_DISK_SLOW))
		slow_disk(any(s));
	if (sim_meets(s, f->clocks, FAULT_CLOCK))
		jump(any(s));
	if (sim_meets(s, f->transfers, FAULT_TRANSFER))
		hand_over(s, 1 + sim_draw(s, s->n_voters));
	n = any(s);
	if (!n->voter && sim_meets(s, f->feeds, FAULT_FEED))
		feed_lose(n);
	if (sim_meets(s, f->ables, FAULT_ABLE))
		other_able(any(s));
	sim_after(s, 1000, faults_second);
}

void faults_end(struct sim *s)
{
	s->faults = (struct sim_faults){0};
	for (uint64_t from = 1; from <= s->n_nodes; from++) {
		for (uint64_t to = 1; to <= s->n_nodes; to++)
			s->cut[from][to] = false;
	}
	for (uint64_t id = 1; id <= s->n_nodes; id++) {
		struct sim_node *n = sim_node(s, id);

		n->disk_ms_max = 2;
		if (n->changed)
			sim_able(n, true); /* what sleeps there waits for it */
		if (!n->up)
			node_boot(n);
		else if (n->asleep_until_ms > s->now_ms)
			sim_restart(s, n);
	}
}
