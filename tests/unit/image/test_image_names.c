/* References, entries' names, and users, by tables. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "image_fetch/reference.h"
#include "image_unpack/names.h"
#include "image_unpack/user.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
	const char *text, *host, *repository, *tag, *digest;
} references[] = {
	{"nginx", "docker.io", "library/nginx", "latest", ""},
	{"nginx:1.25", "docker.io", "library/nginx", "1.25", ""},
	{"team/app", "docker.io", "team/app", "latest", ""},
	{"index.docker.io/team/app:v1", "docker.io", "team/app", "v1", ""},
	{"localhost/app", "localhost", "app", "latest", ""},
	{"localhost:5000/app", "localhost:5000", "app", "latest", ""},
	{"127.0.0.1:5000/a/b-c/d__e:T.1_x-y", "127.0.0.1:5000", "a/b-c/d__e", "T.1_x-y", ""},
	{"[::1]:5000/app", "[::1]:5000", "app", "latest", ""},
	{"Registry.Example/app", "registry.example", "app", "latest", ""},
	{"mcr.microsoft.com/k8se/quickstart:latest", "mcr.microsoft.com", "k8se/quickstart", "latest", ""},
	{"r.example/app@sha256:" HEX64, "r.example", "app", "", "sha256:" HEX64},
	{"r.example/app:v1@sha256:" HEX64, "r.example", "app", "v1", "sha256:" HEX64},
};

static const struct {
	const char *text, *says;
} bad_references[] = {
	{"", "1 to 512 bytes"},
	{"App", "lower-case"},
	{"app:", "tag"},
	{"app:-x", "tag"},
	{"app:a b", "tag"},
	{"a//b", "lower-case"},
	{"a/../b", "lower-case"},
	{"a_-b/c", "lower-case"},
	{"-a", "lower-case"},
	{"r.example:0/app", "host"},
	{"r.example:99999/app", "host"},
	{"r..example/app", "host"},
	{"user@r.example/app", "digest"},
	{"r.example/app@sha256:abc", "digest"},
	{"r.example/app@sha512:" HEX64, "digest"},
	{"r.example/", "lower-case"},
	{"http://r.example/app", "host"},
	{"[::1/app", "host"},
	{"r.exa\nmple/app", "host"},
};

static void parses_references(void **state)
{
	struct err err;
	struct reference r;

	(void)state;
	for (size_t i = 0; i < sizeof references / sizeof *references; i++) {
		if (reference_parse(str_of(references[i].text), &r, &err) < 0)
			fail_msg("%s: %s", references[i].text, err.message);
		assert_string_equal(r.host, references[i].host);
		assert_string_equal(r.repository, references[i].repository);
		assert_string_equal(r.tag, references[i].tag);
		assert_string_equal(r.digest, references[i].digest);
	}
	for (size_t i = 0; i < sizeof bad_references / sizeof *bad_references; i++) {
		if (reference_parse(str_of(bad_references[i].text), &r, &err) != -EINVAL ||
		    strstr(err.message, bad_references[i].says) == NULL)
			fail_msg("%s: %s", bad_references[i].text, err.message);
	}
	char longest[600];

	memset(longest, 'a', sizeof longest);
	assert_int_equal(reference_parse((struct str){longest, 513}, &r, &err), -EINVAL);
	assert_int_equal(reference_parse((struct str){longest, 300}, &r, &err), -EINVAL);
	assert_int_equal(reference_parse((struct str){"a\0b", 3}, &r, &err), -EINVAL);
}

static const struct {
	const char *path;
	int code;
	enum names_kind kind;
	const char *parent, *base;
} names[] = {
	{"a", 0, NAMES_ENTRY, ".", "a"},
	{"./a/b/", 0, NAMES_ENTRY, "a", "b"},
	{"a//./b", 0, NAMES_ENTRY, "a", "b"},
	{".", 0, NAMES_ENTRY, ".", "."},
	{"./", 0, NAMES_ENTRY, ".", "."},
	{"a/.wh.b", 0, NAMES_WHITEOUT, "a", "b"},
	{"a/.wh..b", 0, NAMES_WHITEOUT, "a", ".b"},
	{"a/b/.wh..wh..opq", 0, NAMES_OPAQUE, "a/b", ".wh..wh..opq"},
	{".wh..wh.plnk", 0, NAMES_IGNORED, ".", ".wh..wh.plnk"},
	{"a/...", 0, NAMES_ENTRY, "a", "..."},
	{"", -EBADMSG, 0, "", ""},
	{"/a", -EBADMSG, 0, "", ""},
	{"..", -EBADMSG, 0, "", ""},
	{"a/../b", -EBADMSG, 0, "", ""},
	{"a/..", -EBADMSG, 0, "", ""},
	{".wh.", -EBADMSG, 0, "", ""},
	{"a/.wh..", -EBADMSG, 0, "", ""},
	{"a/.wh...", -EBADMSG, 0, "", ""},
	{"a/.wh.b/c", -EBADMSG, 0, "", ""},
	{".wh..wh..opq/c", -EBADMSG, 0, "", ""},
};

static void parses_names(void **state)
{
	struct err err;
	struct names n;
	char path[8000] = "";

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (names_parse(names[i].path, &n, &err) != names[i].code)
			fail_msg("%s: %s", names[i].path, err.message);
		if (names[i].code < 0)
			continue;
		assert_int_equal(n.kind, names[i].kind);
		assert_string_equal(n.parent, names[i].parent);
		assert_string_equal(n.base, names[i].base);
	}
	memset(path, 'x', 255);
	assert_int_equal(names_parse(path, &n, &err), 0);
	path[255] = 'x';
	assert_int_equal(names_parse(path, &n, &err), -EBADMSG);
	for (size_t i = 0; i + 2 < sizeof path; i += 2)
		memcpy(path + i, i % 200 == 198 ? "//" : "x/", 3);
	assert_int_equal(names_parse(path, &n, &err), -EBADMSG);
	for (size_t i = 0; i + 101 < sizeof path; i += 100) {
		memset(path + i, 'x', 99);
		memcpy(path + i + 99, "/", 2);
	}
	assert_int_equal(names_parse(path, &n, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "longer than"));
}

static const struct {
	const char *user;
	int code;
	uint32_t uid, gid, n_groups;
} users[] = {
	{"", 0, 0, 0, 0},
	{"root", 0, 0, 0, 0},
	{"web", 0, 1000, 1001, 1},
	{"1000", 0, 1000, 1001, 1},
	{"web:extra", 0, 1000, 2000, 0},
	{"web:7", 0, 1000, 7, 0},
	{"4242", 0, 4242, 0, 0},
	{"4242:4343", 0, 4242, 4343, 0},
	{":extra", 0, 0, 2000, 0},
	{"web:", 0, 1000, 1001, 1},
	{"nobody", -ENOENT, 0, 0, 0},
	{"web:nogroup", -ENOENT, 0, 0, 0},
	{"65536", -ENOENT, 0, 0, 0},
	{"-1", -ENOENT, 0, 0, 0},
	{"broken", -ENOENT, 0, 0, 0},
	{"huge", -ENOENT, 0, 0, 0},
};

static void finds_users(void **state)
{
	struct str passwd = STR("root:x:0:0:root:/root:/bin/sh\nbroken\nbroken:x:one:1:\nhuge:x:70000:1:\n"
				"web:x:1000:1001::/srv:/bin/sh");
	struct str group = STR("root:x:0:\nweb:x:1001:web\nextra:x:2000:other,web\nnot:x:2001:webber\n");

	(void)state;
	for (size_t i = 0; i < sizeof users / sizeof *users; i++) {
		CLEANUP_ARENA struct arena arena = {0};
		struct image_unpack_result r = {0};
		struct err err = {0};

		if (user_lookup(str_of(users[i].user), passwd, group, &arena, &r, &err) != users[i].code)
			fail_msg("%s: %s", users[i].user, err.message);
		if (users[i].code < 0)
			continue;
		assert_int_equal(r.uid, users[i].uid);
		assert_int_equal(r.gid, users[i].gid);
		assert_int_equal(r.n_groups, users[i].n_groups);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_references),
		cmocka_unit_test(parses_names),
		cmocka_unit_test(finds_users),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
