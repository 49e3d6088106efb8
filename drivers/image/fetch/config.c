#include "image_fetch/config.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "image_fetch/manifest.h"
#include "json/json.h"

#define STRING_MAX 32768

static const struct json_bounds bounds = {
	.bytes_max = CONFIG_BYTES_MAX, .depth_max = 16, .values_max = 65536};

int config_signal(struct str text, uint32_t *ret)
{
	struct str name = text;
	uint64_t n;

	if (str_u64(text, 64, &n) == 0 && n > 0) {
		*ret = (uint32_t)n;
		return 0;
	}
	if (str_starts(name, STR("SIG")))
		name = str_slice(name, 3, name.n);
	if (str_starts(name, STR("RTMIN"))) {
		struct str plus = str_slice(name, 5, name.n);

		n = 0;
		if (plus.n > 0 && (plus.p[0] != '+' || str_u64(str_slice(plus, 1, plus.n), 30, &n) < 0))
			return -EINVAL;
		*ret = (uint32_t)(34 + n); /* as glibc and Docker count; the kernel's own is 32 */
		return 0;
	}
	for (int s = 1; s < 32; s++) {
		if (sigabbrev_np(s) != NULL && str_eq(name, str_of(sigabbrev_np(s)))) {
			*ret = (uint32_t)s;
			return 0;
		}
	}
	return -EINVAL;
}

static int read_strings(const json_t *doc, const char *path, struct arena *arena, struct str **ret,
			uint32_t *ret_n, struct err *err)
{
	json_t *list = NULL;
	struct str *strings;

	if (json_get_array(doc, JSON_OPTIONAL, IMAGE_STRINGS_MAX, &list, err, "%s", path) < 0)
		return -EBADMSG;
	size_t n = json_array_size(list);

	if (n == 0)
		return 0;
	strings = arena_array(arena, n, sizeof *strings);
	for (size_t i = 0; strings != NULL && i < n; i++) {
		struct str s;

		if (json_get_str(doc, JSON_REQUIRED, STRING_MAX, &s, err, "%s[%zu]", path, i) < 0)
			return -EBADMSG;
		strings[i] = arena_str(arena, s);
		if (strings[i].p == NULL)
			return err_set(err, -ENOMEM, "no memory");
	}
	if (strings == NULL)
		return err_set(err, -ENOMEM, "no memory");
	*ret = strings;
	*ret_n = (uint32_t)n;
	return 0;
}

/* "NAME=value"; a bare NAME, which some builders write, means an empty value. */
static int fix_env(struct arena *arena, struct image_config *c, struct err *err)
{
	for (uint32_t i = 0; i < c->n_env; i++) {
		size_t at = str_find(c->env[i], '=');

		if (at == 0)
			return err_set(err, -EBADMSG, "config.Env[%u]: has no name", i);
		if (at == c->env[i].n)
			c->env[i] = arena_printf(arena, "%.*s=", STR_ARGS(c->env[i]));
		if (c->env[i].p == NULL)
			return err_set(err, -ENOMEM, "no memory");
	}
	return 0;
}

/* Keys such as "80/tcp" and "80"; other protocols are of no use to a session. */
static int read_ports(const json_t *doc, struct arena *arena, struct image_config *c, struct err *err)
{
	json_t *ports = NULL, *value;
	const char *key;

	if (json_get_object(doc, JSON_OPTIONAL, &ports, err, "config.ExposedPorts") < 0)
		return -EBADMSG;
	if (json_object_size(ports) > IMAGE_PORTS_MAX)
		return err_set(err, -EBADMSG, "config.ExposedPorts: has more than %d entries",
			       IMAGE_PORTS_MAX);
	if (json_object_size(ports) == 0)
		return 0;
	c->exposed_ports = arena_array(arena, json_object_size(ports), sizeof *c->exposed_ports);
	if (c->exposed_ports == NULL)
		return err_set(err, -ENOMEM, "no memory");
	json_object_foreach(ports, key, value)
	{
		struct str number, protocol;
		uint64_t port;
		bool named = str_cut(str_of(key), '/', &number, &protocol);

		if (str_u64(number, 65535, &port) < 0 || port == 0)
			return err_set(err, -EBADMSG, "config.ExposedPorts: '%.32s' is no port", key);
		if (!named || str_eq(protocol, STR("tcp")))
			c->exposed_ports[c->n_exposed_ports++] = port;
	}
	return 0;
}

static int read_diffs(const json_t *doc, struct arena *arena, struct config_diffs *diffs, struct err *err)
{
	int r = read_strings(doc, "rootfs.diff_ids", arena, &diffs->hex, &diffs->n, err);

	if (r == 0 && diffs->n > IMAGE_LAYERS_MAX)
		return err_set(err, -EBADMSG, "rootfs.diff_ids: has more than %d elements", IMAGE_LAYERS_MAX);
	for (uint32_t i = 0; r == 0 && i < diffs->n; i++) {
		if (!image_digest_valid(diffs->hex[i]))
			return err_set(err, -EBADMSG,
				       "rootfs.diff_ids[%u]: must be sha256: and 64 hexadecimal digits", i);
		diffs->hex[i] = str_slice(diffs->hex[i], 7, diffs->hex[i].n);
	}
	return r;
}

static int read_platform(const json_t *doc, struct err *err)
{
	struct str os = STR("linux"), architecture = STR(MANIFEST_ARCHITECTURE);

	if (json_get_str(doc, JSON_OPTIONAL, 64, &os, err, "os") < 0 ||
	    json_get_str(doc, JSON_OPTIONAL, 64, &architecture, err, "architecture") < 0)
		return -EBADMSG;
	if (os.n == 0 && architecture.n == 0)
		return 0; /* built by hand */
	if (!str_eq(os, STR("linux")) || !str_eq(architecture, STR(MANIFEST_ARCHITECTURE)))
		return err_set(err, -EBADMSG,
			       "the image is for %.*s/%.*s, this machine is linux/" MANIFEST_ARCHITECTURE,
			       STR_ARGS(os), STR_ARGS(architecture));
	return 0;
}

static int read_words(const json_t *doc, struct arena *arena, struct image_config *c, struct err *err)
{
	struct str directory = STR_NONE, user = STR_NONE, stop = STR_NONE;

	if (json_get_str(doc, JSON_OPTIONAL, 4000, &directory, err, "config.WorkingDir") < 0 ||
	    json_get_str(doc, JSON_OPTIONAL, 256, &user, err, "config.User") < 0 ||
	    json_get_str(doc, JSON_OPTIONAL, 32, &stop, err, "config.StopSignal") < 0)
		return -EBADMSG;
	if (stop.n > 0 && config_signal(stop, &c->stop_signal) < 0)
		return err_set(err, -EBADMSG, "config.StopSignal: '%.*s' is no signal", STR_ARGS(stop));
	if (directory.n > 0)
		c->working_dir =
			arena_printf(arena, "%s%.*s", directory.p[0] == '/' ? "" : "/", STR_ARGS(directory));
	c->user = arena_str(arena, user);
	if (c->user.p == NULL || (directory.n > 0 && c->working_dir.p == NULL))
		return err_set(err, -ENOMEM, "no memory");
	return 0;
}

int config_parse(struct str text, struct arena *arena, struct image_config *ret,
		 struct config_diffs *ret_diffs, struct err *err)
{
	json_auto_t *doc = NULL;
	struct image_config c = {0};
	struct config_diffs diffs = {0};
	int r = json_parse(text, &bounds, &doc, err);

	if (r == 0 && !json_is_object(doc))
		r = err_set(err, -EBADMSG, "must be an object, not %s", json_kind_name(doc));
	if (r == 0)
		r = read_platform(doc, err);
	if (r == 0)
		r = read_strings(doc, "config.Entrypoint", arena, &c.entrypoint, &c.n_entrypoint, err);
	if (r == 0)
		r = read_strings(doc, "config.Cmd", arena, &c.cmd, &c.n_cmd, err);
	if (r == 0)
		r = read_strings(doc, "config.Env", arena, &c.env, &c.n_env, err);
	if (r == 0)
		r = fix_env(arena, &c, err);
	if (r == 0)
		r = read_ports(doc, arena, &c, err);
	if (r == 0)
		r = read_words(doc, arena, &c, err);
	if (r == 0)
		r = read_diffs(doc, arena, &diffs, err);
	if (r < 0) {
		err_wrap(err, "image configuration");
		return r == -E2BIG ? -EBADMSG : r;
	}
	*ret = c;
	*ret_diffs = diffs;
	return 0;
}
