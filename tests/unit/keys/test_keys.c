/* The cluster's keys as a node opens them from the tables; the first ones of a new cluster from their file. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/fd.h"
#include "crypto/pki.h"
#include "keys/authority.h"
#include "keys/keys.h"
#include "machine/machine.h"

#define CLUSTER "11111111-2222-3333-4444-555555555555"

struct world {
	struct machine m;
	struct keyring *ring;
	struct arena arena;
	struct keys_first first;
};

static int make(void **state)
{
	static struct world w;
	CLEANUP_BUF struct buf key = {0}, cert = {0};
	struct pki_request request = {.common_name = "CA", .lifetime_s = PKI_DAY_S, .authority = true};
	uint8_t master[KEYRING_KEY_BYTES] = {1};

	w = (struct world){.ring = keyring_new()};
	if (keyring_add(w.ring, 1, master) < 0 || pki_make_key(&key, NULL) < 0 ||
	    pki_issue(&request, buf_str(&key), STR_NONE, STR_NONE, &cert, NULL) < 0 ||
	    keys_make_first(w.ring, STR(CLUSTER), buf_str(&key), buf_str(&cert), &w.arena, &w.first, NULL) <
		    0)
		return -1;
	struct cmd_cluster_init init = {
		.id = STR(CLUSTER),
		.keys = w.first.keys,
		.n_keys = w.first.n_keys,
		.settings = {.lease_ms = 1000, .lost_ms = 2000, .overcommit_cpu = 1, .overcommit_memory = 1}};
	struct cmd_node_join join = {.id = 1, .voter = true, .cpu_milli = 1000, .memory_bytes = 1 << 30};

	machine_init(&w.m);
	machine_do(&w.m, 1, COMMAND_CLUSTER_INIT, &init);
	w.m.epoch[1] = machine_do(&w.m, 1, COMMAND_NODE_JOIN, &join)->id;
	*state = &w;
	return 0;
}

static int unmake(void **state)
{
	struct world *w = *state;

	machine_done(&w->m);
	keyring_free(w->ring);
	arena_done(&w->arena);
	return 0;
}

static uint64_t rotate(struct world *w, uint8_t kind, bool use)
{
	struct cmd_key_put body = {0};
	uint64_t id;

	assert_int_equal(keys_make(w->ring, STR(CLUSTER), kind, &w->arena, &body.key, NULL), 0);
	id = machine_do(&w->m, 1, COMMAND_KEY_PUT, &body)->id;
	assert_true(id > 0);
	machine_do(&w->m, 1, COMMAND_NODE_KEYS, &(struct cmd_node_keys){id, 0});
	if (use)
		assert_int_equal(machine_do(&w->m, 1, COMMAND_KEY_USE, &(struct cmd_key){id})->code, 0);
	return id;
}

static void test_voter_opens_all(void **state)
{
	struct world *w = *state;
	struct keys *k = keys_new(w->ring);
	CLEANUP_BUF struct buf key = {0}, cert = {0}, public = {0};
	struct pki_request leaf = {.common_name = "n", .lifetime_s = PKI_DAY_S};

	assert_int_equal(keys_newest(k), 0);
	assert_null(keys_secrets(k));
	assert_int_equal(keys_refresh(k, w->m.s, NULL), 0);
	assert_true(keys_newest(k) == state_cluster(w->m.s)->counter - 1); /* then came the epoch */
	assert_true(keyring_sealing(keys_secrets(k)) == state_active_key(w->m.s, KEY_SECRETS)->id);
	assert_non_null(keys_tag(k));
	assert_int_equal(pki_public_key(keys_issuer(k), &public, NULL), 0);
	assert_true(str_eq(buf_str(&public), keys_issuer_public(k, 0)));
	assert_int_equal(keys_issuer_public(k, 1).n, 0);
	assert_int_equal(pki_make_key(&key, NULL), 0);
	assert_int_equal(pki_issue(&leaf, buf_str(&key), keys_ca_cert(k), keys_ca_key(k), &cert, NULL), 0);
	assert_true(str_eq(keys_ca_bundle(k), keys_ca_cert(k)));
	keys_free(k);
}

static void names_of(struct str pem, char *to, size_t size)
{
	BIO *in = BIO_new_mem_buf(pem.p, (int)pem.n), *out = BIO_new(BIO_s_mem());
	X509 *cert = PEM_read_bio_X509(in, NULL, NULL, NULL);
	int n;

	assert_non_null(cert);
	X509V3_EXT_print(out, X509_get_ext(cert, X509_get_ext_by_NID(cert, NID_subject_alt_name, -1)), 0, 0);
	n = BIO_read(out, to, (int)size - 1);
	assert_true(n > 0);
	to[n] = 0;
	X509_free(cert);
	BIO_free(in);
	BIO_free(out);
}

static void test_authority(void **state)
{
	struct world *w = *state;
	struct keys *voter = keys_new(w->ring), *worker = keys_new(NULL);
	CLEANUP_BUF struct buf key = {0}, csr = {0}, cert = {0}, clients = {0};
	struct cluster_row cluster = {
		.settings = {.domain = STR("x.example"), .environment = STR("e"), .region = STR("r")}};
	struct err err = {0};
	char names[400];

	assert_int_equal(pki_make_key(&key, NULL), 0);
	assert_int_equal(pki_make_csr(buf_str(&key), &csr, NULL), 0);
	struct authority_order order = {.csr = buf_str(&csr),
					.node = 7,
					.node_name = STR("n7"),
					.addresses = {STR("10.0.0.7:7401"), STR("https://10.0.0.8:7404/x"),
						      STR("[fd00::7]:1"), STR("a,URI:berth://node/1:1")},
					.n_addresses = 4,
					.lifetime_ms = 20000,
					.cluster = &cluster};

	assert_int_equal(authority_issue(voter, &order, &cert, &err), -EAGAIN); /* nothing is read yet */
	assert_int_equal(keys_refresh(voter, w->m.s, NULL), 0);
	assert_int_equal(keys_refresh(worker, w->m.s, NULL), 0);
	assert_int_equal(authority_issue(worker, &order, &cert, &err), -EAGAIN);
	assert_int_equal(authority_issue(voter, &order, &cert, &err), 0);
	assert_true(pki_issued_by(buf_str(&cert), keys_ca_cert(voter)));
	names_of(buf_str(&cert), names, sizeof names);
	assert_string_equal(names, "URI:berth://node/7, URI:berth://role/worker, IP Address:10.0.0.7, "
				   "IP Address:10.0.0.8, IP Address:FD00:0:0:0:0:0:0:7");
	order.use = AUTHORITY_CLIENTS;
	assert_int_equal(authority_issue(voter, &order, &clients, &err), 0);
	names_of(buf_str(&clients), names, sizeof names);
	assert_string_equal(names, "IP Address:10.0.0.7, IP Address:10.0.0.8, IP Address:FD00:0:0:0:0:0:0:7, "
				   "DNS:localhost, DNS:*.e.r.x.example, DNS:x.example");
	order.csr = buf_str(&key);
	assert_int_equal(authority_issue(voter, &order, &clients, &err), -EINVAL);
	keys_free(voter);
	keys_free(worker);
}

static void test_worker_has_public_parts(void **state)
{
	struct world *w = *state;
	struct keys *k = keys_new(NULL);

	assert_int_equal(keys_refresh(k, w->m.s, NULL), 0);
	assert_true(keys_newest(k) > 0);
	assert_null(keys_secrets(k));
	assert_null(keys_tag(k));
	assert_int_equal(keys_issuer(k).n, 0);
	assert_int_equal(keys_ca_key(k).n, 0);
	assert_true(keys_issuer_public(k, 0).n > 0 && keys_ca_cert(k).n > 0);
	keys_free(k);
}

static void test_rotation(void **state)
{
	struct world *w = *state;
	struct keys *k = keys_new(w->ring);
	CLEANUP_BUF struct buf sealed = {0}, plain = {0}, former = {0};
	uint64_t next;

	assert_int_equal(keys_refresh(k, w->m.s, NULL), 0);
	assert_int_equal(keyring_seal(keys_secrets(k), STR("s"), STR("x"), &sealed, NULL), 0);
	buf_add_str(&former, keys_issuer_public(k, 0));

	/* Known, but not used. */
	next = rotate(w, KEY_SECRETS, false);
	rotate(w, KEY_ISSUER, false);
	rotate(w, KEY_CA, false);
	assert_int_equal(keys_refresh(k, w->m.s, NULL), 0);
	assert_true(keyring_sealing(keys_secrets(k)) < next);
	assert_true(str_eq(keys_issuer_public(k, 0), buf_str(&former)));
	assert_true(keys_issuer_public(k, 1).n > 0);
	assert_true(keys_ca_bundle(k).n > keys_ca_cert(k).n);

	/* Used; what the former one sealed and signed still counts. */
	for (const struct key_row *row = NULL; (row = state_next_key(w->m.s, row)) != NULL;) {
		uint64_t id = row->id;

		if (row->state == KEY_NEXT)
			assert_int_equal(machine_do(&w->m, 1, COMMAND_KEY_USE, &(struct cmd_key){id})->code,
					 0);
		row = state_key(w->m.s, id);
	}
	assert_int_equal(keys_refresh(k, w->m.s, NULL), 0);
	assert_true(keyring_sealing(keys_secrets(k)) == next);
	assert_int_equal(keyring_open(keys_secrets(k), buf_str(&sealed), STR("x"), &plain, NULL), 0);
	assert_false(str_eq(keys_issuer_public(k, 0), buf_str(&former)));
	assert_true(str_eq(keys_issuer_public(k, 1), buf_str(&former)));
	keys_free(k);
}

/* A ring that lacks the master, or rows of another cluster: what is public stays, and the node says that it has nothing. */
static void test_wrong_ring(void **state)
{
	struct world *w = *state;
	struct keyring *other = keyring_new();
	uint8_t key[KEYRING_KEY_BYTES] = {2};
	struct keys *k;
	struct err err = {0};
	CLEANUP_BUF struct buf part = {0};
	const struct key_row *row = state_active_key(w->m.s, KEY_SECRETS);

	assert_int_equal(keyring_add(other, 1, key), 0);
	k = keys_new(other);
	assert_int_equal(keys_refresh(k, w->m.s, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "key of kind secrets"));
	assert_int_equal(keys_newest(k), 0);
	assert_true(keys_issuer_public(k, 0).n > 0);
	assert_int_equal(keys_open(w->ring, STR(CLUSTER), KEY_TAGS, row->sealed, STR_NONE, &part, NULL),
			 -EBADMSG);
	assert_int_equal(keys_open(w->ring, STR("another"), KEY_SECRETS, row->sealed, STR_NONE, &part, NULL),
			 -EBADMSG);
	assert_int_equal(keys_open(w->ring, STR(CLUSTER), KEY_SECRETS, row->sealed, STR_NONE, &part, NULL),
			 0);
	keys_free(k);
	keyring_free(other);
}

static void test_file(void **state)
{
	struct world *w = *state;
	struct keys_first first;
	struct err err = {0};
	CLEANUP_BUF struct buf bytes = {0};
	char path[64];

	snprintf(path, sizeof path, "/tmp/berth-test.first.%d", (int)getpid());
	unlink(path);
	assert_int_equal(keys_load_first(path, STR(CLUSTER), &w->arena, &first, &err), -ENOENT);
	codec_encode(&bytes, &keys_first_codec, &w->first);
	assert_int_equal(fd_write_file(path, 0600, bytes.p, bytes.n, NULL), 0);
	assert_int_equal(keys_load_first(path, STR(CLUSTER), &w->arena, &first, &err), 0);
	assert_true(codec_equal(&keys_first_codec, &first, &w->first));
	assert_int_equal(keys_load_first(path, STR("another"), &w->arena, &first, &err), -EBADMSG);
	assert_int_equal(fd_write_file(path, 0600, bytes.p, bytes.n - 1, NULL), 0);
	assert_int_equal(keys_load_first(path, STR(CLUSTER), &w->arena, &first, &err), -EBADMSG);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_voter_opens_all, make, unmake),
		cmocka_unit_test_setup_teardown(test_authority, make, unmake),
		cmocka_unit_test_setup_teardown(test_worker_has_public_parts, make, unmake),
		cmocka_unit_test_setup_teardown(test_rotation, make, unmake),
		cmocka_unit_test_setup_teardown(test_wrong_ring, make, unmake),
		cmocka_unit_test_setup_teardown(test_file, make, unmake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
