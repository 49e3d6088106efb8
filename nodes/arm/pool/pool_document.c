/* pool_document.c -- see pool_document.h.
 *
 * A body is checked as it came (its version's fields, types, ranges), put into the canonical shape, merged into the stored
 * document when it is a patch, completed with defaults, and checked whole. Secret values leave the document before
 * anything of it is kept; what is kept is their names. */
#include <errno.h>
#include <string.h>

#include "arm/pool/pool_document.h"
#include "arm/pool/pool_rules.h"
#include "arm/pool/pool_template.h"
#include "arm/version.h"
#include "core/must.h"

#define DOCUMENT_BYTES_MAX (256u * 1024) /* of messages.c and tables.c */
#define MESSAGE_BYTES_MAX  (512u * 1024)
#define IDENTITIES_MAX     64
#define READY_DEFAULT      5 /* the CLI's defaults */
#define COOLDOWN_DEFAULT   300
#define MAX_ALIVE_DEFAULT  3600

void pool_document_merge(json_t *into, json_t *patch)
{
	const char *key;
	json_t *value;

	json_object_foreach(patch, key, value)
	{
		json_t *old = json_object_get(into, key);

		if (json_is_null(value)) {
			json_object_del(into, key);
		} else if (json_is_object(value)) {
			if (!json_is_object(old))
				old = json_put_object(into, key);
			pool_document_merge(old, value);
		} else {
			json_put(into, key, json_incref(value));
		}
	}
}

struct str pool_document_environment(const struct call *c)
{
	struct str name = state_cluster(c->state)->settings.environment;

	return call_printf(
		c, "/subscriptions/%.*s/resourceGroups/%.*s/providers/Microsoft.App/managedEnvironments/%.*s",
		STR_ARGS(c->subscription), STR_ARGS(c->group), STR_ARGS(name.n > 0 ? name : STR("default")));
}

static json_t *object_at(json_t *in, const char *key)
{
	json_t *value = json_object_get(in, key);

	return json_is_object(value) ? value : json_put_object(in, key);
}

static void put_default(json_t *object, const char *key, json_t *value)
{
	if (json_object_get(object, key) == NULL)
		json_put(object, key, value);
	else
		json_decref(value);
}

/* Takes identity.userAssignedIdentities out: its keys are resource ids, which no table can name. The result, owned by
 * the caller, has an empty object or null a key; JSON null when it was null; NULL when it was not there. */
static json_t *take_identities(json_t *body, struct rule_errors *errors)
{
	const struct str target = STR("identity.userAssignedIdentities");
	json_t *identity = json_object_get(body, "identity");
	json_t *from = json_is_object(identity) ? json_object_get(identity, "userAssignedIdentities") : NULL,
	       *ret, *value;
	const char *key;

	if (from == NULL)
		return NULL;
	ret = json_is_null(from) ? json_null() : json_new_object();
	if (!json_is_null(from) && (!json_is_object(from) || json_object_size(from) > IDENTITIES_MAX)) {
		rule_error(errors, "InvalidParameterValue", target,
			   "%.*s: must be an object of at most %d resource ids.", STR_ARGS(target),
			   IDENTITIES_MAX);
	} else if (json_is_object(from)) {
		json_object_foreach(from, key, value)
		{
			if (key[0] != '/' || strlen(key) > 1024 ||
			    !(json_is_object(value) || json_is_null(value)))
				rule_error(
					errors, "InvalidParameterValue", target,
					"%.*s: keys must be resource ids beginning with '/', values objects.",
					STR_ARGS(target));
			else
				json_put(ret, key, json_is_null(value) ? json_null() : json_new_object());
		}
	}
	json_object_del(identity, "userAssignedIdentities");
	return ret;
}

/* Azure's resource has no field for it; every resource has tags. It leaves the document: the pool's row keeps it, and it is shown
 * from there. One that is not named is the stored pool's, or the cluster's default. */
static void take_isolation(const struct call *c, const json_t *body, const struct pool_row *stored,
			   bool patch, struct rule_errors *errors, struct msg_pool_put *put)
{
	json_t *tags = json_object_get(body, "tags"), *tag = json_object_get(tags, POOL_TAG_ISOLATION);
	struct str word = json_str_of(tag);

	put->isolation = stored != NULL ? stored->isolation : state_cluster(c->state)->settings.isolation;
	for (unsigned i = 0; i < ISOLATIONS; i++) {
		if (str_eq(word, str_of(isolation_name[i]))) {
			put->isolation = (uint8_t)i;
			tag = NULL;
		}
	}
	if (tag != NULL && !(patch && json_is_null(tag)))
		rule_error(errors, "InvalidParameterValue", STR("tags." POOL_TAG_ISOLATION),
			   "tags." POOL_TAG_ISOLATION ": must be \"vm\" or \"container\".");
	json_object_del(tags, POOL_TAG_ISOLATION);
}

/* Versions before 2025-01-01 say executionType and cooldownPeriodInSeconds; the first one says registryServer. */
static void to_canonical(json_t *body)
{
	json_t *properties = json_object_get(body, "properties"), *dynamic, *life, *registry, *cooldown,
	       *server;

	dynamic = json_object_get(properties, "dynamicPoolConfiguration");
	if (json_is_object(dynamic)) {
		cooldown = json_object_get(dynamic, "cooldownPeriodInSeconds");
		if (cooldown != NULL) {
			life = object_at(dynamic, "lifecycleConfiguration");
			json_put(life, "cooldownPeriodInSeconds", json_incref(cooldown));
		}
		if (json_is_string(json_object_get(dynamic, "executionType")))
			json_put_cstr(object_at(dynamic, "lifecycleConfiguration"), "lifecycleType", "Timed");
		json_object_del(dynamic, "executionType");
		json_object_del(dynamic, "cooldownPeriodInSeconds");
	}
	registry = json_at(properties, "customContainerTemplate.registryCredentials");
	server = json_object_get(registry, "registryServer");
	if (server != NULL) {
		json_put(registry, "server", json_incref(server));
		json_object_del(registry, "registryServer");
	}
}

/* Seals the values of the body's secrets and leaves their names. */
static int take_secrets(struct call *c, const json_t *body, struct str pool_id, struct msg_pool_put *put)
{
	json_t *secrets = json_object_get(json_object_get(body, "properties"), "secrets");
	size_t n = json_array_size(secrets);

	put->secrets = n == 0 ? NULL : arena_array(c->arena, n, sizeof *put->secrets);
	must(n == 0 || put->secrets != NULL);
	for (size_t i = 0; i < n; i++) {
		json_t *secret = json_array_get(secrets, i), *value = json_object_get(secret, "value");
		struct secret_put *to = &put->secrets[put->n_secrets++];
		struct err err = {0};

		to->name = arena_str(c->arena, json_str_of(json_object_get(secret, "name")));
		if (value != NULL && c->arm->seal(c->arm->context, pool_id, to->name, json_str_of(value),
						  c->arena, &to->sealed, &err) < 0) {
			call_error(c, 503, "SecretsUnavailable",
				   "The secret '%.*s' could not be encrypted: %s.", STR_ARGS(to->name),
				   err.message);
			return -EINVAL;
		}
		json_object_del(secret, "value");
		json_object_del(secret, "keyVaultUrl");
		json_object_del(secret, "identity");
	}
	return 0;
}

/* What the merged document names: a value given now, or the stored one. */
static void settle_secrets(struct call *c, const json_t *document, const struct pool_row *stored,
			   struct rule_errors *errors, struct msg_pool_put *put)
{
	json_t *secrets = json_object_get(json_object_get(document, "properties"), "secrets");
	const struct secret_put *given = put->secrets;
	uint32_t n_given = put->n_secrets;
	size_t n = json_array_size(secrets);

	put->n_secrets = (uint32_t)n;
	put->secrets = n == 0 ? NULL : arena_array(c->arena, n, sizeof *put->secrets);
	must(n == 0 || put->secrets != NULL);
	for (size_t i = 0; i < n; i++) {
		struct secret_put *to = &put->secrets[i];

		to->name =
			arena_str(c->arena, json_str_of(json_object_get(json_array_get(secrets, i), "name")));
		for (uint32_t k = 0; k < n_given; k++)
			if (str_eq(given[k].name, to->name))
				to->sealed = given[k].sealed;
		if (to->sealed.n == 0 &&
		    (stored == NULL || state_secret(c->state, stored->uid, to->name) == NULL))
			rule_error(
				errors, "MissingRequiredProperty",
				call_printf(c, "properties.secrets[%zu].value", i),
				"properties.secrets[%zu].value: is required: no value of '%.*s' is stored.",
				i, STR_ARGS(to->name));
	}
}

static void complete_identity(json_t *document, struct rule_errors *errors)
{
	json_t *identity = json_object_get(document, "identity");
	struct str type = json_str_of(json_object_get(identity, "type"));

	if (type.n == 0 || str_eq(type, STR("None"))) {
		json_object_del(document, "identity");
		return;
	}
	if (str_eq(type, STR("SystemAssigned, UserAssigned")))
		json_put_cstr(identity, "type", "SystemAssigned,UserAssigned");
	if (!str_ends(json_str_of(json_object_get(identity, "type")), STR("UserAssigned")))
		json_object_del(identity, "userAssignedIdentities");
	else if (json_object_size(json_object_get(identity, "userAssignedIdentities")) == 0)
		rule_error(errors, "MissingRequiredProperty", STR("identity.userAssignedIdentities"),
			   "identity.userAssignedIdentities: names at least one identity when identity.type "
			   "has UserAssigned.");
}

static void complete(struct call *c, json_t *document, int64_t cooldown_s_min)
{
	json_t *properties = json_object_get(document, "properties");
	json_t *scale = json_object_get(properties, "scaleConfiguration");
	json_t *container = json_array_get(json_at(properties, "customContainerTemplate.containers"), 0);
	json_t *life = object_at(object_at(properties, "dynamicPoolConfiguration"), "lifecycleConfiguration");
	int64_t most = json_integer_value(json_object_get(scale, "maxConcurrentSessions"));

	put_default(properties, "environmentId", json_new_str(pool_document_environment(c)));
	put_default(properties, "poolManagementType", json_string("Dynamic"));
	put_default(properties, "containerType", json_string("CustomContainer"));
	put_default(scale, "readySessionInstances",
		    json_integer(most < READY_DEFAULT ? most : READY_DEFAULT));
	put_default(life, "lifecycleType", json_string("Timed"));
	put_default(life, "cooldownPeriodInSeconds",
		    json_integer(cooldown_s_min > COOLDOWN_DEFAULT ? cooldown_s_min : COOLDOWN_DEFAULT));
	if (str_eq(json_str_of(json_object_get(life, "lifecycleType")), STR("OnContainerExit")))
		put_default(life, "maxAlivePeriodInSeconds", json_integer(MAX_ALIVE_DEFAULT));
	put_default(object_at(properties, "sessionNetworkConfiguration"), "status",
		    json_string("EgressDisabled"));
	put_default(container, "name", json_new_str(c->name));
}

/* Does the template differ from what the pool already wants? A tag is resolved again only when something changed, as in
 * Azure; a pool whose last operation failed may try the same again. */
static bool is_new_revision(const struct call *c, const struct pool_row *stored,
			    const struct msg_pool_put *put)
{
	const struct revision_row *row =
		stored == NULL ? NULL : state_revision(c->state, stored->uid, stored->desired_revision);
	struct template old;

	if (row == NULL || stored->provisioning == PROVISIONING_FAILED)
		return true;
	/* Sandboxes that were started without egress cannot get it. Taking it away needs no others: the tables turn it off. */
	if (put->limits.egress && !stored->limits.egress)
		return true;
	for (uint32_t i = 0; i < put->n_secrets; i++)
		for (uint32_t k = 0; put->secrets[i].sealed.n > 0 && k < put->template.n_env; k++)
			if (str_eq(put->template.env[k].secret_ref, put->secrets[i].name))
				return true;
	old = row->template;
	old.digest = put->template.digest;
	return !codec_equal(&template_codec, &old, &put->template);
}

static json_t *stored_document(struct call *c, const struct pool_row *stored)
{
	struct json_bounds bounds = {.bytes_max = DOCUMENT_BYTES_MAX};
	json_t *ret = NULL;

	if (json_parse(stored->document, &bounds, &ret, NULL) < 0)
		call_error(c, 500, "InternalError", "The stored document of the pool cannot be read.");
	return ret;
}

static int encode(struct call *c, const json_t *document, const struct pool_row *stored,
		  struct msg_pool_put *put)
{
	CLEANUP_BUF struct buf text = {0}, message = BUF_MAX(MESSAGE_BYTES_MAX);

	/* Copies: the answer is made from these when the row may have been replaced. */
	put->subscription = arena_str(c->arena, stored != NULL ? stored->subscription : c->subscription);
	put->resource_group = arena_str(c->arena, stored != NULL ? stored->resource_group : c->group);
	put->name = arena_str(c->arena, stored != NULL ? stored->name : c->name);
	put->new_revision = is_new_revision(c, stored, put);
	json_print(&text, document, false);
	if (text.n <= DOCUMENT_BYTES_MAX) {
		put->document = arena_str(c->arena, buf_str(&text));
		codec_encode(&message, message_body_codec[MSG_POOL_PUT], put);
		if (!buf_failed(&message))
			return 0;
	}
	call_error(c, 413, "RequestTooLarge", "The pool's resource is larger than %u KiB.",
		   DOCUMENT_BYTES_MAX / 1024);
	return -EINVAL;
}

/* Checks the document whole, completes it, and makes the message. */
static int settle(struct call *c, json_t *document, const struct pool_row *stored, int64_t cooldown_s_min,
		  struct rule_errors *errors, struct msg_pool_put *put)
{
	json_t *identities = take_identities(document, errors);

	rule_check(&pool_rules, document, RULE_WHOLE, VERSION_ANY, cooldown_s_min, errors);
	if (json_is_object(identities) && json_is_object(json_object_get(document, "identity")))
		json_put(json_object_get(document, "identity"), "userAssignedIdentities",
			 json_incref(identities));
	json_decref(identities);
	if (errors->n == 0) {
		complete_identity(document, errors);
		complete(c, document, cooldown_s_min);
		settle_secrets(c, document, stored, errors, put);
		pool_template_read(c, document, errors, put);
	}
	if (errors->n > 0) {
		rule_reply(errors);
		return -EINVAL;
	}
	return encode(c, document, stored, put);
}

int pool_document_read(struct call *c, json_t *body, const struct pool_row *stored, bool patch,
		       struct msg_pool_put **ret)
{
	struct rule_errors *errors = arena_alloc(c->arena, sizeof *errors);
	struct msg_pool_put *put = arena_alloc(c->arena, sizeof *put);
	int64_t cooldown_s_min = (int64_t)((state_cluster(c->state)->settings.cooldown_ms_min + 999) / 1000);
	json_t *identities, *document;
	int r;

	must(errors != NULL && put != NULL);
	errors->call = c;
	if (cooldown_s_min < 1)
		cooldown_s_min = 1;
	identities = take_identities(body, errors);
	take_isolation(c, body, stored, patch, errors, put);
	rule_check(&pool_rules, body, patch ? RULE_PATCH : RULE_WHOLE, c->version, cooldown_s_min, errors);
	if (identities != NULL && json_is_object(json_object_get(body, "identity")))
		json_put(json_object_get(body, "identity"), "userAssignedIdentities",
			 json_incref(identities));
	json_decref(identities);
	if (errors->n > 0) {
		rule_reply(errors);
		return -EINVAL;
	}
	to_canonical(body);
	r = take_secrets(c, body, call_lower(c, c->scope), put);
	if (r < 0)
		return r;
	document = patch ? stored_document(c, stored) : json_incref(body);
	if (document == NULL)
		return -EINVAL;
	if (patch)
		pool_document_merge(document, body);
	errors->n = 0;
	r = settle(c, document, stored, cooldown_s_min, errors, put);
	json_decref(document);
	if (r == 0)
		*ret = put;
	return r;
}
