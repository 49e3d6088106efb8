/* What guests boot, the pure parts: LZ4's frames, the order of modules, the archive's shape, the command line. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvirt_boot/boot_files.h"
#include "libvirt_boot/initrd.h"
#include "libvirt_boot/kernel.h"
#include "libvirt_boot/lz4.h"
#include "libvirt_boot/modules.h"

/* -- LZ4 ---------------------------------------------------------------------------------------------------- */

#define MAGIC "\x02\x21\x4c\x18"
/* "abc", then 21 bytes from 3 back (a match that overlaps itself, with a length of two parts), then "xyz12". */
#define BLOCK      \
	"\x3f"     \
	"abc"      \
	"\x03\x00" \
	"\x02"     \
	"\x50"     \
	"xyz12"
#define PLAIN "abcabcabcabcabcabcabcabcxyz12"

static const char frame[] = MAGIC "\x0d\0\0\0" BLOCK;

static void unpacks_a_frame(void **state)
{
	uint8_t out[sizeof PLAIN - 1];

	(void)state;
	assert_int_equal(lz4_unpack((struct str){frame, sizeof frame - 1}, out, sizeof out), 0);
	assert_memory_equal(out, PLAIN, sizeof out);
}

static void unpacks_two_blocks(void **state)
{
	static const char two[] = MAGIC "\x0d\0\0\0" BLOCK "\x0d\0\0\0" BLOCK;
	uint8_t out[2 * (sizeof PLAIN - 1)];

	(void)state;
	assert_int_equal(lz4_unpack((struct str){two, sizeof two - 1}, out, sizeof out), 0);
	assert_memory_equal(out, PLAIN PLAIN, sizeof out);
}

/* A block of its own begins anew: what came before it cannot be repeated. */
static void refuses_broken_frames(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} bad[] = {
#define BAD(s) {s, sizeof(s) - 1}
		BAD("\x03\x21\x4c\x18"),
		BAD(MAGIC "\x0e\0\0\0" BLOCK),
		BAD(MAGIC "\x04\0\0\0"
			  "\x10"
			  "a"
			  "\x02\x00"), /* back before the beginning */
		BAD(MAGIC "\x04\0\0\0"
			  "\x10"
			  "a"
			  "\x00\x00"), /* back by nothing */
		BAD(MAGIC "\x02\0\0\0"
			  "\x50"
			  "a"), /* literals that are not there */
		BAD(MAGIC "\x05\0\0\0"
			  "\xf0\xff\xff\xff\xff"), /* a length without an end */
		BAD(MAGIC "\x06\0\0\0"
			  "\x1f"
			  "a"
			  "\x01\x00\xff\x10"),
		BAD(MAGIC "\xff\xff\xff\xff" BLOCK),
	};
	uint8_t out[sizeof PLAIN - 1];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		/* Whatever the size that is asked for. */
		for (size_t n = 1; n <= sizeof out; n++)
			assert_int_equal(lz4_unpack((struct str){bad[i].bytes, bad[i].n}, out, n), -EBADMSG);
	}
	for (size_t n = 0; n < sizeof frame - 1; n++)
		assert_int_equal(lz4_unpack((struct str){frame, n}, out, sizeof out), -EBADMSG);
	for (size_t n = 0; n < sizeof out; n++)
		assert_int_equal(lz4_unpack((struct str){frame, sizeof frame - 1}, out, n), -EBADMSG);
}

/* -- Modules ------------------------------------------------------------------------------------------------ */

#define DEP                                                                    \
	"kernel/a/blk.ko: kernel/v/bus.ko kernel/v/ring.ko\n"                  \
	"kernel/v/bus.ko:\n"                                                   \
	"kernel/a/net.ko: kernel/f/over.ko kernel/v/bus.ko kernel/v/ring.ko\n" \
	"kernel/v/ring.ko:\n"                                                  \
	"kernel/f/over.ko:\n"                                                  \
	"kernel/f/rover.ko:\n"

static void orders_modules(void **state)
{
	static const char *const wanted[] = {"over", "blk", "shmem", "net", NULL};
	static const char *const expected[] = {"over.ko", "ring.ko", "bus.ko", "blk.ko", "net.ko"};
	struct modules m;

	(void)state;
	assert_int_equal(modules_order(STR(DEP), STR("kernel/mm/shmem.ko\n"), wanted, &m, NULL), 0);
	assert_int_equal(m.n, 5);
	for (size_t i = 0; i < m.n; i++)
		assert_true(str_eq(modules_file(m.paths[i]), str_of(expected[i])));
	assert_true(str_eq(m.paths[0], STR("kernel/f/over.ko")));
}

static void misses_a_module(void **state)
{
	static const char *const wanted[] = {"ver", NULL};
	struct modules m;
	struct err err = {0};

	(void)state;
	assert_int_equal(modules_order(STR(DEP), STR_NONE, wanted, &m, &err), -ENOENT);
	assert_non_null(strstr(err.message, "ver.ko"));
}

/* -- The rest ----------------------------------------------------------------------------------------------- */

static void fills_entries(void **state)
{
	struct buf b = {0};

	(void)state;
	initrd_file(&b, "m/list", 0444, STR("abcde"));
	assert_int_equal(b.n, 110 + 10 + 8); /* the header and "m/list" with its NUL: 117, filled to 120 */
	assert_memory_equal(b.p,
			    "070701"
			    "00000000"
			    "00008124"
			    "00000000"
			    "00000000"
			    "00000001"
			    "00000000"
			    "00000005"
			    "00000000"
			    "00000000"
			    "00000000"
			    "00000000"
			    "00000007"
			    "00000000"
			    "m/list\0\0\0\0"
			    "abcde\0\0\0",
			    b.n);
	buf_done(&b);
}

static void refuses_other_kernels(void **state)
{
	char file[4096] = "MZ", release[KERNEL_RELEASE_SIZE];
	struct buf vmlinux = {0};
	struct err err = {0};

	(void)state;
	assert_int_equal(kernel_release((struct str){file, sizeof file}, release, &err), -EBADMSG);
	memcpy(file + 0x202, "HdrS\x0f\x02", 6);
	file[0x1f1] = 3;
	memcpy(file + 0x20e, "\xff\xff", 2); /* the release, outside of the file */
	assert_int_equal(kernel_release((struct str){file, sizeof file}, release, &err), -EBADMSG);
	memset(file + 0x248, 0xff, 8);
	assert_int_equal(kernel_unpack((struct str){file, sizeof file}, &vmlinux, &err), -EBADMSG);
	assert_null(vmlinux.p);
}

static void tells_the_kernel(void **state)
{
	char emulated[BOOT_COMMAND_LINE_SIZE], real[BOOT_COMMAND_LINE_SIZE];
	const char *khz;

	(void)state;
	boot_command_line(true, emulated);
	boot_command_line(false, real);
	assert_null(strstr(real, "mitigations"));
	assert_null(strstr(real, "tsc"));
	assert_null(strstr(real, "lpj"));
	assert_non_null(strstr(real, "panic=-1"));
	assert_non_null(strstr(emulated, "mitigations=off"));
	khz = strstr(emulated, "tsc_early_khz=");
	assert_non_null(khz);
	assert_in_range(strtoul(khz + 14, NULL, 10), 200000, 10000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unpacks_a_frame),       cmocka_unit_test(unpacks_two_blocks),
		cmocka_unit_test(refuses_broken_frames), cmocka_unit_test(orders_modules),
		cmocka_unit_test(misses_a_module),       cmocka_unit_test(fills_entries),
		cmocka_unit_test(refuses_other_kernels), cmocka_unit_test(tells_the_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
