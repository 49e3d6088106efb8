/* The cluster's keys: next until all have it, active, retiring while anything is of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "wire/sealed.h"
#include "machine.h"

static int code(struct machine *m, uint64_t node, uint8_t type, const void *body)
{
	return machine_do(m, node, type, body)->code;
}

static struct str sealed_under(uint64_t key, char text[SEALED_HEAD + 4])
{
	text[0] = SEALED_VERSION;
	for (int i = 0; i < 8; i++)
		text[1 + i] = (char)(uint8_t)(key >> (56 - 8 * i));
	memcpy(text + SEALED_HEAD, "text", 4);
	return (struct str){text, SEALED_HEAD + 4};
}

static uint64_t put(struct machine *m, uint8_t kind, uint64_t keep_ms)
{
	struct cmd_key_put body = {{kind, STR("sealed"), STR("public"), keep_ms}};
	const struct result *result = machine_do(m, 1, COMMAND_KEY_PUT, &body);

	assert_int_equal(result->code, 0);
	return result->id;
}

static void have(struct machine *m, uint64_t key, uint64_t ca)
{
	for (uint64_t node = 1; node <= 2; node++)
		assert_int_equal(code(m, node, COMMAND_NODE_KEYS, &(struct cmd_node_keys){key, ca}), 0);
}

static void use(struct machine *m, uint64_t key)
{
	have(m, key, 0);
	assert_int_equal(code(m, 1, COMMAND_KEY_USE, &(struct cmd_key){key}), 0);
	assert_int_equal(state_key(m->s, key)->state, KEY_ACTIVE);
}

static int retire(struct machine *m, uint64_t key, bool early)
{
	return code(m, 1, COMMAND_KEY_RETIRE, &(struct cmd_key_retire){key, early});
}

static void test_first_keys(void **unused)
{
	struct machine m;
	struct key_put keys[] = {{KEY_SECRETS, STR("a"), STR_NONE, 0}, {KEY_CA, STR("b"), STR_NONE, 0}};
	struct cmd_cluster_init init = {
		.id = STR("c"),
		.keys = keys,
		.n_keys = 2,
		.settings = {.lease_ms = 1000, .lost_ms = 2000, .overcommit_cpu = 1, .overcommit_memory = 1}};

	(void)unused;
	machine_init(&m);
	assert_int_equal(code(&m, 1, COMMAND_CLUSTER_INIT, &init),
			 -EINVAL); /* a CA without its certificate */
	keys[1] = keys[0];
	assert_int_equal(code(&m, 1, COMMAND_CLUSTER_INIT, &init), -EINVAL); /* two of a kind */
	keys[1] = (struct key_put){KEY_ISSUER, STR("b"), STR("public"), 7};
	assert_int_equal(code(&m, 1, COMMAND_CLUSTER_INIT, &init), 0);
	assert_true(str_eq(state_active_key(m.s, KEY_SECRETS)->sealed, STR("a")));
	assert_true(str_eq(state_active_key(m.s, KEY_ISSUER)->public_part, STR("public")));
	assert_int_equal(state_active_key(m.s, KEY_ISSUER)->keep_ms, 7);
	assert_null(state_active_key(m.s, KEY_CA));
	machine_done(&m);
}

static void test_life_of_an_issuer(void **unused)
{
	struct machine m;
	uint64_t first, second;
	struct cmd_key_put again = {{KEY_ISSUER, STR("sealed"), STR("public"), 0}};

	(void)unused;
	machine_init(&m);
	machine_start(&m, 2);
	first = put(&m, KEY_ISSUER, 5000);
	assert_int_equal(code(&m, 1, COMMAND_KEY_PUT, &again), -EBUSY);                    /* one at a time */
	assert_int_equal(code(&m, 1, COMMAND_KEY_USE, &(struct cmd_key){first}), -EAGAIN); /* nobody has it */
	assert_int_equal(code(&m, 1, COMMAND_NODE_KEYS, &(struct cmd_node_keys){first, 0}), 0);
	assert_int_equal(code(&m, 1, COMMAND_KEY_USE, &(struct cmd_key){first}),
			 -EAGAIN); /* node 2 not yet */
	assert_null(state_active_key(m.s, KEY_ISSUER));
	use(&m, first);
	assert_int_equal(code(&m, 1, COMMAND_KEY_USE, &(struct cmd_key){first}), -EALREADY);
	assert_int_equal(retire(&m, first, true), -EBUSY);
	second = put(&m, KEY_ISSUER, 5000);
	use(&m, second);
	assert_int_equal(state_key(m.s, first)->state, KEY_RETIRING);
	m.now_ms += 4999;
	assert_int_equal(retire(&m, first, false), -EAGAIN); /* tokens of it may live yet */
	m.now_ms += 1;
	assert_int_equal(retire(&m, first, false), 0);
	assert_int_equal(retire(&m, first, false), -ENOENT);
	first = put(&m, KEY_ISSUER, 5000);
	assert_int_equal(retire(&m, first, false), 0); /* `next` was never used */
	first = put(&m, KEY_ISSUER, 5000);
	use(&m, first);
	assert_int_equal(retire(&m, second, true), 0);
	machine_done(&m);
}

/* A lost node holds nothing up: it has them once it joined anew. */
static void test_lost_node_is_not_waited_for(void **unused)
{
	struct machine m;
	uint64_t key;

	(void)unused;
	machine_init(&m);
	machine_start(&m, 2);
	key = put(&m, KEY_ISSUER, 0);
	m.now_ms += 3600000;
	assert_int_equal(code(&m, 1, COMMAND_NODE_RENEW,
			      &(struct cmd_node_renew){&(struct renewal){.node = 1, .epoch = m.epoch[1]}, 1}),
			 0);
	assert_int_equal(code(&m, 1, COMMAND_NODE_LOST,
			      &(struct cmd_node_lost){2, m.epoch[2], state_node(m.s, 2)->renewed_ms}),
			 0);
	assert_int_equal(code(&m, 1, COMMAND_NODE_KEYS, &(struct cmd_node_keys){key, 0}), 0);
	assert_int_equal(code(&m, 1, COMMAND_KEY_USE, &(struct cmd_key){key}), 0);
	machine_done(&m);
}

static void test_ca_goes_with_its_last_certificate(void **unused)
{
	struct machine m;
	uint64_t first, second;

	(void)unused;
	machine_init(&m);
	machine_start(&m, 2);
	first = put(&m, KEY_CA, 0);
	use(&m, first);
	have(&m, first, first);
	second = put(&m, KEY_CA, 0);
	have(&m, second, first);
	assert_int_equal(code(&m, 1, COMMAND_KEY_USE, &(struct cmd_key){second}), 0);
	assert_int_equal(retire(&m, first, true), -EBUSY);
	assert_int_equal(code(&m, 1, COMMAND_NODE_KEYS, &(struct cmd_node_keys){second, second}), 0);
	assert_int_equal(retire(&m, first, true), -EBUSY); /* node 2 has not renewed */
	have(&m, second, second);
	assert_int_equal(retire(&m, first, false), 0);
	assert_int_equal(code(&m, 1, COMMAND_NODE_KEYS, &(struct cmd_node_keys){UINT64_MAX, 0}), -EINVAL);
	machine_done(&m);
}

static void test_secrets_are_sealed_anew(void **unused)
{
	struct machine m;
	uint64_t first, second, pool;
	char one[SEALED_HEAD + 4], two[SEALED_HEAD + 4];
	struct secret_put secret = {.name = STR("password")};
	struct msg_pool_put pool_put = machine_put("p", 4, 0);
	struct cmd_secret_reseal reseal = {.name = STR("password")};

	(void)unused;
	machine_init(&m);
	machine_start(&m, 2);
	first = put(&m, KEY_SECRETS, 0);
	use(&m, first);
	secret.sealed = sealed_under(first + 77, one);
	pool_put.secrets = &secret;
	pool_put.n_secrets = 1;
	assert_int_equal(code(&m, 1, COMMAND_POOL_PUT, &pool_put), -ESTALE); /* no such key */
	secret.sealed = sealed_under(first, one);
	pool = reseal.pool = machine_do(&m, 1, COMMAND_POOL_PUT, &pool_put)->id;
	assert_int_equal(m.applied.results[0].code, 0);
	second = put(&m, KEY_SECRETS, 0);
	use(&m, second);
	assert_int_equal(state_secrets_of_key(m.s, first), 1);
	assert_int_equal(retire(&m, first, true), -EBUSY);
	reseal.sealed = sealed_under(second, two);
	assert_int_equal(code(&m, 1, COMMAND_SECRET_RESEAL, &reseal), -ESTALE); /* not what was opened */
	reseal.was = str_hash_stable(secret.sealed, 0);
	reseal.sealed = secret.sealed;
	assert_int_equal(code(&m, 1, COMMAND_SECRET_RESEAL, &reseal), -ESTALE); /* not the active key */
	reseal.sealed = sealed_under(second, two);
	assert_int_equal(code(&m, 1, COMMAND_SECRET_RESEAL, &reseal), 0);
	assert_true(str_eq(state_secret(m.s, pool, STR("password"))->sealed, reseal.sealed));
	assert_int_equal(retire(&m, first, false), 0);
	reseal.name = STR("other");
	assert_int_equal(code(&m, 1, COMMAND_SECRET_RESEAL, &reseal), -ENOENT);
	machine_done(&m);
}

static void test_workers_have_no_say(void **unused)
{
	struct machine m;
	struct cmd_node_join worker = {.id = 7, .cpu_milli = 1000, .memory_bytes = 1 << 30};
	struct cmd_key_put key = {{KEY_ISSUER, STR("sealed"), STR("public"), 0}};
	uint64_t id;

	(void)unused;
	machine_init(&m);
	machine_start(&m, 2);
	m.epoch[7] = machine_do(&m, 7, COMMAND_NODE_JOIN, &worker)->id;
	assert_int_equal(code(&m, 7, COMMAND_KEY_PUT, &key), -EPERM);
	id = put(&m, KEY_ISSUER, 0);
	assert_int_equal(code(&m, 7, COMMAND_KEY_USE, &(struct cmd_key){id}), -EPERM);
	assert_int_equal(code(&m, 7, COMMAND_KEY_RETIRE, &(struct cmd_key_retire){id, true}), -EPERM);
	assert_int_equal(code(&m, 7, COMMAND_SECRET_RESEAL, &(struct cmd_secret_reseal){.name = STR("x")}),
			 -EPERM);
	assert_int_equal(code(&m, 7, COMMAND_NODE_KEYS, &(struct cmd_node_keys){id, 0}), 0);
	machine_done(&m);
}

static void test_bounds(void **unused)
{
	struct machine m;
	struct cmd_key_put key = {{KEY_ISSUER, STR("sealed"), STR_NONE, 0}};

	(void)unused;
	machine_init(&m);
	machine_start(&m, 2);
	assert_int_equal(code(&m, 1, COMMAND_KEY_PUT, &key), -EINVAL);
	key.key.kind = KEY_TAGS;
	assert_int_equal(code(&m, 1, COMMAND_KEY_PUT, &key), 0);
	assert_int_equal(code(&m, 1, COMMAND_KEY_PUT, &key), -EINVAL); /* tags stay as they are */
	for (int i = 0; i < KEYS_OF_A_KIND_MAX; i++)
		use(&m, put(&m, KEY_CA, 1000000));
	key.key = (struct key_put){KEY_CA, STR("sealed"), STR("public"), 0};
	assert_int_equal(code(&m, 1, COMMAND_KEY_PUT, &key), -EBUSY);
	key.key.keep_ms = UINT64_MAX;
	assert_int_equal(code(&m, 1, COMMAND_KEY_PUT, &key), -EINVAL);
	machine_done(&m);
}

static int write_buf(void *to, const void *p, size_t n)
{
	buf_add(to, p, n);
	return 0;
}

static void test_snapshot(void **unused)
{
	struct machine m;
	struct state *copy = state_new();
	CLEANUP_BUF struct buf bytes = {0};
	struct state_snapshot *snapshot;
	struct err err = {0};

	(void)unused;
	machine_init(&m);
	machine_start(&m, 2);
	use(&m, put(&m, KEY_CA, 5));
	put(&m, KEY_CA, 6);
	snapshot = state_snapshot_new(m.s);
	assert_int_equal(state_snapshot_write(snapshot, write_buf, &bytes), 0);
	state_snapshot_free(snapshot);
	assert_int_equal(state_restore(copy, bytes.p, bytes.n, &err), 0);
	assert_true(state_hash(copy) == state_hash(m.s));
	assert_int_equal(state_next_key(copy, state_next_key(copy, NULL))->state, KEY_NEXT);
	state_free(copy);
	machine_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_keys),
		cmocka_unit_test(test_life_of_an_issuer),
		cmocka_unit_test(test_lost_node_is_not_waited_for),
		cmocka_unit_test(test_ca_goes_with_its_last_certificate),
		cmocka_unit_test(test_secrets_are_sealed_anew),
		cmocka_unit_test(test_workers_have_no_say),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_snapshot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
