/* Pool, cache and images: what each does with messages that the paths do not bring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "pool/pool.h"
#include "sim/blank.h"
#include "stage.h"

static struct stage *s;

static struct msg_pool_put put_body(const char *image)
{
	return (struct msg_pool_put){.subscription = STR("s"),
				     .resource_group = STR("g"),
				     .name = STR("p"),
				     .document = STR("{}"),
				     .limits = {.max_sessions = 10, .ready_target = 3, .cooldown_ms = 5000},
				     .template = {.container_name = STR("c"),
						  .image = str_of(image),
						  .cpu_milli = 250,
						  .memory_bytes = 1 << 26,
						  .target_port = 80},
				     .new_revision = true};
}

/* -- Pool ---------------------------------------------------------------------------------------------------- */

static void pool_in(enum pool_actor_state state)
{
	struct msg_pool_put put = put_body("r/i:2");
	struct str digest = STR("sha256:9");

	s = stage_new(true, false);
	if (state == POOL_ACTOR_IDLE)
		return;
	stage_apply(s, STAGE_NODE, COMMAND_POOL_PUT, &put);
	if (state == POOL_ACTOR_RESOLVING)
		return;
	if (state == POOL_ACTOR_BACKING) {
		stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_RESOLVE), -ETIMEDOUT);
		return;
	}
	stage_answer(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_RESOLVE), MSG_DRIVEN,
		     &(struct sandboxd_reply){.digest = digest});
	if (state == POOL_ACTOR_STEPPING)
		return;
	stage_apply(s, STAGE_NODE, COMMAND_OPERATION_STEP,
		    &(struct cmd_operation_step){.operation = state_pool(s->tables, s->pool)->operation,
						 .from = PHASE_RESOLVE,
						 .phase = PHASE_CACHE,
						 .digest = digest});
}

static const enum pool_actor_state working[] = {POOL_ACTOR_IDLE, POOL_ACTOR_RESOLVING, POOL_ACTOR_CACHING,
						POOL_ACTOR_STEPPING, POOL_ACTOR_BACKING};

static void test_pool_takes_changes_in_every_state(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof working / sizeof *working; i++) {
		struct msg_pool_put put = put_body("r/i:3");

		pool_in(working[i]);
		stage_post(s, ADDRESS_POOL, s->pool, MSG_POOL_PUT, 41, &put);
		stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_POOL_PUT), -EBUSY);
		assert_int_equal(stage_next(s, EFFECT_SEND, MSG_POOL_ANSWER)->code, -EBUSY);
		stage_post(s, ADDRESS_POOL, s->pool, MSG_POOL_DELETE, 42, &(struct msg_pool_delete){s->pool});
		stage_refused(s, stage_next(s, EFFECT_PROPOSE, COMMAND_POOL_DELETE), -ETIMEDOUT);
		assert_int_equal(stage_next(s, EFFECT_SEND, MSG_POOL_ANSWER)->code, -ETIMEDOUT);
		stage_free(s);
	}
}

/* Its node proposes it, whoever leads. */
static void test_pool_takes_changes_without_leadership(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof working / sizeof *working; i++) {
		struct msg_pool_put put = put_body("r/i:3");

		pool_in(working[i]);
		stage_post(s, ADDRESS_POOL, s->pool, MSG_POOL_PUT, 41, &put);
		runtime_leading(s->runtime, false, 2, s->now_ms);
		stage_run(s, 0);
		stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_POOL_PUT), 0);
		assert_int_equal(stage_next(s, EFFECT_SEND, MSG_POOL_ANSWER)->correlation, 41);
		stage_post(s, ADDRESS_POOL, s->pool, MSG_POOL_DELETE, 43, &(struct msg_pool_delete){s->pool});
		stage_refused(s, stage_next(s, EFFECT_PROPOSE, COMMAND_POOL_DELETE), -ETIMEDOUT);
		assert_int_equal(stage_next(s, EFFECT_SEND, MSG_POOL_ANSWER)->correlation, 43);
		stage_post(s, ADDRESS_POOL, s->pool, MSG_POOL_PUT, 44, &put);
		stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_POOL_PUT), -EBUSY);
		assert_int_equal(stage_next(s, EFFECT_SEND, MSG_POOL_ANSWER)->code, -EBUSY);
		/* but its steps are the leader's */
		s->looked = s->n_seen;
		stage_apply(s, STAGE_OTHER, COMMAND_POOL_PUT, &put);
		stage_run(s, 60000);
		assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_RESOLVE));
		stage_free(s);
	}
}

/* A newer PUT: whatever was under way, its own operation is resolved. */
static void test_pool_turns_to_a_newer_operation(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof working / sizeof *working; i++) {
		struct msg_pool_put put = put_body("r/i:3");

		pool_in(working[i]);
		s->looked = s->n_seen;
		stage_apply(s, STAGE_NODE, COMMAND_POOL_PUT, &put);
		assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_RESOLVE));
		stage_free(s);
	}
}

static void test_pool_causes(void **state)
{
	const struct seen *step;

	(void)state;
	pool_in(POOL_ACTOR_RESOLVING);
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_RESOLVE), -ENOENT);
	step = stage_next(s, EFFECT_PROPOSE, COMMAND_OPERATION_STEP);
	assert_int_equal(step->code, PHASE_FAILED);
	assert_string_equal(step->text, "ImageNotFound");
	stage_refused(s, step, -ETIMEDOUT); /* unknown: looked up, done again */
	assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_RESOLVE));
	stage_free(s);
	pool_in(POOL_ACTOR_STEPPING);
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_OPERATION_STEP), -EAGAIN);
	stage_run(s, 1000);
	assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_RESOLVE));
	stage_free(s);
	pool_in(POOL_ACTOR_BACKING);
	stage_run(s, 1000);
	assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_RESOLVE));
	stage_run(s, 61000); /* no answer at all */
	stage_run(s, 5000);
	assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_RESOLVE));
	stage_free(s);
}

/* Every node says that the image is not there. */
static void test_pool_nodes_cannot_cache(void **state)
{
	const struct seen *ask, *step;

	(void)state;
	pool_in(POOL_ACTOR_CACHING);
	ask = stage_next(s, EFFECT_SEND, MSG_CACHE); /* to the other node */
	assert_int_equal(ask->to.node, STAGE_OTHER);
	stage_post(s, ADDRESS_POOL, s->pool, MSG_CACHED, ask->correlation,
		   &(struct msg_cached){.code = -EACCES, .message = STR("no")});
	s->looked = 0;
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL), -EACCES);
	for (step = stage_next(s, EFFECT_PROPOSE, COMMAND_OPERATION_STEP);
	     step != NULL && step->code != PHASE_FAILED;)
		step = stage_next(s, EFFECT_PROPOSE, COMMAND_OPERATION_STEP);
	assert_non_null(step);
	assert_string_equal(step->text, "RegistryCredentialsRefused");
	stage_free(s);
	pool_in(POOL_ACTOR_CACHING); /* a node that refuses to answer may do so for a while: tried again */
	ask = stage_next(s, EFFECT_SEND, MSG_CACHE);
	stage_post(s, ADDRESS_POOL, s->pool, MSG_REFUSED, ask->correlation,
		   &(struct msg_refused){-ENOENT, STR("x")});
	s->looked = 0;
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL), -ETIMEDOUT);
	s->looked = s->n_seen;
	stage_run(s, 1000);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_CACHE));
	stage_free(s);
	pool_in(POOL_ACTOR_CACHING); /* also when another one's cause would not pass, whichever comes last */
	ask = stage_next(s, EFFECT_SEND, MSG_CACHE);
	stage_post(s, ADDRESS_POOL, s->pool, MSG_REFUSED, ask->correlation,
		   &(struct msg_refused){-ENOENT, STR("x")});
	s->looked = 0;
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL), -EACCES);
	s->looked = s->n_seen;
	stage_run(s, 1000);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_CACHE));
	stage_free(s);
}

/* -- Cache and images ------------------------------------------------------------------------------------------ */

static void ask_cache(uint64_t correlation, const char *digest)
{
	stage_post(s, ADDRESS_CACHE, s->pool, MSG_CACHE, correlation,
		   &(struct msg_cache){s->pool, STR("r/i:1"), str_of(digest)});
}

static void test_cache_answers(void **state)
{
	const struct seen *pull;

	(void)state;
	pool_in(POOL_ACTOR_IDLE);
	ask_cache(51, "sha256:1");
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_CACHED)->code, 0);
	stage_free(s);
	pool_in(POOL_ACTOR_CACHING);
	pull = stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL);
	ask_cache(52, "sha256:9");
	stage_driven(s, pull, -ENOSPC);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_CACHED)->code, -ENOSPC);
	stage_run(s, 1500); /* again by itself */
	pull = stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL);
	stage_driven(s, pull, -ENOSPC);
	ask_cache(53, "sha256:9"); /* somebody waits: at once */
	assert_non_null(pull = stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL));
	stage_refused(s, pull, -ETIMEDOUT);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_CACHED)->code, -ETIMEDOUT);
	stage_free(s);
}

/* The active image went away and its registry lost it; the update's image is not kept waiting for its back-off. */
static void test_cache_pulls_what_is_asked_for_first(void **state)
{
	struct msg_pool_put put = put_body("r/i:2");
	const struct seen *pull;

	(void)state;
	s = stage_new(false, false);
	stage_apply(s, STAGE_NODE, COMMAND_NODE_IMAGES, &(struct cmd_node_images){.node = STAGE_NODE});
	stage_apply(s, STAGE_NODE, COMMAND_POOL_PUT, &put);
	pull = stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL);
	assert_string_equal(pull->text, "sha256:1");
	stage_apply(s, STAGE_NODE, COMMAND_OPERATION_STEP,
		    &(struct cmd_operation_step){.operation = state_pool(s->tables, s->pool)->operation,
						 .from = PHASE_RESOLVE,
						 .phase = PHASE_CACHE,
						 .digest = STR("sha256:9")});
	ask_cache(55, "sha256:9");
	stage_driven(s, pull, -ENOENT);
	pull = stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL);
	assert_non_null(pull); /* at once */
	assert_string_equal(pull->text, "sha256:9");
	stage_driven(s, pull, -ENOSPC);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_CACHED)->code, -ENOSPC);
	assert_null(stage_next(s, EFFECT_DRIVE,
			       SANDBOXD_PULL)); /* nobody waits any more: not before the back-off is over */
	ask_cache(56, "sha256:9");
	pull = stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL);
	assert_string_equal(pull->text, "sha256:9");
	stage_free(s);
}

static void test_cache_ends_with_its_pool(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		uint32_t actors;

		pool_in(i == 0 ? POOL_ACTOR_IDLE : POOL_ACTOR_CACHING);
		if (i == 2)
			stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL), -ENOSPC);
		actors = runtime_counters(s->runtime).actors;
		stage_apply(s, STAGE_NODE, COMMAND_POOL_DELETE, &(struct msg_pool_delete){s->pool});
		assert_null(state_pool(s->tables, s->pool));
		assert_int_equal(runtime_counters(s->runtime).actors,
				 actors - 2); /* the pool's and the cache's */
		s->looked = s->n_seen;
		ask_cache(54, "sha256:9");
		assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->code, -ENOENT);
		stage_free(s);
	}
}

/* Nobody asks; the tables say that a revision will need it. */
static void test_cache_pulls_by_itself(void **state)
{
	struct msg_pool_put put = put_body("r/i:2");

	(void)state;
	s = stage_new(false, false);
	stage_apply(s, STAGE_NODE, COMMAND_POOL_PUT, &put);
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL));
	stage_apply(s, STAGE_NODE, COMMAND_OPERATION_STEP,
		    &(struct cmd_operation_step){.operation = state_pool(s->tables, s->pool)->operation,
						 .from = PHASE_RESOLVE,
						 .phase = PHASE_CACHE,
						 .digest = STR("sha256:9")});
	assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_PULL));
	stage_free(s);
}

static void test_images_are_listed_again(void **state)
{
	(void)state;
	s = stage_new(false, false);
	stage_adopted(s, 0, false);
	stage_refused(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_IMAGES), -ETIMEDOUT);
	stage_run(s, 2500);
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_IMAGES), -ENOTCONN);
	stage_run(s, 2500);
	assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_IMAGES));
	stage_free(s);
}

/* Something new while the list is asked for or proposed: listed once more. */
static void test_images_that_come_meanwhile(void **state)
{
	struct sandboxd_image_state two[2] = {{.digest = STR("sha256:1")}, {.digest = STR("sha256:2")}};
	struct sandboxd_reply reply = {.images = two, .n_images = 2};

	(void)state;
	for (int i = 0; i < 5; i++) {
		const struct seen *proposal;

		s = stage_new(false, false);
		stage_adopted(s, 0, false);
		if (i == 1)
			stage_adopted(s, 0, false);
		if (i == 2)
			stage_post(s, ADDRESS_IMAGES, 0, MSG_CACHED, 0, &(struct msg_cached){0});
		stage_answer(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_IMAGES), MSG_DRIVEN, &reply);
		if (i == 3)
			stage_adopted(s, 0, false);
		if (i == 4)
			stage_post(s, ADDRESS_IMAGES, 0, MSG_CACHED, 0, &(struct msg_cached){0});
		proposal = stage_next(s, EFFECT_PROPOSE, COMMAND_NODE_IMAGES);
		if (i % 2 == 0)
			stage_proposed(s, proposal, 0);
		else
			stage_refused(s, proposal, -ETIMEDOUT);
		if (i == 0)
			assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_IMAGES));
		else
			assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_IMAGES));
		stage_free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_takes_changes_in_every_state),
		cmocka_unit_test(test_pool_takes_changes_without_leadership),
		cmocka_unit_test(test_pool_turns_to_a_newer_operation),
		cmocka_unit_test(test_pool_causes),
		cmocka_unit_test(test_pool_nodes_cannot_cache),
		cmocka_unit_test(test_cache_answers),
		cmocka_unit_test(test_cache_pulls_what_is_asked_for_first),
		cmocka_unit_test(test_cache_ends_with_its_pool),
		cmocka_unit_test(test_cache_pulls_by_itself),
		cmocka_unit_test(test_images_are_listed_again),
		cmocka_unit_test(test_images_that_come_meanwhile),
	};

	blank_from_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
