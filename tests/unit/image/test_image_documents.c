/* Manifests, indexes, configurations and challenges, by tables of good and bad texts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "image_fetch/challenge.h"
#include "image_fetch/config.h"
#include "image_fetch/manifest.h"

#define HEX64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "\"digest\":\"sha256:" HEX64 "\""
#define CONFIG "\"config\":{" DIGEST ",\"size\":7}"
#define LAYER  "{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\"," DIGEST ",\"size\":9}"
#define OURS   "\"platform\":{\"os\":\"linux\",\"architecture\":\"" MANIFEST_ARCHITECTURE "\"}"
#define OTHER  "\"platform\":{\"os\":\"linux\",\"architecture\":\"s390x\"}"

static const struct {
	const char *text;
	int code;
	const char *says;
} manifests[] = {
	{"{\"schemaVersion\":2," CONFIG ",\"layers\":[" LAYER "," LAYER "]}", 0, NULL},
	{"{\"schemaVersion\":2,\"manifests\":[{" DIGEST ",\"size\":1," OTHER "},{" DIGEST ",\"size\":2," OURS
	 "}]}",
	 0, NULL},
	{"{\"schemaVersion\":2,\"manifests\":[{" DIGEST ",\"size\":1}]}", 0, NULL},
	{"{\"schemaVersion\":2,\"manifests\":[{" DIGEST ",\"size\":1," OTHER "}]}", -ENOENT, "no variant"},
	{"{\"schemaVersion\":2,\"manifests\":[]}", -ENOENT, "no variant"},
	{"{\"schemaVersion\":1,\"fsLayers\":[]}", -EBADMSG, "schemaVersion"},
	{"{\"schemaVersion\":2}", -EBADMSG, "either layers or manifests"},
	{"{\"schemaVersion\":2," CONFIG ",\"layers\":[],\"manifests\":[]}", -EBADMSG,
	 "either layers or manifests"},
	{"{\"schemaVersion\":2,\"layers\":[" LAYER "]}", -EBADMSG, "config: is missing"},
	{"{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:1\",\"size\":1},\"layers\":[]}", -EBADMSG,
	 "config: digest"},
	{"{\"schemaVersion\":2," CONFIG ",\"layers\":[{" DIGEST ",\"size\":1}]}", -EBADMSG,
	 "layers[0]: mediaType: is missing"},
	{"{\"schemaVersion\":2," CONFIG ",\"layers\":[" LAYER ",{\"mediaType\":\"x\"}]}", -EBADMSG,
	 "layers[1]: mediaType: 'x'"},
	{"{\"schemaVersion\":2," CONFIG
	 ",\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\"," DIGEST ",\"size\":-1}]}",
	 -EBADMSG, "layers[0]: size: is -1"},
	{"[]", -EBADMSG, "must be an object"},
	{"", -EBADMSG, "not valid JSON"},
	{"{\"schemaVersion\":2,\"schemaVersion\":2}", -EBADMSG, "duplicate"},
	{"{\"schemaVersion\":2,\"x\":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}", -EBADMSG, "deeper"},
};

static void reads_manifests(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof manifests / sizeof *manifests; i++) {
		CLEANUP_ARENA struct arena arena = {0};
		struct manifest m = {0};
		struct err err = {0};
		int r = manifest_parse(str_of(manifests[i].text), &arena, &m, &err);

		if (r != manifests[i].code || (r < 0 && strstr(err.message, manifests[i].says) == NULL))
			fail_msg("%s: %d %s", manifests[i].text, r, err.message);
		if (i == 0)
			assert_true(!m.index && m.n_layers == 2 && m.layers[1].bytes == 9 &&
				    m.config.bytes == 7);
		if (i == 1)
			assert_true(m.index && m.chosen.bytes == 2);
	}
}

static const struct {
	const char *text;
	int code;
	const char *says;
} configs[] = {
	{"{\"architecture\":\"" MANIFEST_ARCHITECTURE
	 "\",\"os\":\"linux\",\"config\":{\"Env\":[\"A=1\",\"B\"],\"Cmd\":[\"x\"],"
	 "\"Entrypoint\":null,\"WorkingDir\":\"srv\",\"User\":\"web\",\"ExposedPorts\":{\"80/tcp\":{},\"53/"
	 "udp\":{},\"90\":{}},"
	 "\"StopSignal\":\"SIGRTMIN+3\"},\"rootfs\":{\"diff_ids\":[\"sha256:" HEX64 "\"]}}",
	 0, NULL},
	{"{}", 0, NULL},
	{"{\"os\":\"windows\"}", -EBADMSG, "for windows/"},
	{"{\"architecture\":\"mips\",\"os\":\"linux\"}", -EBADMSG, "for linux/mips"},
	{"{\"config\":{\"Env\":[\"=x\"]}}", -EBADMSG, "config.Env[0]"},
	{"{\"config\":{\"Env\":[1]}}", -EBADMSG, "config.Env[0]: must be a string"},
	{"{\"config\":{\"Cmd\":\"x\"}}", -EBADMSG, "config.Cmd: must be an array"},
	{"{\"config\":{\"User\":1}}", -EBADMSG, "config.User"},
	{"{\"config\":{\"ExposedPorts\":{\"0/tcp\":{}}}}", -EBADMSG, "'0/tcp' is no port"},
	{"{\"config\":{\"ExposedPorts\":{\"65536\":{}}}}", -EBADMSG, "is no port"},
	{"{\"config\":{\"StopSignal\":\"65\"}}", -EBADMSG, "config.StopSignal"},
	{"{\"rootfs\":{\"diff_ids\":[\"x\"]}}", -EBADMSG, "rootfs.diff_ids[0]"},
	{"[]", -EBADMSG, "must be an object"},
};

static void reads_configurations(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
		CLEANUP_ARENA struct arena arena = {0};
		struct image_config c = {0};
		struct config_diffs diffs = {0};
		struct err err = {0};
		int r = config_parse(str_of(configs[i].text), &arena, &c, &diffs, &err);

		if (r != configs[i].code || (r < 0 && strstr(err.message, configs[i].says) == NULL))
			fail_msg("%s: %d %s", configs[i].text, r, err.message);
		if (i > 0)
			continue;
		assert_true(str_eq(c.env[1], STR("B=")) && c.n_env == 2 && c.n_cmd == 1 &&
			    c.n_entrypoint == 0);
		assert_true(str_eq(c.working_dir, STR("/srv")) && str_eq(c.user, STR("web")));
		assert_true(c.n_exposed_ports == 2 && c.exposed_ports[0] == 80 && c.exposed_ports[1] == 90);
		assert_true(c.stop_signal == 37 && diffs.n == 1 && str_eq(diffs.hex[0], STR(HEX64)));
	}
}

static void reads_signals(void **state)
{
	static const struct {
		const char *text;
		uint32_t number;
	} good[] = {{"SIGTERM", 15},  {"TERM", 15}, {"9", 9},     {"SIGRTMIN", 34},
		    {"RTMIN+30", 64}, {"64", 64},   {"SIGHUP", 1}};
	static const char *const bad[] = {"",           "0",       "65",        "SIG", "SIGRTMIN+31",
					  "SIGRTMIN-1", "sigterm", "TERMINATE", "15 "};
	uint32_t n;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(config_signal(str_of(good[i].text), &n), 0);
		assert_int_equal(n, good[i].number);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(config_signal(str_of(bad[i]), &n), -EINVAL);
}

static void reads_challenges(void **state)
{
	static const char *const bad[] = {"",
					  "Digest realm=\"x\"",
					  "Bearer",
					  "Bearer service=\"x\"",
					  "Bearer realm=\"open",
					  "Bearer realm=\"a\nb\""};
	struct challenge c;
	struct err err;

	(void)state;
	assert_int_equal(challenge_parse(STR("Basic realm=\"x\""), &c, &err), 0);
	assert_int_equal(c.kind, CHALLENGE_BASIC);
	assert_int_equal(challenge_parse(STR("bearer Realm=\"https://a.example/t?x=1,2\", service=s "
					     ",scope=\"r:a\\\"b:pull\",error=x"),
					 &c, &err),
			 0);
	assert_int_equal(c.kind, CHALLENGE_BEARER);
	assert_string_equal(c.realm, "https://a.example/t?x=1,2");
	assert_string_equal(c.service, "s");
	assert_string_equal(c.scope, "r:a\"b:pull");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(challenge_parse(str_of(bad[i]), &c, &err), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_manifests),
		cmocka_unit_test(reads_configurations),
		cmocka_unit_test(reads_signals),
		cmocka_unit_test(reads_challenges),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
