/* pool_body.c -- see pool_body.h. Numbers go as text: the API takes them so, and says what is wrong with them. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/fd.h"
#include "json/build.h"
#include "pool_body.h"

#define FILE_BYTES_MAX (1u << 20)

static json_t *at(json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	return json_is_object(value) ? value : json_put_object(object, key);
}

json_t *pool_body_file(const char *path)
{
	CLEANUP_BUF struct buf text = {0};
	json_t *json = NULL, *list, *element, *ret = NULL;
	struct err err = {0};
	size_t i;

	if (fd_read_file(path, FILE_BYTES_MAX, &text, &err) < 0 ||
	    json_parse(buf_str(&text), &(struct json_bounds){0}, &json, &err) < 0) {
		fprintf(stderr, "berth: %s: %s\n", path, err.message);
		return NULL;
	}
	/* A deployment template holds resources: the first pool of it. */
	list = json_object_get(json, "resources");
	json_array_foreach(list, i,
			   element) if (ret == NULL && json_is_string(json_object_get(element, "type")) &&
					strcasecmp(json_string_value(json_object_get(element, "type")),
						   "Microsoft.App/sessionPools") == 0) ret =
		json_incref(element);
	if (ret == NULL && list == NULL && json_is_object(json))
		ret = json_incref(json);
	json_decref(json);
	if (ret == NULL)
		fprintf(stderr, "berth: %s: holds no Microsoft.App/sessionPools resource\n", path);
	return ret;
}

static void put_option(const struct args *args, const char *option, json_t *object, const char *key)
{
	const char *value = args_get(args, option);

	if (value != NULL)
		json_put_cstr(object, key, value);
}

static bool any(const struct args *args, const char *const *options)
{
	for (; *options != NULL; options++)
		if (args_has(args, *options))
			return true;
	return false;
}

static void put_words(const struct args *args, const char *option, json_t *container)
{
	const char *const *values;
	size_t n = args_all(args, option, &values);
	json_t *list;

	if (!args_has(args, option))
		return;
	list = json_put_array(container, option);
	for (size_t i = 0; i < n; i++)
		json_push_str(list, str_of(values[i]));
}

static int put_env(const struct args *args, json_t *container)
{
	const char *const *values;
	size_t n = args_all(args, "env-vars", &values);
	json_t *list;

	if (!args_has(args, "env-vars"))
		return EXIT_OK;
	list = json_put_array(container, "env");
	for (size_t i = 0; i < n; i++) {
		struct str name, value;
		json_t *variable;

		if (!str_cut(str_of(values[i]), '=', &name, &value))
			return fprintf(stderr, "berth: --env-vars: '%s' is not NAME=VALUE\n", values[i]),
			       EXIT_USAGE;
		variable = json_push_object(list);
		json_put_str(variable, "name", name);
		if (str_starts(value, STR("secretref:")))
			json_put_str(variable, "secretRef", str_slice(value, 10, value.n));
		else
			json_put_str(variable, "value", value);
	}
	return EXIT_OK;
}

static int put_container(const struct args *args, const char *name, const json_t *current, json_t *template)
{
	static const char *const options[] = {"image",   "container-name", "cpu",      "memory",
					      "command", "args",           "env-vars", NULL};
	json_t *containers = json_object_get(template, "containers"), *container, *resources;
	const json_t *old = json_at(current, "properties.customContainerTemplate.containers");

	if (current != NULL && !any(args, options))
		return EXIT_OK;
	/* An array is replaced whole: begin with what is there. */
	if (!json_is_array(containers)) {
		containers = old != NULL ? json_deep_copy(old) : json_new_array();
		json_put(template, "containers", containers);
	}
	container = json_array_size(containers) > 0 ? json_array_get(containers, 0)
						    : json_push_object(containers);
	put_option(args, "image", container, "image");
	put_option(args, "container-name", container, "name");
	if (json_object_get(container, "name") == NULL)
		json_put_cstr(container, "name", name);
	resources = at(container, "resources");
	put_option(args, "cpu", resources, "cpu");
	put_option(args, "memory", resources, "memory");
	if (json_object_get(resources, "cpu") == NULL)
		json_put_cstr(resources, "cpu", "0.25");
	if (json_object_get(resources, "memory") == NULL)
		json_put_cstr(resources, "memory", "0.5Gi");
	put_words(args, "command", container);
	put_words(args, "args", container);
	return put_env(args, container);
}

static json_t *secret_slot(json_t *list, struct str name)
{
	json_t *element;
	size_t i;

	json_array_foreach(list, i, element) if (str_eq(json_str_of(json_object_get(element, "name")),
							name)) return element;
	element = json_push_object(list);
	json_put_str(element, "name", name);
	return element;
}

/* az's name for the secret of a registry password: the server without dots, and the user. */
static struct str password_name(const struct args *args, char text[256])
{
	const char *parts[] = {args_or(args, "registry-server", NULL, "registry"), "-",
			       args_or(args, "registry-username", NULL, "user")};
	size_t n = 0;

	for (size_t k = 0; k < 3; k++)
		for (const char *p = parts[k]; *p != '\0' && n < 200; p++)
			if (isalnum((unsigned char)*p) || (*p == '-' && n > 0))
				text[n++] = (char)tolower((unsigned char)*p);
	while (n > 0 && text[n - 1] == '-')
		n--;
	return (struct str){text, n};
}

static int put_secrets(const struct args *args, const json_t *current, json_t *properties)
{
	const char *const *values;
	size_t n = args_all(args, "secrets", &values);
	json_t *list = json_object_get(properties, "secrets");
	const json_t *old = json_at(current, "properties.secrets");
	char name_text[256];

	if (n == 0 && !args_has(args, "registry-password"))
		return EXIT_OK;
	/* Secrets that are named without a value keep theirs. */
	if (!json_is_array(list)) {
		list = old != NULL ? json_deep_copy(old) : json_new_array();
		json_put(properties, "secrets", list);
	}
	for (size_t i = 0; i < n; i++) {
		struct str name, value;

		if (!str_cut(str_of(values[i]), '=', &name, &value))
			return fprintf(stderr, "berth: --secrets: give each as NAME=VALUE\n"), EXIT_USAGE;
		json_put_str(secret_slot(list, name), "value", value);
	}
	if (args_has(args, "registry-password"))
		json_put_cstr(secret_slot(list, password_name(args, name_text)), "value",
			      args_get(args, "registry-password"));
	return EXIT_OK;
}

static void put_registry(const struct args *args, json_t *template)
{
	static const char *const options[] = {"registry-server", "registry-username", "registry-password",
					      "registry-identity", NULL};
	char name_text[256];
	json_t *registry;

	if (!any(args, options))
		return;
	registry = at(template, "registryCredentials");
	put_option(args, "registry-server", registry, "server");
	put_option(args, "registry-username", registry, "username");
	put_option(args, "registry-identity", registry, "identity");
	if (args_has(args, "registry-password"))
		json_put_str(registry, "passwordSecretRef", password_name(args, name_text));
}

static void put_limits(const struct args *args, bool whole, json_t *properties)
{
	static const char *const life_options[] = {"cooldown-period", "lifecycle-type", "max-alive-period",
						   NULL};
	static const char *const scale_options[] = {"max-sessions", "ready-sessions", NULL};

	if (whole || any(args, scale_options)) {
		json_t *scale = at(properties, "scaleConfiguration");

		if (whole && json_object_get(scale, "maxConcurrentSessions") == NULL)
			json_put_i64(scale, "maxConcurrentSessions", 10);
		put_option(args, "max-sessions", scale, "maxConcurrentSessions");
		put_option(args, "ready-sessions", scale, "readySessionInstances");
	}
	if (any(args, life_options)) {
		json_t *life = at(at(properties, "dynamicPoolConfiguration"), "lifecycleConfiguration");

		put_option(args, "cooldown-period", life, "cooldownPeriodInSeconds");
		put_option(args, "lifecycle-type", life, "lifecycleType");
		put_option(args, "max-alive-period", life, "maxAlivePeriodInSeconds");
	}
	if (args_has(args, "network-status"))
		put_option(args, "network-status", at(properties, "sessionNetworkConfiguration"), "status");
	put_option(args, "environment", properties, "environmentId");
	put_option(args, "container-type", properties, "containerType");
}

/* A file of an older version says executionType; this program speaks one version. */
static void modernize(json_t *properties)
{
	json_t *dynamic = json_object_get(properties, "dynamicPoolConfiguration"), *cooldown;

	cooldown = json_object_get(dynamic, "cooldownPeriodInSeconds");
	if (cooldown != NULL)
		json_put(at(dynamic, "lifecycleConfiguration"), "cooldownPeriodInSeconds",
			 json_incref(cooldown));
	json_object_del(dynamic, "cooldownPeriodInSeconds");
	json_object_del(dynamic, "executionType");
}

int pool_body(const struct args *args, const char *name, const json_t *current, json_t **ret)
{
	static const char *const template_options[] = {"image",
						       "container-name",
						       "cpu",
						       "memory",
						       "command",
						       "args",
						       "env-vars",
						       "target-port",
						       "registry-server",
						       "registry-username",
						       "registry-password",
						       "registry-identity",
						       NULL};
	const char *file = args_get(args, "file");
	bool whole = current == NULL;
	json_t *body = file != NULL ? pool_body_file(file) : json_new_object(), *properties, *template;
	int r = EXIT_OK;

	if (body == NULL)
		return EXIT_USAGE;
	properties = at(body, "properties");
	modernize(properties);
	put_option(args, "location", body, "location");
	if (whole && json_object_get(body, "location") == NULL)
		json_put_cstr(body, "location", "local");
	put_limits(args, whole, properties);
	if (args_has(args, "node-labels"))
		put_option(args, "node-labels", at(body, "tags"), "berth.nodeLabels");
	if (args_has(args, "isolation"))
		put_option(args, "isolation", at(body, "tags"), "berth.isolation");
	r = put_secrets(args, current, properties);
	if (r == EXIT_OK && (whole || any(args, template_options))) {
		template = at(properties, "customContainerTemplate");
		put_registry(args, template);
		if (args_has(args, "target-port"))
			put_option(args, "target-port", at(template, "ingress"), "targetPort");
		r = put_container(args, name, current, template);
	}
	if (r == EXIT_OK)
		*ret = body;
	else
		json_decref(body);
	return r;
}
