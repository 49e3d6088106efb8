/* Sealed secrets: opened in their place alone, whatever key of the ring sealed them; damage is noticed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "wire/sealed.h"
#include "crypto/digest.h"
#include "crypto/keyring.h"
#include "crypto/pki.h"

static char path[64];

static int make_ring(void **state)
{
	snprintf(path, sizeof path, "/tmp/berth-test.ring.%d", (int)getpid());
	char line[80];

	snprintf(line, sizeof line, "1 %064d\n", 5);
	return fd_write_file(path, 0600, line, strlen(line), NULL) == 0 &&
			       keyring_load(path, (struct keyring **)state, NULL) == 0
		       ? 0
		       : -1;
}

static int remove_ring(void **state)
{
	keyring_free(*state);
	return unlink(path);
}

static void test_round_trip(void **state)
{
	CLEANUP_BUF struct buf sealed = {0}, plain = {0};

	assert_int_equal(keyring_seal(*state, STR("s3cret"), STR("pool/a"), &sealed, NULL), 0);
	assert_null(memmem(sealed.p, sealed.n, "s3cret", 6));
	assert_int_equal(keyring_open(*state, buf_str(&sealed), STR("pool/a"), &plain, NULL), 0);
	assert_true(str_eq(buf_str(&plain), STR("s3cret")));
}

static void test_another_place_or_damage(void **state)
{
	CLEANUP_BUF struct buf sealed = {0}, plain = {0};
	struct err err = {0};

	assert_int_equal(keyring_seal(*state, STR("s3cret"), STR("pool/a"), &sealed, NULL), 0);
	assert_int_equal(keyring_open(*state, buf_str(&sealed), STR("pool/b"), &plain, &err), -EBADMSG);
	for (size_t i = 0; i < sealed.n; i++) {
		sealed.p[i] ^= 1;
		assert_int_equal(keyring_open(*state, buf_str(&sealed), STR("pool/a"), &plain, &err),
				 -EBADMSG);
		sealed.p[i] ^= 1;
	}
	for (size_t n = 0; n < sealed.n; n++)
		assert_int_equal(keyring_open(*state, (struct str){sealed.p, n}, STR("pool/a"), &plain, &err),
				 -EBADMSG);
	assert_int_equal(plain.n, 0);
}

/* A newer key seals; what the older one sealed still opens. */
static void test_rotation(void **state)
{
	CLEANUP_BUF struct buf old = {0}, fresh = {0}, plain = {0}, file = {0};
	struct keyring *both;

	assert_int_equal(keyring_seal(*state, STR("old"), STR("x"), &old, NULL), 0);
	assert_int_equal(fd_read_file(path, 4096, &file, NULL), 0);
	buf_printf(&file, "2 %064d\n", 7);
	assert_int_equal(fd_write_file(path, 0600, file.p, file.n, NULL), 0);
	assert_int_equal(keyring_load(path, &both, NULL), 0);
	assert_int_equal(keyring_seal(both, STR("new"), STR("x"), &fresh, NULL), 0);
	assert_int_equal(keyring_open(both, buf_str(&old), STR("x"), &plain, NULL), 0);
	assert_int_equal(keyring_open(*state, buf_str(&fresh), STR("x"), &plain, NULL), -EBADMSG);
	assert_int_equal(sealed_key(buf_str(&old)), 1);
	assert_int_equal(sealed_key(buf_str(&fresh)), 2);
	assert_int_equal(sealed_key(STR("sealed otherwise")), 0);
	/* Until it is told otherwise the last one of a file seals, and the first one of a ring that is made. */
	assert_int_equal(keyring_sealing(both), 2);
	assert_int_equal(keyring_use(both, 1), 0);
	assert_int_equal(keyring_sealing(both), 1);
	assert_int_equal(keyring_use(both, 3), -ENOENT);
	keyring_free(both);
}

static void test_made_ring(void **state)
{
	CLEANUP_BUF struct buf text = {0}, sealed = {0}, plain = {0};
	struct keyring *ring = keyring_new(), *again;
	uint8_t key[KEYRING_KEY_BYTES] = {9};

	(void)state;
	assert_int_equal(keyring_seal(ring, STR("x"), STR("y"), &sealed, NULL), -ENOKEY);
	assert_int_equal(keyring_add(ring, 0, key), -EINVAL);
	assert_int_equal(keyring_add(ring, UINT64_MAX, key), 0);
	assert_int_equal(keyring_add(ring, UINT64_MAX, key), -EEXIST);
	assert_int_equal(keyring_add(ring, 7, key), 0);
	assert_int_equal(keyring_sealing(ring), UINT64_MAX);
	for (uint64_t id = 8; id < 70; id++)
		assert_int_equal(keyring_add(ring, id, key), 0);
	assert_int_equal(keyring_add(ring, 70, key), -ENOBUFS);
	assert_int_equal(keyring_seal(ring, STR("x"), STR("y"), &sealed, NULL), 0);
	keyring_print(ring, &text);
	assert_int_equal(keyring_parse("text", buf_str(&text), &again, NULL), 0);
	assert_int_equal(keyring_open(again, buf_str(&sealed), STR("y"), &plain, NULL), 0);
	assert_true(str_eq(buf_str(&plain), STR("x")));
	keyring_free(ring);
	keyring_free(again);
}

static void test_bad_files(void **state)
{
	static const char *const bad[] = {
		"",
		"1\n",
		"x 00\n",
		"1 zz\n",
		"1 00112233\n",
		"0 0000000000000000000000000000000000000000000000000000000000000001\n"};
	struct keyring *ring;
	struct err err = {0};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(fd_write_file(path, 0600, bad[i], strlen(bad[i]), NULL), 0);
		assert_true(keyring_load(path, &ring, &err) < 0);
	}
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(keyring_load(path, &ring, &err), -EACCES);
}

static void test_certificates(void **state)
{
	CLEANUP_BUF struct buf ca_key = {0}, ca = {0}, key = {0}, cert = {0}, public = {0};
	struct pki_request authority = {.common_name = "CA", .lifetime_s = PKI_DAY_S, .authority = true};
	struct pki_request leaf = {.common_name = "n",
				   .names = {"URI:berth:node:1", "IP:127.0.0.1"},
				   .n_names = 2,
				   .lifetime_s = PKI_DAY_S};
	struct err err = {0};

	(void)state;
	assert_int_equal(pki_make_key(&ca_key, &err), 0);
	assert_int_equal(pki_issue(&authority, buf_str(&ca_key), STR_NONE, STR_NONE, &ca, &err), 0);
	assert_int_equal(pki_make_key(&key, &err), 0);
	assert_int_equal(pki_issue(&leaf, buf_str(&key), buf_str(&ca), buf_str(&ca_key), &cert, &err), 0);
	assert_int_equal(pki_public_key(buf_str(&key), &public, &err), 0);
	assert_true(str_starts(buf_str(&cert), STR("-----BEGIN CERTIFICATE-----")));
	assert_true(pki_issue(&leaf, STR("not a key"), buf_str(&ca), buf_str(&ca_key), &cert, &err) < 0);
}

/* A request gets what the authority says, and only who holds its key has one. */
static void test_requests(void **state)
{
	CLEANUP_BUF struct buf ca_key = {0}, ca = {0}, other = {0}, key = {0}, csr = {0}, cert = {0};
	struct pki_request authority = {.common_name = "CA", .lifetime_s = PKI_DAY_S, .authority = true};
	struct pki_request leaf = {
		.common_name = "n", .names = {"URI:berth://node/1"}, .n_names = 1, .lifetime_s = 20};
	uint64_t now = (uint64_t)time(NULL);
	struct pki_times times;
	struct err err = {0};

	(void)state;
	assert_int_equal(pki_make_key(&ca_key, &err), 0);
	assert_int_equal(pki_issue(&authority, buf_str(&ca_key), STR_NONE, STR_NONE, &ca, &err), 0);
	assert_int_equal(pki_make_key(&key, &err), 0);
	assert_int_equal(pki_issue(&authority, buf_str(&key), STR_NONE, STR_NONE, &other, &err), 0);
	assert_int_equal(pki_make_csr(buf_str(&key), &csr, &err), 0);
	assert_int_equal(pki_issue_csr(&leaf, buf_str(&csr), buf_str(&ca), buf_str(&ca_key), &cert, &err), 0);
	assert_true(pki_issued_by(buf_str(&cert), buf_str(&ca)));
	assert_false(pki_issued_by(buf_str(&cert), buf_str(&other)));
	assert_int_equal(pki_times(buf_str(&cert), &times, &err), 0);
	assert_in_range(times.made_s, now, now + 60);
	assert_int_equal(times.until_s - times.made_s, 20);
	/* another byte of the signature; what is none */
	csr.p[csr.n - 50] = csr.p[csr.n - 50] == 'A' ? 'B' : 'A';
	assert_int_equal(pki_issue_csr(&leaf, buf_str(&csr), buf_str(&ca), buf_str(&ca_key), &cert, &err),
			 -EINVAL);
	assert_int_equal(pki_issue_csr(&leaf, buf_str(&ca), buf_str(&ca), buf_str(&ca_key), &cert, &err),
			 -EINVAL);
	assert_int_equal(pki_issue_csr(&leaf, STR_NONE, buf_str(&ca), buf_str(&ca_key), &cert, &err),
			 -EINVAL);
	assert_int_equal(pki_times(STR("x"), &times, &err), -EINVAL);
}

static void test_texts(void **state)
{
	char uuid[UUID_TEXT_SIZE], again[UUID_TEXT_SIZE], tag[IDENTIFIER_TAG_SIZE],
		other[IDENTIFIER_TAG_SIZE];
	uint8_t key[32] = {1}, bytes[2];

	(void)state;
	crypto_uuid(uuid);
	assert_int_equal(uuid[14], '4');
	crypto_uuid(again);
	assert_string_not_equal(uuid, again);
	crypto_identifier_tag(key, STR("alice"), tag);
	key[0] = 2;
	crypto_identifier_tag(key, STR("alice"), other);
	assert_string_not_equal(tag, other);
	assert_int_equal(crypto_unhex(STR("0aFf"), bytes, 2), 0);
	assert_int_equal(crypto_unhex(STR("0aF"), bytes, 2), -EINVAL);
	assert_int_equal(crypto_unhex(STR("0axx"), bytes, 2), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, make_ring, remove_ring),
		cmocka_unit_test_setup_teardown(test_another_place_or_damage, make_ring, remove_ring),
		cmocka_unit_test_setup_teardown(test_rotation, make_ring, remove_ring),
		cmocka_unit_test_setup_teardown(test_bad_files, make_ring, remove_ring),
		cmocka_unit_test(test_made_ring),
		cmocka_unit_test(test_certificates),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
