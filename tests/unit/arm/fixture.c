/* fixture.c -- see fixture.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/fd.h"
#include "fixture.h"
#include "json/build.h"

static int seal(void *context, struct str pool_id, struct str name, struct str plain, struct arena *arena,
		struct str *ret_sealed, struct err *err)
{
	struct fixture *f = context;

	(void)err;
	assert_true(str_starts(pool_id, STR("/subscriptions/")));
	assert_true(name.n > 0);
	f->sealed++;
	*ret_sealed = arena_printf(arena, "sealed:%zu", plain.n);
	return 0;
}

static void hash_identifier(void *context, struct str identifier, char ret_hex[33])
{
	(void)context;
	snprintf(ret_hex, 33, "%016llx%016llx", (unsigned long long)str_hash_stable(identifier, 1),
		 (unsigned long long)str_hash_stable(identifier, 2));
}

struct result fixture_apply(struct fixture *f, uint16_t type, const void *body)
{
	CLEANUP_BUF struct buf command_body = {0}, text = {0};
	struct command command = {.type = (uint8_t)type, .feature = 1, .node = 1, .epoch = f->epoch};
	struct entry entry = {.incarnation = 1, .time_ms = f->now_ms, .commands = &command, .n_commands = 1};
	struct applied applied;
	struct err err = {0};

	codec_encode(&command_body, command_body_codec[type], body);
	command.body = buf_str(&command_body);
	command.sequence = ++f->sequence;
	codec_encode(&text, &entry_codec, &entry);
	assert_int_equal(state_apply(f->state, ++f->index, text.p, text.n, &applied, &err), 0);
	assert_int_equal(applied.n_results, 1);
	if (applied.results[0].code != 0)
		print_message("%s: %.*s\n", command_type_name[type], STR_ARGS(applied.results[0].message));
	return applied.results[0];
}

void fixture_init(struct fixture *f)
{
	fixture_init_with(f, ISOLATION_CONTAINER);
}

void fixture_init_with(struct fixture *f, uint8_t isolation)
{
	static const struct arm_role roles[] = {{STR("Owner"), STR("/")},
						{STR("Azure ContainerApps Session Executor"), STR("/")}};
	struct cmd_cluster_init init = {.id = STR("11111111-2222-3333-4444-555555555555")};
	struct cmd_node_join join = {.id = 1,
				     .name = STR("n1"),
				     .raft_address = STR("127.0.0.1:1"),
				     .voter = true,
				     .cpu_milli = 4000,
				     .memory_bytes = 8ull << 30};

	*f = (struct fixture){.now_ms = 1767225600000, .arm.node = 1, .arm.leader = 1};
	f->state = state_new();
	f->host = STR("berth.example:8443");
	f->arm.url = STR("https://berth.example:8443");
	f->arm.context = f;
	f->arm.seal = seal;
	f->arm.hash_identifier = hash_identifier;
	f->caller = (struct arm_caller){.subject = STR("tester"), .roles = roles, .n_roles = 2};
	init.settings = (struct settings){.cooldown_ms_min = 300000,
					  .queue_ms = 10000,
					  .lease_ms = 15000,
					  .lost_ms = 20000,
					  .operation_kept_ms = 86400000,
					  .overcommit_cpu = 8,
					  .overcommit_memory = 1,
					  .domain = STR("berth.example"),
					  .environment = STR("env"),
					  .region = STR("local"),
					  .isolation = isolation,
					  .tenant = STR("72f988bf-86f1-41af-91ab-2d7cd011db47")};
	assert_int_equal(fixture_apply(f, COMMAND_CLUSTER_INIT, &init).code, 0);
	f->epoch = fixture_apply(f, COMMAND_NODE_JOIN, &join).id;
	f->sequence = 0;
	assert_true(f->epoch > 0);
}

static void clear(struct fixture *f)
{
	arm_reply_done(&f->reply);
	json_decref(f->body);
	f->body = NULL;
	arena_done(&f->arena);
}

void fixture_done(struct fixture *f)
{
	clear(f);
	state_free(f->state);
}

/* Plays the actors. */
static void answer(struct fixture *f)
{
	if (f->outcome.type == MSG_STOP) {
		const struct msg_stop *stop = f->outcome.body;
		struct msg_stopped stopped = {.code = f->answer_code};

		if (state_session(f->state, stop->pool, stop->identifier) == NULL)
			stopped.code = -2;
		arm_answer(&f->arm, &f->outcome, f->state, MSG_STOPPED, &stopped, &f->arena, &f->reply);
	} else if (f->answer_code != 0) {
		struct msg_refused refused = {.code = f->answer_code, .message = STR("no leader")};

		arm_answer(&f->arm, &f->outcome, f->state, MSG_REFUSED, &refused, &f->arena, &f->reply);
	} else {
		bool put = f->outcome.type == MSG_POOL_PUT;
		struct result r =
			fixture_apply(f, put ? COMMAND_POOL_PUT : COMMAND_POOL_DELETE, f->outcome.body);
		struct msg_pool_answer a = {.code = r.code,
					    .message = r.message,
					    .pool = r.id,
					    .operation = r.operation,
					    .created = r.created};

		f->operation = r.operation;
		f->last_pool = r.id;
		assert_true(arm_shown(f->state, MSG_POOL_ANSWER, &a));
		arm_answer(&f->arm, &f->outcome, f->state, MSG_POOL_ANSWER, &a, &f->arena, &f->reply);
	}
}

int fixture_call(struct fixture *f, const char *method, const char *path, const char *query, struct str body)
{
	struct arm_request request = {.method = str_of(method),
				      .path = str_of(path),
				      .query = str_of(query),
				      .body = body,
				      .scheme = STR("https"),
				      .host = f->host,
				      .caller = f->caller,
				      .now_ms = f->now_ms,
				      .pool = f->pool};

	clear(f);
	f->now_ms += 1000;
	arm_handle(&f->arm, &request, f->state, &f->arena, &f->outcome);
	if (f->outcome.kind == ARM_ASK) { /* every session was used one second ago */
		for (uint32_t i = 0; i < f->outcome.n_asks; i++)
			f->outcome.asks[i].at_ms = f->now_ms - 1000;
		request.activity = f->outcome.asks;
		request.n_activity = f->outcome.n_asks;
		arm_handle(&f->arm, &request, f->state, &f->arena, &f->outcome);
		assert_int_not_equal(f->outcome.kind, ARM_ASK);
	}
	if (f->outcome.kind == ARM_POST)
		answer(f);
	else
		f->reply = f->outcome.reply;
	if (f->outcome.kind == ARM_TASK)
		return 0;
	buf_cstr(&f->reply.body); /* terminated, so that tests can search it */
	if (f->reply.body.n > 0 && f->reply.body.p[0] == '{')
		assert_int_equal(
			json_parse(buf_str(&f->reply.body), &(struct json_bounds){0}, &f->body, NULL), 0);
	if (f->reply.status >= 400 && f->pool == 0) {
		assert_non_null(json_at(f->body, "error.code"));
		assert_non_null(json_at(f->body, "error.message"));
	}
	return f->reply.status;
}

int fixture_json(struct fixture *f, const char *method, const char *path, const char *query,
		 const json_t *body)
{
	CLEANUP_BUF struct buf text = {0};

	json_print(&text, body, false);
	return fixture_call(f, method, path, query, buf_str(&text));
}

void fixture_finish(struct fixture *f, bool ok)
{
	const struct operation_row *row = state_operation(f->state, f->operation);
	struct cmd_operation_step step = {.operation = f->operation};

	assert_non_null(row);
	if (row->phase == PHASE_RESOLVE && ok) {
		step.from = PHASE_RESOLVE;
		step.phase = PHASE_CACHE;
		step.digest = STR("sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
		assert_int_equal(fixture_apply(f, COMMAND_OPERATION_STEP, &step).code, 0);
	}
	row = state_operation(f->state, f->operation);
	step = (struct cmd_operation_step){
		.operation = f->operation, .from = row->phase, .phase = ok ? PHASE_SUCCEEDED : PHASE_FAILED};
	if (!ok) {
		step.code = STR("ImagePullFailed");
		step.message = STR("the registry refused");
	}
	assert_int_equal(fixture_apply(f, COMMAND_OPERATION_STEP, &step).code, 0);
}

const char *fixture_header(const struct fixture *f, const char *name)
{
	for (uint32_t i = 0; i < f->reply.n_headers; i++)
		if (strcmp(f->reply.headers[i].name, name) == 0)
			return f->reply.headers[i].value.p;
	return NULL;
}

json_t *fixture_load(const char *path)
{
	CLEANUP_BUF struct buf text = {0};
	char full[512];
	json_t *ret = NULL;
	struct err err = {0};

	snprintf(full, sizeof full, "%s/%s", TEST_DATA, path);
	assert_int_equal(fd_read_file(full, 1 << 20, &text, &err), 0);
	assert_int_equal(json_parse(buf_str(&text), &(struct json_bounds){0}, &ret, &err), 0);
	return ret;
}

json_t *fixture_resource(void)
{
	json_t *example =
		fixture_load("azure-spec/management-2024-08-02-preview/SessionPools_CreateOrUpdate.json");
	json_t *ret = json_incref(json_at(example, "parameters.sessionPoolEnvelope"));

	json_decref(example);
	assert_non_null(ret);
	return ret;
}
