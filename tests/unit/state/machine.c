#include "machine.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/must.h"

void machine_init(struct machine *m)
{
	*m = (struct machine){.s = state_new(), .now_ms = MACHINE_START};
}

void machine_done(struct machine *m)
{
	state_free(m->s);
	state_free(m->twin);
	buf_done(&m->entry);
}

void machine_audit(struct machine *m, const char *what)
{
	struct err err = {0};

	if (!m->quiet && state_check(m->s, &err) < 0) {
		fprintf(stderr, "entry %llu, %s: %s\n", (unsigned long long)m->index, what, err.message);
		abort();
	}
}

const struct result *machine_command(struct machine *m, const struct command *c, uint64_t incarnation)
{
	struct command copy = *c;
	struct entry entry = {
		.incarnation = incarnation, .time_ms = m->now_ms, .commands = &copy, .n_commands = 1};
	struct err err = {0};

	buf_clear(&m->entry);
	codec_encode(&m->entry, &entry_codec, &entry);
	must(state_apply(m->s, ++m->index, m->entry.p, m->entry.n, &m->applied, &err) == 0);
	must(m->applied.n_results == 1);
	machine_audit(m, command_type_name[c->type]);
	if (m->twin != NULL) {
		struct applied twin;

		must(state_apply(m->twin, m->index, m->entry.p, m->entry.n, &twin, &err) == 0);
		must(state_hash(m->s) == state_hash(m->twin));
		must(codec_equal(&result_codec, &twin.results[0], &m->applied.results[0]));
	}
	return &m->applied.results[0];
}

const struct result *machine_do(struct machine *m, uint64_t node, uint8_t type, const void *body)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct command c = {.type = type, .feature = 1, .node = node, .epoch = m->epoch[node]};
	const struct result *result;

	if (command_body_codec[type] != NULL)
		codec_encode(&bytes, command_body_codec[type], body);
	c.body = buf_str(&bytes);
	if (type != COMMAND_NODE_JOIN && type != COMMAND_CLUSTER_INIT)
		c.sequence = ++m->sequence[node];
	else
		c.epoch = 0;
	result = machine_command(m, &c, state_cluster(m->s)->incarnation);
	if (type == COMMAND_NODE_JOIN && result->code == 0) {
		const struct cmd_node_join *join = body;

		m->epoch[join->id] = result->id;
		m->sequence[join->id] = 0;
	}
	return result;
}

void machine_start(struct machine *m, unsigned nodes)
{
	struct cmd_cluster_init init = {
		.id = STR("0a0a0a0a-0000-4000-8000-000000000001"),
		.settings = {.cooldown_ms_min = 1000,
			     .queue_ms = 10000,
			     .lease_ms = 15000,
			     .lost_ms = 20000,
			     .operation_kept_ms = 86400000,
			     .overcommit_cpu = 8,
			     .overcommit_memory = 1,
			     .domain = STR("example.test"),
			     .environment = STR("env"),
			     .region = STR("here")},
	};

	must(machine_do(m, 0, COMMAND_CLUSTER_INIT, &init)->code == 0);
	for (unsigned i = 1; i <= nodes; i++) {
		struct cmd_node_join join = {.id = i,
					     .name = STR("node"),
					     .raft_address = STR("127.0.0.1:1"),
					     .voter = true,
					     .cpu_milli = 4000,
					     .memory_bytes = 8ull << 30};

		must(machine_do(m, i, COMMAND_NODE_JOIN, &join)->code == 0);
	}
}

struct msg_pool_put machine_put(const char *name, uint32_t max_sessions, uint32_t ready)
{
	return (struct msg_pool_put){
		.subscription = STR("sub"),
		.resource_group = STR("group"),
		.name = str_of(name),
		.document = STR("{}"),
		.limits = {.max_sessions = max_sessions, .ready_target = ready, .cooldown_ms = 300000},
		.template = {.image = STR("registry.test/echo:1"),
			     .cpu_milli = 250,
			     .memory_bytes = 64u << 20,
			     .target_port = 80},
		.new_revision = true,
	};
}

void machine_finish(struct machine *m, uint64_t operation)
{
	struct cmd_operation_step step = {
		.operation = operation,
		.from = PHASE_RESOLVE,
		.phase = PHASE_CACHE,
		.digest = STR("sha256:0123456789012345678901234567890123456789012345678901234567890123")};

	must(machine_do(m, 1, COMMAND_OPERATION_STEP, &step)->code == 0);
	step = (struct cmd_operation_step){
		.operation = operation, .from = PHASE_CACHE, .phase = PHASE_SUCCEEDED};
	must(machine_do(m, 1, COMMAND_OPERATION_STEP, &step)->code == 0);
}

uint64_t machine_pool(struct machine *m, const char *name, uint32_t max_sessions, uint32_t ready)
{
	return machine_pool_in(m, name, max_sessions, ready, ISOLATION_CONTAINER);
}

void machine_able(struct machine *m, unsigned nodes)
{
	struct cmd_node_able body = {.isolations = (1u << ISOLATIONS) - 1};

	for (unsigned i = 1; i <= nodes; i++)
		must(machine_do(m, i, COMMAND_NODE_ABLE, &body)->code == 0);
}

uint64_t machine_pool_in(struct machine *m, const char *name, uint32_t max_sessions, uint32_t ready,
			 uint8_t isolation)
{
	struct msg_pool_put put = machine_put(name, max_sessions, ready);
	put.isolation = isolation;

	struct result result = *machine_do(m, 1, COMMAND_POOL_PUT, &put);

	must(result.code == 0 && result.operation != 0);
	machine_finish(m, result.operation);
	return result.id;
}

uint64_t machine_boot(struct machine *m, uint64_t pool, uint64_t node)
{
	struct cmd_sandbox_boot boot = {
		.pool = pool, .revision = state_pool(m->s, pool)->active_revision, .node = node};
	const struct result *result = machine_do(m, 1, COMMAND_SANDBOX_BOOT, &boot);

	must(result->code == 0);
	return result->id;
}

uint64_t machine_ready(struct machine *m, uint64_t pool, uint64_t node)
{
	struct cmd_sandbox c = {.sandbox = machine_boot(m, pool, node)};

	must(machine_do(m, node, COMMAND_SANDBOX_READY, &c)->code == 0);
	return c.sandbox;
}

struct result machine_open(struct machine *m, uint64_t pool, const char *identifier)
{
	struct cmd_session_open open = {.pool = pool, .identifier = str_of(identifier)};

	return *machine_do(m, 1, COMMAND_SESSION_OPEN, &open);
}
