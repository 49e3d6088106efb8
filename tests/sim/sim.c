/* sim.c -- time, chance and events; see sim.h. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"
#include "judge/judge.h"
#include "raft/disk.h"

const char *const sim_fault_name[FAULTS] = {
	[FAULT_LOST] = "message lost",
	[FAULT_DOUBLED] = "message doubled",
	[FAULT_DELAYED] = "message overtaken",
	[FAULT_CUT] = "link cut",
	[FAULT_DEAF] = "link cut one way",
	[FAULT_KILL] = "daemon killed",
	[FAULT_REBOOT] = "machine rebooted",
	[FAULT_STOP] = "daemon stopped",
	[FAULT_TORN] = "write torn",
	[FAULT_UNWRITTEN] = "write lost",
	[FAULT_DISK_SLOW] = "disk slow",
	[FAULT_DISK_FULL] = "disk full",
	[FAULT_METADATA] = "term or vote not written",
	[FAULT_CLOCK] = "clock jumped",
	[FAULT_TRANSFER] = "leadership handed over",
	[FAULT_START_FAILS] = "start failed",
	[FAULT_START_HANGS] = "start hung",
	[FAULT_SANDBOX_CRASH] = "sandbox crashed",
	[FAULT_SANDBOX_DEAF] = "sandbox never answered",
	[FAULT_PULL_FAILS] = "pull failed",
	[FAULT_SNAPSHOT] = "snapshot taken",
	[FAULT_INSTALL] = "snapshot sent",
	[FAULT_FEED] = "feed lost",
	[FAULT_SAVE_FAILS] = "save failed",
	[FAULT_LOAD_FAILS] = "load failed",
	[FAULT_SAVED] = "session saved",
	[FAULT_MOVED] = "session moved",
	[FAULT_ABLE] = "node able to run others",
};

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

bool sim_meets(struct sim *s, uint32_t per_mille, enum sim_fault fault)
{
	bool met = sim_chance(s, per_mille);

	s->counts[fault] += met;
	return met;
}

struct sim_node *sim_node(struct sim *s, uint64_t id)
{
	must(id >= 1 && id <= s->n_nodes);
	return &s->nodes[id - 1];
}

uint64_t sim_leader(struct sim *s)
{
	uint64_t leader = 0, index = 0;

	for (uint64_t id = 1; id <= s->n_voters; id++) {
		struct sim_node *n = sim_node(s, id);

		if (n->up && n->leads && state_index(n->tables) >= index) {
			leader = id;
			index = state_index(n->tables);
		}
	}
	return leader;
}

struct state *sim_tables(struct sim *s)
{
	struct sim_node *best = NULL;
	uint64_t leader = sim_leader(s);

	if (leader != 0)
		return sim_node(s, leader)->tables;
	for (uint64_t id = 1; id <= s->n_nodes; id++) {
		struct sim_node *n = sim_node(s, id);

		if (n->up && (best == NULL || state_index(n->tables) > state_index(best->tables)))
			best = n;
	}
	must(best != NULL);
	return best->tables;
}

/* -- Clocks ------------------------------------------------------------------------------------------------------- */

uint64_t sim_boot_ms(const struct sim_node *n)
{
	int64_t passed = (int64_t)(n->sim->now_ms - n->clock.since_ms);

	return n->clock.base_ms + (uint64_t)(passed + passed * n->clock.ppm / 1000000);
}

uint64_t sim_wall_ms(const struct sim_node *n)
{
	return (uint64_t)((int64_t)(SIM_WALL_MS + n->sim->now_ms) + n->clock.wall_off_ms);
}

uint64_t sim_at_boot(const struct sim_node *n, uint64_t boot_ms)
{
	int64_t wanted = (int64_t)(boot_ms - n->clock.base_ms);

	if (boot_ms <= n->clock.base_ms)
		return n->clock.since_ms;
	if (wanted > INT64_MAX / 2000000)
		return UINT64_MAX;
	return n->clock.since_ms + (uint64_t)(wanted * 1000000 / (1000000 + n->clock.ppm)) + 1;
}

/* -- Events ------------------------------------------------------------------------------------------------------- */

struct sim_event *sim_after(struct sim *s, uint64_t delay_ms,
			    void (*fire)(struct sim *s, struct sim_event *e))
{
	struct sim_event *e = calloc(1, sizeof *e);

	must(e != NULL);
	e->fire = fire;
	heap_set(&s->events, &e->due, s->now_ms + delay_ms);
	return e;
}

struct sim_event *sim_after_on(struct sim_node *n, uint64_t delay_ms,
			       void (*fire)(struct sim *s, struct sim_event *e))
{
	struct sim_event *e = sim_after(n->sim, delay_ms, fire);

	e->node = n->id;
	e->life = n->life;
	return e;
}

static void event_free(struct sim_event *e)
{
	buf_done(&e->bytes);
	free(e);
}

static void event_drop(struct sim *s, struct sim_event *e)
{
	if (e->drop != NULL)
		e->drop(s, e);
	event_free(e);
}

static void note(struct sim *s, uint64_t what)
{
	s->trace = (s->trace ^ what ^ s->now_ms << 20) * 1099511628211u;
	s->n_events++;
}

/* A node's own timer, which is a part of it; NULL: an event's. */
static struct sim_node *timer_of(struct sim *s, const struct heap_node *due)
{
	uintptr_t at = (uintptr_t)due, first = (uintptr_t)s->nodes;

	return at >= first && at < first + sizeof s->nodes ? &s->nodes[(at - first) / sizeof *s->nodes]
							   : NULL;
}

static bool sleeps(const struct sim_node *n)
{
	return n->asleep_until_ms > n->sim->now_ms;
}

static void fire_event(struct sim *s, struct sim_event *e)
{
	struct sim_node *n = e->life == 0 ? NULL : sim_node(s, e->node);

	if (n != NULL && (!n->up || e->life != n->life)) {
		event_drop(s, e);
		return;
	}
	if (n != NULL && sleeps(n)) {
		heap_set(&s->events, &e->due, n->asleep_until_ms);
		return;
	}
	note(s, e->node << 8 ^ e->number << 16 ^ e->type ^ e->correlation << 24 ^ e->bytes.n << 4);
	e->fire(s, e);
	event_free(e);
	if (n != NULL)
		node_turn(n);
}

static void fire_timer(struct sim *s, struct sim_node *n, struct heap_node *due)
{
	if (sleeps(n)) {
		heap_set(&s->events, due, n->asleep_until_ms);
		return;
	}
	note(s, n->id << 8 ^ (due == &n->raft_tick ? 1u : due == &n->tick ? 2u : 3u));
	node_fire(n, due);
	node_turn(n);
}

/* The next thing that happens. False: nothing until then. */
static bool step(struct sim *s, uint64_t until_ms)
{
	struct heap_node *first = heap_first(&s->events);
	struct sim_node *n;

	if (first == NULL || first->at_ms > until_ms)
		return false;
	s->now_ms = first->at_ms > s->now_ms ? first->at_ms : s->now_ms;
	heap_remove(&s->events, first);
	n = timer_of(s, first);
	if (n != NULL)
		fire_timer(s, n, first);
	else
		fire_event(s, container_of(first, struct sim_event, due));
	return true;
}

void sim_run(struct sim *s, uint64_t for_ms)
{
	uint64_t until_ms = s->now_ms + for_ms;

	while (step(s, until_ms))
		;
	s->now_ms = until_ms;
}

bool sim_until(struct sim *s, bool (*holds)(struct sim *s), uint64_t for_ms)
{
	uint64_t until_ms = s->now_ms + for_ms;

	while (!holds(s)) {
		if (!step(s, until_ms))
			return false;
	}
	return true;
}

/* -- The whole ---------------------------------------------------------------------------------------------------- */

static bool all_joined(struct sim *s)
{
	for (uint64_t id = 1; id <= s->n_nodes; id++) {
		if (proposer_epoch(sim_node(s, id)->proposer) == 0)
			return false;
	}
	return sim_leader(s) != 0;
}

static void add_node(struct sim *s, uint64_t id)
{
	struct sim_node *n = &s->nodes[id - 1];

	*n = (struct sim_node){.sim = s, .id = id, .voter = id <= s->n_voters, .disk_ms_max = 2};
	n->able = 1u << ISOLATION_CONTAINER;
	if ((s->options.no_vm & 1ull << id) == 0)
		n->able |= 1u << ISOLATION_VM;
	n->clock = (struct sim_clock){.base_ms = 1000 + sim_draw(s, 10000000),
				      .since_ms = s->now_ms,
				      .ppm = (int64_t)sim_draw(s, 2000) - 1000,
				      .wall_off_ms = (int64_t)sim_draw(s, SIM_SKEW_MS) - SIM_SKEW_MS / 2};
}

struct sim *sim_new_with(uint64_t seed, const struct sim_options *options)
{
	struct sim *s = calloc(1, sizeof *s);

	must(s != NULL);
	s->options = *options;
	s->seed = s->random = s->trace = seed;
	s->now_ms = 1000;
	s->n_voters = options->n_voters != 0 ? options->n_voters : SIM_NODES;
	s->n_nodes = s->n_voters + options->n_workers;
	must(s->n_voters <= SIM_VOTERS && s->n_nodes <= SIM_NODES_MAX);
	s->judge = judge_new(s);
	for (uint64_t id = 1; id <= s->n_nodes; id++)
		add_node(s, id);
	for (uint64_t id = 1; id <= s->n_nodes; id++)
		node_boot(sim_node(s, id));
	sim_after(s, 1000, faults_second);
	if (!sim_until(s, all_joined, 30000))
		sim_fail(s, "the nodes do not join");
	sim_run(s, 2000);
	return s;
}

struct sim *sim_new(uint64_t seed)
{
	return sim_new_with(seed, &(struct sim_options){0});
}

void sim_free(struct sim *s)
{
	for (uint64_t id = 1; id <= s->n_nodes; id++)
		node_kill(sim_node(s, id));
	for (struct heap_node *first; (first = heap_first(&s->events)) != NULL;) {
		heap_remove(&s->events, first);
		event_drop(s, container_of(first, struct sim_event, due));
	}
	for (uint64_t id = 1; id <= s->n_nodes; id++) {
		sim_disk_free(sim_node(s, id)->disk);
		free(sim_node(s, id)->accounts);
	}
	heap_done(&s->events);
	judge_free(s->judge);
	free(s);
}
