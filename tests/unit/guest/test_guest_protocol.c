/* Frames of the agent's channel: whole, in pieces, too long, of another version; what a start may hold. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvirt_guest/protocol.h"

static struct str argv[] = {{"sh", 2}, {"-c", 2}}, env[] = {{"A=b", 3}};
static const char seed[GUEST_SEED_BYTES], mac[] = "\x52\x54\x00\x00\x00\x01";

static struct guest_start good_start(void)
{
	return (struct guest_start){.argv = argv,
				    .n_argv = 2,
				    .env = env,
				    .n_env = 1,
				    .hostname = STR("host-1"),
				    .seed = {seed, sizeof seed},
				    .mac = {mac, 6},
				    .gateway_mac = {mac, 6},
				    .address = 0x0a000001,
				    .gateway = 0x0a000002,
				    .prefix = 31,
				    .pids_max = 10,
				    .disk_bytes = 1 << 20};
}

static void frames_come_back_whole(void **state)
{
	CLEANUP_ARENA struct arena arena = {0};
	CLEANUP_BUF struct buf b = {0};
	struct guest_start s = good_start(), back;
	struct guest_frame f;
	struct err err = {0};
	size_t size = 1;

	(void)state;
	assert_int_equal(guest_frame_write(&b, GUEST_START, &guest_start_codec, &s), 0);
	assert_int_equal(guest_frame_write(&b, GUEST_BYE, NULL, NULL), 0);
	for (size_t n = 0; n < b.n - GUEST_FRAME_HEAD; n++) {
		assert_int_equal(guest_frame_read(b.p, n, GUEST_FRAME_MAX, &f, &size, &err), 0);
		assert_int_equal(size, 0);
	}
	assert_int_equal(guest_frame_read(b.p, b.n, GUEST_FRAME_MAX, &f, &size, &err), 0);
	assert_int_equal(size, b.n - GUEST_FRAME_HEAD);
	assert_int_equal(f.type, GUEST_START);
	assert_int_equal(guest_frame_body(&f, &guest_start_codec, &arena, &back, &err), 0);
	assert_true(codec_equal(&guest_start_codec, &s, &back));
	assert_int_equal(guest_frame_read(b.p + size, b.n - size, GUEST_FRAME_MAX, &f, &size, &err), 0);
	assert_true(f.type == GUEST_BYE && f.body.n == 0);
	assert_int_equal(guest_frame_body(&f, NULL, &arena, NULL, &err), 0);
}

static int read_code(const char *bytes, size_t n)
{
	struct guest_frame f;
	struct err err = {0};
	size_t size;
	int r = guest_frame_read(bytes, n, GUEST_ANSWER_FRAME_MAX, &f, &size, &err);

	assert_true((r < 0) == (err.message[0] != '\0'));
	return r;
}

static void what_is_no_frame_is_refused(void **state)
{
	char long_one[] = "BG\x01\x07\x00\x00\x00\x00";
	unsigned most = GUEST_ANSWER_FRAME_MAX - GUEST_FRAME_HEAD;

	(void)state;
	assert_int_equal(read_code("X", 1), -EBADMSG);
	assert_int_equal(read_code("BX", 2), -EBADMSG);
	assert_int_equal(read_code("BG\x02", 3), -EPROTONOSUPPORT);
	assert_int_equal(read_code("BG\x01\x0b", 4), -EBADMSG);
	assert_int_equal(read_code("BG\x01\x07\xff\xff\xff\xff", 8), -EBADMSG);
	for (unsigned i = 0; i < 2; i++) {
		long_one[4] = (char)(most + i);
		long_one[5] = (char)((most + i) >> 8);
		assert_int_equal(read_code(long_one, 8), i == 0 ? 0 : -EBADMSG);
	}
}

static void a_body_has_its_bound(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	struct guest_start s = good_start();
	struct str *many = calloc(1024, sizeof *many);
	char *text = calloc(1, 32768);

	(void)state;
	memset(text, 'x', 32768);
	for (int i = 0; i < 1024; i++)
		many[i] = (struct str){text, 1000};
	s.env = many;
	s.n_env = 1024;
	assert_int_equal(guest_frame_write(&b, GUEST_START, &guest_start_codec, &s), 0);
	for (int i = 0; i < 1024; i++)
		many[i].n = 1100;
	assert_int_equal(guest_frame_write(&b, GUEST_START, &guest_start_codec, &s), -E2BIG);
	free(many);
	free(text);
}

static void a_start_is_checked(void **state)
{
	static struct str nul[] = {{"a\0b", 3}}, none[] = {{"", 0}};
	struct guest_start good = good_start(),
			   bad[] = {good, good, good, good, good, good, good, good, good, good};
	struct err err = {0};

	(void)state;
	assert_int_equal(guest_start_check(&good, &err), 0);
	good.mac = good.gateway_mac = STR_NONE; /* no network */
	good.prefix = 0;
	assert_int_equal(guest_start_check(&good, &err), 0);
	bad[0].n_argv = 0;
	bad[1].argv = none;
	bad[2].env = nul;
	bad[3].hostname = STR("Host_1");
	bad[4].hostname = STR("-x");
	bad[5].seed.n = 63;
	bad[6].mac = (struct str){"\x01\x00\x00\x00\x00\x01", 6};
	bad[7].prefix = 32;
	bad[8].pids_max = 0;
	bad[9].disk_bytes = 0;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(guest_start_check(&bad[i], &err), -EINVAL);
}

int main(void)
{
	static const struct CMUnitTest cases[] = {
		cmocka_unit_test(frames_come_back_whole),
		cmocka_unit_test(what_is_no_frame_is_refused),
		cmocka_unit_test(a_body_has_its_bound),
		cmocka_unit_test(a_start_is_checked),
	};

	return cmocka_run_group_tests(cases, NULL, NULL);
}
