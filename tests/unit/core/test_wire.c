/* test_wire.c -- every message of base/wire: names and bodies are complete, and each body survives the wire. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/codec.h"
#include "core/must.h"
#include "generate/generate.h"
#include "wire/envelope.h"
#include "wire/messages.h"
#include "wire/sandboxd.h"
#include "wire/template.h"

#define SEEDS 60

static void survives(const struct codec_type *type, uint64_t seed)
{
	CLEANUP_ARENA struct arena arena = {0};
	CLEANUP_BUF struct buf b = {0}, text = {0}, text_back = {0};
	struct generate g = {.seed = seed, .length_max = 300, .arena = &arena};
	void *value = arena_alloc(&arena, type->size), *back = arena_alloc(&arena, type->size);
	struct err err = {0};

	generate_value(&g, type, value);
	codec_encode(&b, type, value);
	assert_int_equal(codec_scan(b.p, b.n), 0);
	if (codec_decode(b.p, b.n, type, &arena, back, &err) < 0)
		fail_msg("%s, seed %llu: %s", type->name, (unsigned long long)seed, err.message);
	if (!codec_equal(type, value, back))
		fail_msg("%s, seed %llu: not the same", type->name, (unsigned long long)seed);
	if (!codec_equal(type, value, codec_clone(&arena, type, value)))
		fail_msg("%s, seed %llu: the clone differs", type->name, (unsigned long long)seed);
	codec_print(&text, type, value);
	codec_print(&text_back, type, back);
	assert_string_equal(buf_cstr(&text), buf_cstr(&text_back));
	assert_int_equal(codec_decode(b.p, b.n - 1, type, &arena, back, &err), -74 /* EBADMSG */);
}

/* The table itself: fields inside the struct, none overlapping, every nested type named. */
static void is_sound(const struct codec_type *type)
{
	assert_non_null(type->name);
	for (size_t i = 0; i < type->n_fields; i++) {
		const struct codec_field *f = &type->fields[i];

		assert_true((size_t)f->offset + f->size <= type->size);
		assert_true((f->kind == CODEC_KIND_ONE || f->kind == CODEC_KIND_LIST) == (f->type != NULL));
		assert_true(f->kind == CODEC_KIND_INT || f->kind == CODEC_KIND_ONE || f->max > 0);
		for (size_t k = 0; k < i; k++) {
			const struct codec_field *g = &type->fields[k];

			if (f->offset < g->offset + g->size && g->offset < f->offset + f->size)
				fail_msg("%s: %s and %s overlap", type->name, f->name, g->name);
		}
		if (f->type != NULL)
			is_sound(f->type);
	}
}

static void checks(const struct codec_type *type)
{
	is_sound(type);
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		survives(type, seed);
}

static void messages(void **state)
{
	size_t n = 0;

	(void)state;
	for (unsigned i = 0; i < MSG_TYPES; i++) {
		assert_non_null(message_type_name[i]);
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(message_type_name[i], message_type_name[k]);
		if (message_body_codec[i] == NULL)
			continue;
		checks(message_body_codec[i]);
		n++;
	}
	print_message("%zu messages of %d have bodies\n", n, MSG_TYPES);
	assert_true(n > 20);
	assert_null(message_body_codec[MSG_NONE]);
	assert_null(message_body_codec[MSG_TIMER]);
}

static void sandboxd(void **state)
{
	size_t n = 0;

	(void)state;
	for (unsigned i = 0; i < SANDBOXD_TYPES; i++) {
		assert_non_null(sandboxd_type_name[i]);
		if (sandboxd_body_codec[i] == NULL)
			continue;
		checks(sandboxd_body_codec[i]);
		n++;
	}
	assert_true(n >= 10);
	assert_null(sandboxd_body_codec[SANDBOXD_LIST]);
	assert_non_null(sandboxd_body_codec[SANDBOXD_IMAGES]);
	checks(&sandboxd_message_codec);
}

static void shared(void **state)
{
	static const struct codec_type *const types[] = {
		&address_codec,     &envelope_codec,
		&session_ref_codec, &pool_limits_codec,
		&secret_put_codec,  &env_var_codec,
		&http_header_codec, &probe_codec,
		&template_codec,    &registry_credentials_codec,
	};

	(void)state;
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		checks(types[i]);
	for (unsigned i = 0; i < ADDRESS_KINDS; i++)
		assert_non_null(address_kind_name[i]);
}

/* What must never appear in a log line does not, whatever message carries it. */
static void secrets_are_not_printed(void **state)
{
	struct env_var env = {STR("NAME"), STR("hunter2"), STR_NONE};
	struct sandboxd_start start = {.env = &env, .n_env = 1};
	struct msg_open open = {.identifier = STR("hunter2")};
	struct sandboxd_image image = {.password = STR("hunter2")};
	CLEANUP_BUF struct buf b = {0};

	(void)state;
	codec_print(&b, sandboxd_body_codec[SANDBOXD_START], &start);
	codec_print(&b, message_body_codec[MSG_OPEN], &open);
	codec_print(&b, sandboxd_body_codec[SANDBOXD_PULL], &image);
	assert_null(strstr(buf_cstr(&b), "hunter2"));
	assert_non_null(strstr(buf_cstr(&b), "NAME"));
}

static void credentials_go_to_their_server(void **state)
{
	static const struct {
		const char *server, *image;
		bool apply;
	} cases[] = {
		{"registry.example:5000", "registry.example:5000/team/app:1", true},
		{"Registry.Example", "registry.example/app@sha256:0", true},
		{"registry.example", "registry.example:443/app", true},
		{"registry.example", "registry.example:5000/app", false},
		{"registry.example", "other.example/registry.example/app", false},
		{"registry.example", "app:1", false},
		{"docker.io", "team/app", true},
		{"index.docker.io", "app", true},
		{"localhost", "localhost/app", true},
		{"", "app", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct template t = {.image = str_of(cases[i].image),
				     .registry.server = str_of(cases[i].server)};

		if (template_credentials_apply(&t) != cases[i].apply)
			fail_msg("%s for %s", cases[i].server, cases[i].image);
	}
}

static void labels(void **state)
{
	static const struct {
		const char *text;
		bool good;
	} texts[] = {{"", true},         {"a=b", true},       {"disk=ssd,zone=eu-1/b", true},
		     {"a", false},       {"a=", false},       {"=b", false},
		     {"a=b,", false},    {"a=b,,c=d", false}, {"a=b c", false},
		     {"a=b,a=c", false}, {"a=b=c", false}};
	static const struct {
		const char *wanted, *has;
		bool fit;
	} pairs[] = {{"", "", true},
		     {"", "a=b", true},
		     {"a=b", "a=b", true},
		     {"a=b", "c=d,a=b", true},
		     {"a=b,c=d", "c=d,a=b", true},
		     {"a=b", "", false},
		     {"a=b", "a=bb", false},
		     {"a=b,c=d", "a=b", false}};
	char longest[LABELS_MAX + 8];

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		if (template_labels_good(str_of(texts[i].text)) != texts[i].good)
			fail_msg("%s", texts[i].text);
	}
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		struct template t = {.node_labels = str_of(pairs[i].wanted)};

		if (template_labels_fit(&t, str_of(pairs[i].has)) != pairs[i].fit)
			fail_msg("%s on %s", pairs[i].wanted, pairs[i].has);
	}
	memset(longest, 'x', sizeof longest);
	longest[1] = '=';
	assert_true(template_labels_good((struct str){longest, LABELS_MAX}));
	assert_false(template_labels_good((struct str){longest, LABELS_MAX + 1}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages),
		cmocka_unit_test(sandboxd),
		cmocka_unit_test(shared),
		cmocka_unit_test(secrets_are_not_printed),
		cmocka_unit_test(credentials_go_to_their_server),
		cmocka_unit_test(labels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
