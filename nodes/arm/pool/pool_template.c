/* pool_template.c -- see pool_template.h. The document passed the table (pool_rules.c), so types and ranges hold; what
 * can be wrong here is between fields. */
#include <math.h>

#include "arm/pool/pool_template.h"
#include "core/must.h"

static struct str copied(const struct call *c, const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_string(value) ? arena_str(c->arena, json_str_of(value)) : STR_NONE;
}

static uint64_t number(const json_t *object, const char *key, uint64_t otherwise)
{
	const json_t *value = json_object_get(object, key);

	return json_is_integer(value) ? (uint64_t)json_integer_value(value) : otherwise;
}

static bool has_named(const json_t *array, struct str name, size_t before)
{
	for (size_t i = 0; i < before && i < json_array_size(array); i++)
		if (str_eq(json_str_of(json_object_get(json_array_get(array, i), "name")), name))
			return true;
	return false;
}

static void need_secret(struct rule_errors *errors, const json_t *properties, struct str name,
			struct str target)
{
	if (!has_named(json_object_get(properties, "secrets"), name, SIZE_MAX))
		rule_error(errors, "SecretNotFound", target,
			   "%.*s: there is no secret '%.*s' in properties.secrets.", STR_ARGS(target),
			   STR_ARGS(name));
}

static void read_limits(const json_t *properties, struct rule_errors *errors, struct pool_limits *ret)
{
	const json_t *scale = json_object_get(properties, "scaleConfiguration");
	const json_t *life = json_at(properties, "dynamicPoolConfiguration.lifecycleConfiguration");

	ret->max_sessions = (uint32_t)number(scale, "maxConcurrentSessions", 0);
	ret->ready_target = (uint32_t)number(scale, "readySessionInstances", 0);
	ret->cooldown_ms = number(life, "cooldownPeriodInSeconds", 0) * 1000;
	ret->max_alive_ms = number(life, "maxAlivePeriodInSeconds", 0) * 1000;
	ret->lifecycle = str_eq(json_str_of(json_object_get(life, "lifecycleType")), STR("OnContainerExit"))
				 ? LIFECYCLE_ON_EXIT
				 : LIFECYCLE_TIMED;
	ret->egress = str_eq(json_str_of(json_at(properties, "sessionNetworkConfiguration.status")),
			     STR("EgressEnabled"));
	if (ret->ready_target > ret->max_sessions)
		rule_error(errors, "SessionPoolInvalidReadySessionInstances",
			   STR("properties.scaleConfiguration.readySessionInstances"),
			   "properties.scaleConfiguration.readySessionInstances: must be from 0 to "
			   "maxConcurrentSessions (%u).",
			   ret->max_sessions);
}

static void read_strings(struct call *c, const json_t *array, struct str **ret, uint32_t *ret_n)
{
	size_t n = json_array_size(array);
	struct str *list = n == 0 ? NULL : arena_array(c->arena, n, sizeof *list);

	must(n == 0 || list != NULL);
	for (size_t i = 0; i < n; i++)
		list[i] = arena_str(c->arena, json_str_of(json_array_get(array, i)));
	*ret = list;
	*ret_n = (uint32_t)n;
}

static void read_env(struct call *c, const json_t *properties, const json_t *array,
		     struct rule_errors *errors, struct template *ret)
{
	size_t n = json_array_size(array);

	ret->n_env = (uint32_t)n;
	ret->env = n == 0 ? NULL : arena_array(c->arena, n, sizeof *ret->env);
	must(n == 0 || ret->env != NULL);
	for (size_t i = 0; i < n; i++) {
		const json_t *from = json_array_get(array, i);
		struct env_var *to = &ret->env[i];
		struct str at =
			call_printf(c, "properties.customContainerTemplate.containers[0].env[%zu]", i);

		to->name = copied(c, from, "name");
		to->value = copied(c, from, "value");
		to->secret_ref = copied(c, from, "secretRef");
		if (has_named(array, to->name, i))
			rule_error(errors, "DuplicateName", call_printf(c, "%.*s.name", STR_ARGS(at)),
				   "%.*s.name: '%.*s' is named twice.", STR_ARGS(at), STR_ARGS(to->name));
		if (to->secret_ref.n > 0 && to->value.n > 0)
			rule_error(errors, "InvalidParameterValue", at,
				   "%.*s: has both value and secretRef; one is allowed.", STR_ARGS(at));
		if (to->secret_ref.n > 0)
			need_secret(errors, properties, to->secret_ref,
				    call_printf(c, "%.*s.secretRef", STR_ARGS(at)));
	}
}

static void read_headers(struct call *c, const json_t *array, struct probe *ret)
{
	size_t n = json_array_size(array);

	ret->n_headers = (uint32_t)n;
	ret->headers = n == 0 ? NULL : arena_array(c->arena, n, sizeof *ret->headers);
	must(n == 0 || ret->headers != NULL);
	for (size_t i = 0; i < n; i++) {
		ret->headers[i].name = copied(c, json_array_get(array, i), "name");
		ret->headers[i].value = copied(c, json_array_get(array, i), "value");
	}
}

static void read_probe(struct call *c, const json_t *from, struct probe *ret)
{
	const json_t *http = json_object_get(from, "httpGet"), *where = http;

	ret->kind = str_eq(json_str_of(json_object_get(from, "type")), STR("Startup")) ? PROBE_STARTUP
										       : PROBE_LIVENESS;
	ret->how = PROBE_TCP;
	if (http == NULL)
		where = json_object_get(from, "tcpSocket");
	else if (str_eq(json_str_of(json_object_get(http, "scheme")), STR("HTTPS")))
		ret->how = PROBE_HTTPS;
	else
		ret->how = PROBE_HTTP;
	ret->port = (uint16_t)number(where, "port", 0);
	ret->host = copied(c, where, "host");
	ret->path = copied(c, where, "path");
	if (http != NULL && ret->path.n == 0)
		ret->path = STR("/");
	read_headers(c, json_object_get(http, "httpHeaders"), ret);
	ret->initial_delay_s = (uint32_t)number(from, "initialDelaySeconds", 0);
	ret->period_s = (uint32_t)number(from, "periodSeconds", 10);
	ret->timeout_s = (uint32_t)number(from, "timeoutSeconds", 1);
	ret->failure_threshold = (uint32_t)number(from, "failureThreshold", 3);
	ret->success_threshold = (uint32_t)number(from, "successThreshold", 1);
	ret->grace_s = (uint32_t)number(from, "terminationGracePeriodSeconds", 0);
}

static void read_probes(struct call *c, const json_t *array, struct rule_errors *errors, struct template *ret)
{
	size_t n = json_array_size(array);

	ret->n_probes = (uint32_t)n;
	ret->probes = n == 0 ? NULL : arena_array(c->arena, n, sizeof *ret->probes);
	must(n == 0 || ret->probes != NULL);
	for (size_t i = 0; i < n; i++) {
		const json_t *from = json_array_get(array, i);
		struct str at =
			call_printf(c, "properties.customContainerTemplate.containers[0].probes[%zu]", i);

		read_probe(c, from, &ret->probes[i]);
		if ((json_object_get(from, "httpGet") == NULL) ==
		    (json_object_get(from, "tcpSocket") == NULL))
			rule_error(errors, "InvalidParameterValue", at,
				   "%.*s: needs exactly one of httpGet and tcpSocket.", STR_ARGS(at));
		if (i > 0 && ret->probes[i].kind == ret->probes[0].kind)
			rule_error(errors, "DuplicateName", call_printf(c, "%.*s.type", STR_ARGS(at)),
				   "%.*s.type: there can be one probe of each type.", STR_ARGS(at));
	}
}

static void read_registry(struct call *c, const json_t *properties, struct rule_errors *errors,
			  struct registry_credentials *ret)
{
	const struct str target = STR("properties.customContainerTemplate.registryCredentials");
	const json_t *from = json_at(properties, "customContainerTemplate.registryCredentials");

	if (from == NULL)
		return;
	ret->server = copied(c, from, "server");
	ret->username = copied(c, from, "username");
	ret->password_secret = copied(c, from, "passwordSecretRef");
	ret->identity = copied(c, from, "identity");
	if (ret->server.n == 0)
		rule_error(errors, "MissingRequiredProperty", call_printf(c, "%.*s.server", STR_ARGS(target)),
			   "%.*s.server: is required.", STR_ARGS(target));
	if ((ret->username.n > 0) != (ret->password_secret.n > 0))
		rule_error(errors, "InvalidParameterValue", target,
			   "%.*s: username and passwordSecretRef are needed together.", STR_ARGS(target));
	if (ret->password_secret.n > 0)
		need_secret(errors, properties, ret->password_secret,
			    call_printf(c, "%.*s.passwordSecretRef", STR_ARGS(target)));
}

static void check_secrets(struct call *c, const json_t *properties, struct rule_errors *errors)
{
	const json_t *secrets = json_object_get(properties, "secrets");

	for (size_t i = 0; i < json_array_size(secrets); i++) {
		struct str name = json_str_of(json_object_get(json_array_get(secrets, i), "name"));

		if (has_named(secrets, name, i))
			rule_error(errors, "DuplicateName", call_printf(c, "properties.secrets[%zu].name", i),
				   "properties.secrets[%zu].name: '%.*s' is named twice.", i, STR_ARGS(name));
	}
}

/* Azure's resource has no field for it; every resource has tags. */
static void read_node_labels(struct call *c, const json_t *document, struct rule_errors *errors,
			     struct template *ret)
{
	ret->node_labels = copied(c, json_object_get(document, "tags"), "berth.nodeLabels");
	if (!template_labels_good(ret->node_labels))
		rule_error(errors, "InvalidParameterValue", STR("tags.berth.nodeLabels"),
			   "tags.berth.nodeLabels: must be name=value,name=value of letters, digits and "
			   "._/-, no "
			   "name twice.");
}

void pool_template_read(struct call *c, const json_t *document, struct rule_errors *errors,
			struct msg_pool_put *ret)
{
	const json_t *properties = json_object_get(document, "properties");
	const json_t *template = json_object_get(properties, "customContainerTemplate");
	const json_t *container = json_array_get(json_object_get(template, "containers"), 0);
	const json_t *resources = json_object_get(container, "resources");
	struct template *to = &ret->template;
	uint64_t mib = 0;

	read_node_labels(c, document, errors, to);
	read_limits(properties, errors, &ret->limits);
	check_secrets(c, properties, errors);
	to->container_name = copied(c, container, "name");
	to->image = copied(c, container, "image");
	read_registry(c, properties, errors, &to->registry);
	read_strings(c, json_object_get(container, "command"), &to->command, &to->n_command);
	read_strings(c, json_object_get(container, "args"), &to->args, &to->n_args);
	read_env(c, properties, json_object_get(container, "env"), errors, to);
	read_probes(c, json_object_get(container, "probes"), errors, to);
	to->cpu_milli = (uint32_t)lrint(json_number_value(json_object_get(resources, "cpu")) * 1000);
	if (rule_memory_mib(json_str_of(json_object_get(resources, "memory")), &mib) == 0)
		to->memory_bytes = mib << 20;
	to->target_port = (uint16_t)number(json_object_get(template, "ingress"), "targetPort", 0);
}
