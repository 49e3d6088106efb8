/* Imports of what skopeo and umoci wrote, and layers that want out of their root or are merely odd.
 * Needs what test_image_store.c needs. */
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "core/fd.h"

static int import_file(struct image_store *s, const char *name, char digest[IMAGE_DIGEST_SIZE],
		       struct err *err)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s", base, name);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return image_import(s, fd, STR("imported"), digest, err);
}

static void imports(void **state)
{
	static const char *const files[] = {"docker.tar", "docker.tar.gz", "oci.tar", "layout"};
	char digest[IMAGE_DIGEST_SIZE], path[256];
	struct err err = {0};

	(void)state;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		struct image_store *s = open_store("imports", (struct hosts){0});
		const struct image *image = NULL;

		expect(import_file(s, files[i], digest, &err), 0, "", &err);
		assert_int_equal(image_acquire(s, str_of(digest), &image, &err), 0);
		check_tree(image);
		assert_string_equal(image->reference, "imported");
		image_release(s, image);
		assert_int_equal(image_forget(s, str_of(digest), &err), 0);
		image_store_close(s);
	}
	struct image_store *s = open_store("imports", (struct hosts){0});

	/* The same through a pipe; again finds it here. */
	snprintf(path, sizeof path, "cat %s/oci.tar", base);
	FILE *pipe = popen(path, "r");

	expect(image_import(s, fileno(pipe), STR("piped"), digest, &err), 0, "", &err);
	pclose(pipe);
	assert_string_equal(digest, manifest_digest);
	expect(import_file(s, "layout", digest, &err), 0, "", &err);
	expect(import_file(s, "ca.pem", digest, &err), -EBADMSG, "archive", &err);
	expect(import_file(s, "certs", digest, &err), -EBADMSG, "no OCI layout", &err);
	image_store_close(s);
}

static void hostile_layers(void **state)
{
	static const struct {
		const char *name;
		int code;
		const char *says;
	} refused[] = {
		{"dotdot", -EBADMSG, "holds '..'"},
		{"inner-dotdot", -EBADMSG, "holds '..'"},
		{"absolute", -EBADMSG, "is absolute"},
		{"hardlink-outside", -EBADMSG, "hard link"},
		{"hardlink-absolute", -EBADMSG, "hard link"},
		{"hardlink-through-symlink", -EBADMSG, "does not exist"},
		{"whiteout-dot", -EBADMSG, "whiteout"},
		{"whiteout-dotdot", -EBADMSG, "whiteout"},
		{"whiteout-empty", -EBADMSG, "whiteout"},
		{"whiteout-slash", -EBADMSG, "below a whiteout"},
		{"owner", -EBADMSG, "owner 70000:0"},
		{"owner-huge", -EBADMSG, "owner 8589934592:0"},
		{"deep", -EBADMSG, "deeper"},
		{"deep-65", -E2BIG, "deeper than 64"},
		{"long-name", -EBADMSG, "more than 255 bytes"},
		{"long-path", -EBADMSG, "longer than 4000"},
		{"sparse", -E2BIG, "more than 16777216 bytes"},
		{"bomb-gzip", -E2BIG, "more than 16777216 bytes"},
		{"bomb-behind-the-end", -E2BIG, "unpacks to more"},
		{"bomb-zstd", -E2BIG, "unpacks to more"},
		{"cut-gzip", -EBADMSG, "truncated gzip"},
		{"wrong-trailer", -EBADMSG, "incorrect data check"},
		{"wrong-length", -EBADMSG, "incorrect length check"},
		{"behind-gzip", -EBADMSG, "incorrect header check"},
		{"diff-id", -EBADMSG, "the configuration says"},
		{"not-a-tar", -EBADMSG, "not a readable tar"},
		{"through-file", -EBADMSG, "no directory"},
		{"unknown-user", -ENOENT, "nobody-here"},
		{"bad-signal", -EBADMSG, "StopSignal"},
	};
	struct image_store *s = open_store("hostile", (struct hosts){0});
	struct err err = {0};
	char digest[IMAGE_DIGEST_SIZE], name[64];

	(void)state;
	assert_int_equal(shell("python3 %s/attacks.py %s/attacks", FIXTURES, base), 0);
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		snprintf(name, sizeof name, "attacks/%s", refused[i].name);
		expect(import_file(s, name, digest, &err), refused[i].code, refused[i].says, &err);
	}
	assert_int_equal(
		shell("test -z \"$(ls %s/hostile/work)\" -a -z \"$(ls %s/hostile/images)\"", base, base), 0);
	assert_int_equal(access("/escaped", F_OK), -1);
	image_store_close(s);
}

static void tricky_layers(void **state)
{
	static const struct {
		const char *name, *check; /* run in the root */
	} fine[] = {
		{"ok-symlink-parent", "test -f tmp/inside -a ! -e /tmp/inside"},
		{"ok-device", "test ! -e null -a -f f"},
		{"ok-opaque", "test ! -e d/old -a ! -e d/sub/old -a -f d/new -a -f d/sub/new"},
		{"ok-replaced", "test -f x/f -a ! -L x -a -f y"},
		{"ok-pipe", "test -p p"},
		{"ok-members", "test \"$(cat f)\" = x"},
		{"ok-packed", "test \"$(cat f)\" = x"},
		{"ok-same-layer-twice", "test \"$(cat f)\" = x"},
		{"ok-unpadded", "test \"$(cat f)\" = x"},
	};
	struct image_store *s = open_store("tricky", (struct hosts){0});
	struct err err = {0};
	char digest[IMAGE_DIGEST_SIZE], name[64];

	(void)state;
	for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
		const struct image *image = NULL;

		snprintf(name, sizeof name, "attacks/%s", fine[i].name);
		expect(import_file(s, name, digest, &err), 0, "", &err);
		assert_int_equal(image_acquire(s, str_of(digest), &image, &err), 0);
		if (shell("cd %s && %s", image->root, fine[i].check) != 0)
			fail_msg("%s: not %s", fine[i].name, fine[i].check);
		image_release(s, image);
	}
	image_store_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(imports),
		cmocka_unit_test(hostile_layers),
		cmocka_unit_test(tricky_layers),
	};
	int missing = stage_missing();

	return missing != 0 ? missing : cmocka_run_group_tests(tests, set_up, tear_down);
}
