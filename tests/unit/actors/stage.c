#include "stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"

static void note(struct seen *to, struct str text)
{
	snprintf(to->text, sizeof to->text, "%.*s", STR_ARGS(text));
}

static void note_envelope(struct seen *to, const struct envelope *e)
{
	CLEANUP_ARENA struct arena arena = {0};
	const struct codec_type *type = message_body_codec[e->type];
	void *body = type == NULL ? NULL : arena_alloc(&arena, type->size);
	struct err err;

	must(type == NULL || codec_decode(e->body.p, e->body.n, type, &arena, body, &err) == 0);
	to->type = e->type;
	to->to = e->to;
	to->correlation = e->correlation;
	if (e->type == MSG_REFUSED) {
		to->code = ((struct msg_refused *)body)->code;
		note(to, ((struct msg_refused *)body)->message);
	} else if (e->type == MSG_OPENED) {
		to->code = ((struct msg_opened *)body)->code;
		note(to, ((struct msg_opened *)body)->message);
	} else if (e->type == MSG_POOL_ANSWER) {
		to->code = ((struct msg_pool_answer *)body)->code;
	} else if (e->type == MSG_CACHED) {
		to->code = ((struct msg_cached *)body)->code;
	} else if (e->type == MSG_JUDGED) {
		to->code = (int32_t)((struct msg_orphans *)body)->n_sandboxes;
	}
}

static void on_effect(void *context, const struct effect *e)
{
	struct stage *s = context;
	struct seen *to = &s->seen[s->n_seen++];

	must(s->n_seen < STAGE_EFFECTS);
	*to = (struct seen){.kind = e->kind, .type = e->type, .from = e->from, .correlation = e->correlation};
	if (e->kind == EFFECT_SEND) {
		note_envelope(to, e->envelope);
	} else if (e->kind == EFFECT_PROPOSE && e->type == COMMAND_SANDBOX_GONE) {
		const struct cmd_sandbox_gone *gone = e->body;

		to->code = gone->failed + 2 * gone->unserved;
		note(to, gone->message);
	} else if (e->kind == EFFECT_PROPOSE && e->type == COMMAND_SANDBOX_BOOT) {
		to->code = (int32_t)((const struct cmd_sandbox_boot *)e->body)->node;
	} else if (e->kind == EFFECT_PROPOSE && e->type == COMMAND_OPERATION_STEP) {
		const struct cmd_operation_step *step = e->body;

		to->code = step->phase;
		note(to, step->code.n > 0 ? step->code : step->digest);
	} else if (e->kind == EFFECT_PROPOSE && e->type == COMMAND_SESSION_OPEN) {
		to->code = (int32_t)((const struct cmd_session_open *)e->body)->preferred;
	} else if (e->kind == EFFECT_DRIVE && e->type == SANDBOXD_START) {
		to->code = ((const struct sandboxd_start *)e->body)->isolation;
	} else if (e->kind == EFFECT_DRIVE && e->type == SANDBOXD_PARK) {
		to->code = ((const struct sandboxd_park *)e->body)->on;
	} else if (e->kind == EFFECT_DRIVE && e->type == SANDBOXD_PULL) {
		note(to, ((const struct sandboxd_image *)e->body)->digest);
	}
}

struct result stage_apply(struct stage *s, uint64_t node, uint8_t type, const void *body)
{
	CLEANUP_BUF struct buf bytes = {0};
	CLEANUP_BUF struct buf entry_bytes = {0};
	struct command command = {.type = type,
				  .feature = type == COMMAND_CLUSTER_INIT ? 0 : 1,
				  .node = node,
				  .epoch = s->epoch[node],
				  .sequence = ++s->sequence[node]};
	struct entry entry = {.incarnation = 1,
			      .time_ms = 1700000000000 + s->now_ms,
			      .commands = &command,
			      .n_commands = 1};
	struct applied applied;
	struct err err;

	if (command_body_codec[type] != NULL)
		codec_encode(&bytes, command_body_codec[type], body);
	command.body = buf_str(&bytes);
	codec_encode(&entry_bytes, &entry_codec, &entry);
	must(state_apply(s->tables, ++s->index, entry_bytes.p, entry_bytes.n, &applied, &err) == 0);
	if (s->runtime != NULL) {
		runtime_applied(s->runtime, &applied, s->now_ms);
		runtime_run(s->runtime, s->now_ms);
	}
	return applied.results[0];
}

static uint64_t join(struct stage *s, uint64_t node)
{
	struct cmd_node_join body = {.id = node,
				     .name = STR("n"),
				     .raft_address = STR("r:1"),
				     .peer_address = STR("p:1"),
				     .api_address = STR("a:1"),
				     .voter = true,
				     .cpu_milli = 8000,
				     .memory_bytes = 1ull << 34};

	s->epoch[node] = 0;
	s->epoch[node] = stage_apply(s, node, COMMAND_NODE_JOIN, &body).id;
	s->sequence[node] = 0;
	must(s->epoch[node] != 0);
	return s->epoch[node];
}

static struct msg_pool_put pool_put(const struct stage *s)
{
	static struct probe probes[] = {{.kind = PROBE_LIVENESS,
					 .how = PROBE_TCP,
					 .port = 80,
					 .period_s = 5,
					 .failure_threshold = 2,
					 .initial_delay_s = 1}};

	return (struct msg_pool_put){.subscription = STR("s"),
				     .resource_group = STR("g"),
				     .name = STR("p"),
				     .document = STR("{}"),
				     .isolation = s->isolation,
				     .limits = {.max_sessions = 10, .cooldown_ms = 5000, .egress = s->egress},
				     .template = {.container_name = STR("c"),
						  .image = STR("r/i:1"),
						  .cpu_milli = 250,
						  .memory_bytes = 1 << 26,
						  .target_port = 80,
						  .probes = probes,
						  .n_probes = s->with_probes ? 1 : 0}};
}

void stage_egress(struct stage *s, bool on)
{
	struct msg_pool_put put;

	s->egress = on;
	put = pool_put(s);
	put.limits.ready_target = 3;
	must(stage_apply(s, STAGE_NODE, COMMAND_POOL_PUT, &put).code == 0);
	stage_run(s, 0);
}

static void put_pool(struct stage *s)
{
	struct msg_pool_put put = pool_put(s);
	struct str digest = STR("sha256:1");
	struct result r;

	put.new_revision = true;
	r = stage_apply(s, STAGE_NODE, COMMAND_POOL_PUT, &put);
	must(r.code == 0);
	s->pool = r.id;
	put.limits.ready_target = 3; /* room for the sandboxes that tests make; no operation of its own */
	must(stage_apply(s, STAGE_NODE, COMMAND_OPERATION_STEP,
			 &(struct cmd_operation_step){.operation = r.operation,
						      .from = PHASE_RESOLVE,
						      .phase = PHASE_CACHE,
						      .digest = digest})
		     .code == 0);
	must(stage_apply(s, STAGE_NODE, COMMAND_NODE_IMAGES,
			 &(struct cmd_node_images){STAGE_NODE, &digest, 1})
		     .code == 0);
	must(stage_apply(s, STAGE_NODE, COMMAND_OPERATION_STEP,
			 &(struct cmd_operation_step){
				 .operation = r.operation, .from = PHASE_CACHE, .phase = PHASE_SUCCEEDED})
		     .code == 0);
	put.new_revision = false;
	must(stage_apply(s, STAGE_NODE, COMMAND_POOL_PUT, &put).code == 0);
	s->revision = state_pool(s->tables, s->pool)->active_revision;
}

static struct stage *make(bool leads, bool with_probes, uint8_t isolation)
{
	struct stage *s = calloc(1, sizeof *s);
	struct cmd_cluster_init init = {.id = STR("stage"),
					.settings = {.cooldown_ms_min = 1000,
						     .queue_ms = 10000,
						     .lease_ms = 15000,
						     .lost_ms = 20000,
						     .operation_kept_ms = 86400000,
						     .overcommit_cpu = 8,
						     .overcommit_memory = 1}};

	must(s != NULL);
	s->now_ms = 1000;
	s->asked = 500;
	s->with_probes = with_probes;
	s->isolation = isolation;
	s->tables = state_new();
	must(stage_apply(s, STAGE_NODE, COMMAND_CLUSTER_INIT, &init).code == 0);
	join(s, STAGE_NODE);
	join(s, STAGE_OTHER);
	for (uint64_t node = STAGE_NODE; isolation == ISOLATION_VM && node <= STAGE_OTHER; node++)
		must(stage_apply(s, node, COMMAND_NODE_ABLE,
				 &(struct cmd_node_able){.isolations = (1u << ISOLATIONS) - 1})
			     .code == 0);
	put_pool(s);
	s->runtime = runtime_new(&(struct runtime_options){.node = STAGE_NODE,
							   .incarnation = 1,
							   .n_gateway_loops = 2,
							   .state = s->tables,
							   .classes = cast_classes,
							   .n_classes = CAST_CLASSES,
							   .effect = on_effect,
							   .context = s});
	runtime_rescan(s->runtime, s->now_ms);
	if (leads)
		runtime_leading(s->runtime, true, 1, s->now_ms);
	stage_run(s, 0);
	return s;
}

struct stage *stage_new(bool leads, bool with_probes)
{
	return make(leads, with_probes, ISOLATION_CONTAINER);
}

struct stage *stage_new_machines(bool leads)
{
	struct stage *s = make(leads, false, ISOLATION_VM);
	struct str digest = STR("sha256:1");

	must(stage_apply(s, STAGE_OTHER, COMMAND_NODE_IMAGES,
			 &(struct cmd_node_images){STAGE_OTHER, &digest, 1})
		     .code == 0);
	runtime_joined(s->runtime, s->epoch[STAGE_NODE], s->now_ms);
	stage_run(s, 0);
	return s;
}

void stage_free(struct stage *s)
{
	runtime_free(s->runtime);
	state_free(s->tables);
	free(s);
}

void stage_run(struct stage *s, uint64_t for_ms)
{
	uint64_t until_ms = s->now_ms + for_ms;

	runtime_run(s->runtime, s->now_ms);
	for (uint64_t next_ms; (next_ms = runtime_next_ms(s->runtime)) <= until_ms;) {
		s->now_ms = next_ms > s->now_ms ? next_ms : s->now_ms;
		runtime_run(s->runtime, s->now_ms);
	}
	s->now_ms = until_ms;
}

void stage_post(struct stage *s, uint8_t kind, uint64_t key, uint16_t type, uint64_t correlation,
		const void *body)
{
	CLEANUP_BUF struct buf bytes = {0};

	if (message_body_codec[type] != NULL)
		codec_encode(&bytes, message_body_codec[type], body);
	runtime_post(
		s->runtime,
		&(struct envelope){.to = {kind, STAGE_NODE, key},
				   .from = {ADDRESS_API, s->speaks_as_other ? STAGE_OTHER : STAGE_NODE, 1},
				   .type = type,
				   .correlation = correlation,
				   .incarnation = 1,
				   .body = buf_str(&bytes)},
		s->now_ms);
	stage_run(s, 0);
}

const struct seen *stage_next(struct stage *s, uint8_t kind, uint16_t type)
{
	for (; s->looked < s->n_seen; s->looked++) {
		if (s->seen[s->looked].kind == kind && s->seen[s->looked].type == type)
			return &s->seen[s->looked++];
	}
	return NULL;
}

void stage_answer(struct stage *s, const struct seen *to, uint16_t type, const void *body)
{
	must(to != NULL);
	stage_post(s, to->from.kind, to->from.key, type, to->correlation, body);
}

void stage_proposed(struct stage *s, const struct seen *to, int32_t code)
{
	stage_answer(s, to, MSG_PROPOSED, &(struct msg_proposed){.code = code});
}

void stage_driven(struct stage *s, const struct seen *to, int32_t code)
{
	stage_answer(s, to, MSG_DRIVEN,
		     &(struct sandboxd_reply){.code = code, .message = STR("driven"), .wall_ms = 1});
}

void stage_probed(struct stage *s, const struct seen *to, bool ok)
{
	stage_answer(s, to, MSG_PROBED, &(struct msg_probed){ok, STR("refused")});
}

void stage_refused(struct stage *s, const struct seen *to, int32_t code)
{
	stage_answer(s, to, MSG_REFUSED, &(struct msg_refused){code, STR("refused")});
}

void stage_adopted(struct stage *s, uint64_t sandbox, bool running)
{
	struct sandboxd_sandbox one = {.sandbox = sandbox,
				       .pid = 1,
				       .running = true,
				       .frozen = s->runs_frozen,
				       .parked = s->runs_parked,
				       .egress = s->runs_with_egress};

	runtime_adopted(s->runtime, &one, running ? 1 : 0, s->now_ms);
	stage_run(s, 0);
}

uint64_t stage_boot(struct stage *s)
{
	struct result r = stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_BOOT,
				      &(struct cmd_sandbox_boot){s->pool, s->revision, STAGE_NODE});

	must(r.code == 0);
	return r.id;
}
