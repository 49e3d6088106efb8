/* fuzz_arm.c -- a request as bytes: the first line is "METHOD path?query", the rest is the body. It goes through routes,
 * validation and answers over tables with one pool; a second request with the same body patches that pool. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "arm/arm.h"
#include "core/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define POOL "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/pool"

static struct state *state;
static uint64_t index_last, sequence;

static struct result apply(uint8_t type, uint64_t epoch, const void *body)
{
	CLEANUP_BUF struct buf command_body = {0}, text = {0};
	struct command command = {.type = type, .feature = 1, .node = 1, .epoch = epoch};
	struct entry entry = {
		.incarnation = 1, .time_ms = 1767225600000, .commands = &command, .n_commands = 1};
	struct applied applied;

	sequence++;
	command.sequence = sequence;
	codec_encode(&command_body, command_body_codec[type], body);
	command.body = buf_str(&command_body);
	codec_encode(&text, &entry_codec, &entry);
	must(state_apply(state, ++index_last, text.p, text.n, &applied, NULL) == 0);
	must(applied.results[0].code == 0);
	return applied.results[0];
}

static void prepare(void)
{
	struct cmd_cluster_init init = {.id = STR("c")};
	struct cmd_node_join join = {
		.id = 1, .name = STR("n1"), .voter = true, .cpu_milli = 4000, .memory_bytes = 1ull << 33};
	struct msg_pool_put put = {.subscription = STR("s"),
				   .resource_group = STR("g"),
				   .name = STR("pool"),
				   .new_revision = true};
	uint64_t epoch;

	init.settings = (struct settings){.cooldown_ms_min = 300000,
					  .queue_ms = 10000,
					  .lease_ms = 15000,
					  .lost_ms = 20000,
					  .operation_kept_ms = 86400000,
					  .overcommit_cpu = 8,
					  .overcommit_memory = 1};
	put.document = STR(
		"{\"location\":\"l\",\"properties\":{\"scaleConfiguration\":{\"maxConcurrentSessions\":10,"
		"\"readySessionInstances\":1},\"customContainerTemplate\":{\"containers\":[{\"image\":\"a:"
		"1\",\"name\":"
		"\"c\",\"resources\":{\"cpu\":0.25,\"memory\":\"0.5Gi\"}}],\"ingress\":{\"targetPort\":80}}}"
		"}");
	put.limits = (struct pool_limits){.max_sessions = 10, .ready_target = 1, .cooldown_ms = 300000};
	put.template = (struct template){.container_name = STR("c"),
					 .image = STR("a:1"),
					 .cpu_milli = 250,
					 .memory_bytes = 1ull << 29,
					 .target_port = 80};
	state = state_new();
	apply(COMMAND_CLUSTER_INIT, 0, &init);
	epoch = apply(COMMAND_NODE_JOIN, 0, &join).id;
	sequence = 0;
	apply(COMMAND_POOL_PUT, epoch, &put);
}

static int seal(void *context, struct str pool_id, struct str name, struct str plain, struct arena *arena,
		struct str *ret_sealed, struct err *err)
{
	(void)context, (void)pool_id, (void)name, (void)err;
	*ret_sealed = arena_printf(arena, "%zu", plain.n);
	return 0;
}

static void hash_identifier(void *context, struct str identifier, char ret_hex[33])
{
	(void)context, (void)identifier;
	ret_hex[0] = '\0';
}

static void handle(struct arm_request *request)
{
	static const struct arm arm = {
		.url = {"https://x", 9}, .seal = seal, .hash_identifier = hash_identifier};
	CLEANUP_ARENA struct arena arena = {0};
	CLEANUP_BUF struct buf message = {0};
	struct arm_outcome outcome;
	struct arm_reply reply = {0};

	request->caller.local = true;
	request->now_ms = 1767225600000;
	request->scheme = STR("https");
	arm_handle(&arm, request, state, &arena, &outcome);
	if (outcome.kind == ARM_ASK) {
		request->activity = outcome.asks;
		request->n_activity = outcome.n_asks;
		arm_handle(&arm, request, state, &arena, &outcome);
	}
	if (outcome.kind == ARM_POST) {
		struct msg_pool_answer answer = {.pool = 1, .operation = 5};
		struct msg_stopped stopped = {0};

		codec_encode(&message, message_body_codec[outcome.type], outcome.body);
		if (outcome.type == MSG_STOP)
			arm_answer(&arm, &outcome, state, MSG_STOPPED, &stopped, &arena, &reply);
		else
			arm_answer(&arm, &outcome, state, MSG_POOL_ANSWER, &answer, &arena, &reply);
	}
	must(outcome.kind != ARM_REPLY || outcome.reply.status >= 200);
	arm_reply_done(&outcome.reply);
	arm_reply_done(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str input = {(const char *)data, size}, line, body, method, target;
	struct arm_request request = {0};

	if (state == NULL)
		prepare();
	if (!str_cut(input, '\n', &line, &body))
		return 0;
	str_cut(line, ' ', &method, &target);
	request.method = method;
	str_cut(target, '?', &request.path, &request.query);
	request.body = body;
	request.host = STR("h");
	handle(&request);
	request = (struct arm_request){.method = STR("PATCH"),
				       .path = STR(POOL),
				       .query = STR("api-version=2025-02-02-preview"),
				       .body = body};
	handle(&request);
	return 0;
}
