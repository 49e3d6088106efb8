#include "template.h"

const char *const isolation_name[ISOLATIONS] = {"container", "vm"};

static const struct codec_field env_var_fields[] = {
	CODEC_STR(struct env_var, name, 512),
	CODEC_SECRET(struct env_var, value, TEMPLATE_STRING_MAX),
	CODEC_STR(struct env_var, secret_ref, 256),
};
const struct codec_type env_var_codec = CODEC_TYPE(struct env_var, "env_var", env_var_fields);

static const struct codec_field http_header_fields[] = {
	CODEC_STR(struct http_header, name, 256),
	CODEC_STR(struct http_header, value, 4096),
};
const struct codec_type http_header_codec = CODEC_TYPE(struct http_header, "http_header", http_header_fields);

static const struct codec_field probe_fields[] = {
	CODEC_ENUM(struct probe, kind, PROBE_KINDS),
	CODEC_ENUM(struct probe, how, PROBE_HOWS),
	CODEC_U16(struct probe, port),
	CODEC_STR(struct probe, host, 256),
	CODEC_STR(struct probe, path, 2048),
	CODEC_LIST(struct probe, headers, TEMPLATE_HEADERS_MAX, &http_header_codec),
	CODEC_U32(struct probe, initial_delay_s),
	CODEC_U32(struct probe, period_s),
	CODEC_U32(struct probe, timeout_s),
	CODEC_U32(struct probe, failure_threshold),
	CODEC_U32(struct probe, success_threshold),
	CODEC_U32(struct probe, grace_s),
};
const struct codec_type probe_codec = CODEC_TYPE(struct probe, "probe", probe_fields);

static const struct codec_field registry_credentials_fields[] = {
	CODEC_STR(struct registry_credentials, server, 256),
	CODEC_STR(struct registry_credentials, username, 256),
	CODEC_STR(struct registry_credentials, password_secret, 256),
	CODEC_STR(struct registry_credentials, identity, 1024),
};
const struct codec_type registry_credentials_codec =
	CODEC_TYPE(struct registry_credentials, "registry", registry_credentials_fields);

static const struct codec_field template_fields[] = {
	CODEC_STR(struct template, container_name, 256),
	CODEC_STR(struct template, image, IMAGE_REFERENCE_MAX),
	CODEC_STR(struct template, digest, DIGEST_MAX),
	CODEC_ONE(struct template, registry, &registry_credentials_codec),
	CODEC_STRS(struct template, command, TEMPLATE_ARGS_MAX),
	CODEC_STRS(struct template, args, TEMPLATE_ARGS_MAX),
	CODEC_LIST(struct template, env, TEMPLATE_ENV_MAX, &env_var_codec),
	CODEC_LIST(struct template, probes, TEMPLATE_PROBES_MAX, &probe_codec),
	CODEC_U32(struct template, cpu_milli),
	CODEC_U64(struct template, memory_bytes),
	CODEC_U16(struct template, target_port),
	CODEC_STR(struct template, node_labels, LABELS_MAX),
};
const struct codec_type template_codec = CODEC_TYPE(struct template, "template", template_fields);

/* The first component is a host if it could not be a name on Docker Hub. */
static bool looks_like_host(struct str s)
{
	if (str_eq(s, STR("localhost")) || str_find(s, '.') < s.n || str_find(s, ':') < s.n)
		return true;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] >= 'A' && s.p[i] <= 'Z')
			return true;
	}
	return false;
}

static struct str plain_host(struct str host)
{
	if (str_eq_nocase(host, STR("index.docker.io")) || str_eq_nocase(host, STR("registry-1.docker.io")))
		return STR("docker.io");
	return str_ends(host, STR(":443")) ? str_slice(host, 0, host.n - 4) : host;
}

struct str template_registry_of(struct str image)
{
	struct str host, name;

	return str_cut(image, '/', &host, &name) && looks_like_host(host) ? plain_host(host)
									  : STR("docker.io");
}

bool template_credentials_apply(const struct template *t)
{
	return str_eq_nocase(plain_host(t->registry.server), template_registry_of(t->image));
}

static bool word_good(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    c != '.' && c != '_' && c != '/' && c != '-')
			return false;
	}
	return s.n > 0;
}

/* Whether the list has this label; by its name alone when `value` is NULL. */
static bool has_label(struct str labels, struct str name, const struct str *value)
{
	struct str one, a, b;

	while (labels.n > 0) {
		str_cut(labels, ',', &one, &labels);
		if (str_cut(one, '=', &a, &b) && str_eq(a, name) && (value == NULL || str_eq(b, *value)))
			return true;
	}
	return false;
}

bool template_labels_good(struct str labels)
{
	struct str one, name, value, rest = labels;
	bool more = labels.n > 0;

	while (more) {
		more = str_cut(rest, ',', &one, &rest);
		if (!str_cut(one, '=', &name, &value) || !word_good(name) || !word_good(value) ||
		    (more && has_label(rest, name, NULL)))
			return false;
	}
	return labels.n <= LABELS_MAX;
}

bool template_labels_fit(const struct template *t, struct str labels)
{
	struct str one, name, value, rest = t->node_labels;

	while (rest.n > 0) {
		str_cut(rest, ',', &one, &rest);
		str_cut(one, '=', &name, &value);
		if (!has_label(labels, name, &value))
			return false;
	}
	return true;
}
