/* rule.c -- see rule.h. Paths are built in one buffer while walking: `at` names the field for people
 * ("properties.secrets[2].name"), `rule` for the table ("properties.secrets[].name"). */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arm/rule.h"
#include "arm/version.h"

#define PATH_MAX_BYTES 512

struct walk {
	const struct rule_table *table;
	struct rule_errors *errors;
	enum rule_mode mode;
	uint32_t version;
	int64_t cooldown_s_min;
	char at[PATH_MAX_BYTES], rule[PATH_MAX_BYTES];
};

void rule_error(struct rule_errors *errors, const char *code, struct str target, const char *format, ...)
{
	CLEANUP_BUF struct buf text = {0};
	va_list args;
	uint32_t i = errors->n;

	if (i == CALL_ERRORS_MAX)
		return;
	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	errors->list[i].code = code;
	errors->list[i].target = arena_str(errors->call->arena, target);
	errors->list[i].message = arena_str(errors->call->arena, buf_str(&text));
	errors->n++;
}

void rule_reply(const struct rule_errors *errors)
{
	json_t *body = json_new_object(), *error = json_put_object(body, "error"), *details;

	json_put_cstr(error, "code", errors->list[0].code);
	if (errors->n == 1) {
		json_put_str(error, "message", errors->list[0].message);
	} else {
		struct str text = call_printf(errors->call, "%u fields are not valid. The first: %.*s",
					      errors->n, STR_ARGS(errors->list[0].message));
		json_put_str(error, "message", text);
	}
	json_put_str(error, "target", errors->list[0].target);
	details = json_put_array(error, "details");
	for (uint32_t i = 0; i < errors->n; i++) {
		json_t *detail = json_push_object(details);

		json_put_cstr(detail, "code", errors->list[i].code);
		json_put_str(detail, "message", errors->list[i].message);
		json_put_str(detail, "target", errors->list[i].target);
	}
	call_json(errors->call, 400, body);
}

#define WRONG(w, code, ...) rule_error((w)->errors, (code), str_of((w)->at), __VA_ARGS__)

int rule_memory_mib(struct str text, uint64_t *ret)
{
	char number[32], *end;
	double value;
	size_t n = 0;

	while (n < text.n && ((text.p[n] >= '0' && text.p[n] <= '9') || text.p[n] == '.'))
		n++;
	if (n == 0 || str_copy(str_slice(text, 0, n), number, sizeof number) < 0)
		return -EINVAL;
	value = strtod(number, &end);
	if (*end != '\0' || !isfinite(value) || value > 1e6)
		return -EINVAL;
	text = str_slice(text, n, text.n);
	if (str_eq(text, STR("Gi")))
		value *= 1024;
	else if (!str_eq(text, STR("Mi")))
		return -EINVAL;
	if (value < 0 || fabs(value - rint(value)) > 1e-6)
		return -EINVAL;
	*ret = (uint64_t)rint(value);
	return 0;
}

static const struct rule *find(const struct walk *w, const char *path)
{
	for (size_t i = 0; i < w->table->n; i++)
		if (strcmp(w->table->rules[i].path, path) == 0)
			return &w->table->rules[i];
	return NULL;
}

/* The number in a JSON number or in a string of one. */
static bool number_of(const json_t *value, double *ret)
{
	char text[64], *end;

	if (json_is_number(value)) {
		*ret = json_number_value(value);
		return true;
	}
	if (!json_is_string(value) || str_copy(json_str_of(value), text, sizeof text) < 0 ||
	    text[0] == '\0' || strspn(text, "0123456789.+-") != strlen(text))
		return false;
	*ret = strtod(text, &end);
	return *end == '\0';
}

static json_t *check_integer(struct walk *w, const struct rule *rule, json_t *value)
{
	int64_t min = rule->min == RULE_COOLDOWN_MIN ? w->cooldown_s_min : rule->min;
	double x;

	if (!number_of(value, &x) || x != rint(x) || x < (double)min || x > (double)rule->max) {
		WRONG(w, "InvalidParameterValue", "%s: must be a whole number from %lld to %lld.", w->at,
		      (long long)min, (long long)rule->max);
		return NULL;
	}
	return json_integer((json_int_t)x);
}

static json_t *check_cpu(struct walk *w, const struct rule *rule, json_t *value)
{
	double x, steps;

	if (number_of(value, &x)) {
		steps = x * 1000 / (double)rule->min;
		if (x * 1000 >= (double)rule->min && x * 1000 <= (double)rule->max &&
		    fabs(steps - rint(steps)) < 1e-6)
			return json_real(x);
	}
	WRONG(w, "InvalidParameterValue", "%s: must be a number of cores from %g to %g in steps of %g.",
	      w->at, (double)rule->min / 1000, (double)rule->max / 1000, (double)rule->min / 1000);
	return NULL;
}

static json_t *check_memory(struct walk *w, const struct rule *rule, json_t *value)
{
	uint64_t mib;

	if (rule_memory_mib(json_str_of(value), &mib) == 0 && mib >= (uint64_t)rule->min &&
	    mib <= (uint64_t)rule->max)
		return json_incref(value);
	WRONG(w, "InvalidParameterValue",
	      "%s: must be a string such as \"0.5Gi\" or \"512Mi\", from %gGi to %gGi.", w->at,
	      (double)rule->min / 1024, (double)rule->max / 1024);
	return NULL;
}

static json_t *check_string(struct walk *w, const struct rule *rule, json_t *value)
{
	struct str s = json_str_of(value);

	if (!json_is_string(value)) {
		WRONG(w, "InvalidParameterValue", "%s: must be a string, not %s.", w->at,
		      json_kind_name(value));
	} else if (s.n < (uint64_t)rule->min || s.n > (uint64_t)rule->max) {
		WRONG(w, "InvalidParameterValue", "%s: must have %lld to %lld bytes; it has %zu.", w->at,
		      (long long)rule->min, (long long)rule->max, s.n);
	} else if (s.n > 0 && rule->good != NULL && !rule->good(s)) {
		WRONG(w, "InvalidParameterValue", "%s: must be %s.", w->at, rule->allowed);
	} else {
		return json_incref(value);
	}
	return NULL;
}

static json_t *check_enum(struct walk *w, const struct rule *rule, json_t *value)
{
	struct str rest = str_of(rule->words), word, s = json_str_of(value);
	CLEANUP_BUF struct buf words = {0};
	bool more = true;

	while (more) {
		more = str_cut(rest, '|', &word, &rest);
		if (json_is_string(value) && str_eq_nocase(word, s))
			return json_new_str(word);
		buf_printf(&words, "%s%.*s", words.n == 0 ? "" : ", ", STR_ARGS(word));
	}
	WRONG(w, "InvalidParameterValue", "%s: must be one of: %.*s.", w->at, STR_ARGS(buf_str(&words)));
	return NULL;
}

static json_t *check_map(struct walk *w, const struct rule *rule, json_t *value)
{
	const char *key;
	json_t *element;

	if (!json_is_object(value)) {
		WRONG(w, "InvalidParameterValue", "%s: must be an object of strings, not %s.", w->at,
		      json_kind_name(value));
		return NULL;
	}
	if (json_object_size(value) > (size_t)rule->max) {
		WRONG(w, "InvalidParameterValue", "%s: must have at most %lld entries.", w->at,
		      (long long)rule->max);
		return NULL;
	}
	json_object_foreach(value, key, element)
	{
		if (!json_is_string(element) && !(json_is_null(element) && w->mode == RULE_PATCH)) {
			rule_error(w->errors, "InvalidParameterValue",
				   call_printf(w->errors->call, "%s.%.100s", w->at, key),
				   "%s.%.100s: must be a string.", w->at, key);
			return NULL;
		}
	}
	return json_incref(value);
}

static json_t *check_value(struct walk *w, const struct rule *rule, json_t *value);

static json_t *check_array(struct walk *w, const struct rule *rule, json_t *value)
{
	size_t n_at = strlen(w->at), n_rule = strlen(w->rule), n = json_array_size(value);
	const struct rule *element;
	json_t *ret;

	if (!json_is_array(value)) {
		WRONG(w, "InvalidParameterValue", "%s: must be an array, not %s.", w->at,
		      json_kind_name(value));
		return NULL;
	}
	if (n < (size_t)rule->min || n > (size_t)rule->max) {
		if (rule->min == rule->max)
			WRONG(w, "InvalidParameterValue", "%s: must have exactly %lld element%s; it has %zu.",
			      w->at, (long long)rule->max, rule->max == 1 ? "" : "s", n);
		else
			WRONG(w, "InvalidParameterValue", "%s: must have %lld to %lld elements; it has %zu.",
			      w->at, (long long)rule->min, (long long)rule->max, n);
		return NULL;
	}
	snprintf(w->rule + n_rule, sizeof w->rule - n_rule, "[]");
	element = find(w, w->rule);
	ret = json_new_array();
	for (size_t i = 0; element != NULL && i < n; i++) {
		json_t *checked;

		snprintf(w->at + n_at, sizeof w->at - n_at, "[%zu]", i);
		checked = check_value(w, element, json_array_get(value, i));
		if (checked != NULL)
			json_push(ret, checked);
	}
	w->at[n_at] = '\0';
	w->rule[n_rule] = '\0';
	return ret;
}

static void check_member(struct walk *w, json_t *ret, const char *key, json_t *value)
{
	const struct rule *rule = find(w, w->rule);
	json_t *checked;

	if (rule == NULL) {
		WRONG(w, "UnknownProperty", "%s: is not a property of this resource.", w->at);
	} else if (rule->kind == RULE_IGNORED) {
		return;
	} else if (w->version != VERSION_ANY &&
		   (w->version < rule->since || (rule->until != 0 && w->version > rule->until))) {
		if (!json_is_null(value))
			WRONG(w, "UnknownProperty",
			      "%s: is not part of api-version %u-%02u-%02u; it is %s %u-%02u-%02u.", w->at,
			      w->version / 10000, w->version / 100 % 100, w->version % 100,
			      w->version < rule->since ? "from" : "up to",
			      (w->version < rule->since ? rule->since : rule->until) / 10000,
			      (w->version < rule->since ? rule->since : rule->until) / 100 % 100,
			      (w->version < rule->since ? rule->since : rule->until) % 100);
	} else if (json_is_null(value)) {
		if (w->mode == RULE_PATCH)
			json_put_null(ret, key);
	} else {
		checked = check_value(w, rule, value);
		if (checked != NULL)
			json_put(ret, key, checked);
	}
}

/* Which required members are missing? */
static void check_required(struct walk *w, const json_t *value)
{
	size_t n = strlen(w->rule);

	for (size_t i = 0; i < w->table->n; i++) {
		const struct rule *rule = &w->table->rules[i];
		const char *name = rule->path;

		if (!rule->required || strncmp(name, w->rule, n) != 0)
			continue;
		name += n;
		if (n > 0 && *name++ != '.')
			continue;
		if (strpbrk(name, ".[") != NULL)
			continue;
		if (json_object_get(value, name) == NULL || json_is_null(json_object_get(value, name))) {
			struct str at = call_printf(w->errors->call, "%s%s%s", w->at, n > 0 ? "." : "", name);

			rule_error(w->errors, "MissingRequiredProperty", at, "%.*s: is required.",
				   STR_ARGS(at));
		}
	}
}

static json_t *check_object(struct walk *w, json_t *value)
{
	size_t n_at = strlen(w->at), n_rule = strlen(w->rule);
	const char *key;
	json_t *member, *ret;

	if (!json_is_object(value)) {
		WRONG(w, "InvalidParameterValue", "%s: must be an object, not %s.", w->at,
		      json_kind_name(value));
		return NULL;
	}
	ret = json_new_object();
	json_object_foreach(value, key, member)
	{
		/* A key that does not fit is cut; then no rule matches and it is refused as unknown. */
		snprintf(w->at + n_at, sizeof w->at - n_at, "%s%.100s", n_at > 0 ? "." : "", key);
		snprintf(w->rule + n_rule, sizeof w->rule - n_rule, "%s%.100s", n_rule > 0 ? "." : "", key);
		check_member(w, ret, key, member);
		w->at[n_at] = '\0';
		w->rule[n_rule] = '\0';
	}
	if (w->mode == RULE_WHOLE || strchr(w->rule, '[') != NULL)
		check_required(w, value);
	return ret;
}

/* A new reference to the value as it should be, or NULL after an error. */
static json_t *check_value(struct walk *w, const struct rule *rule, json_t *value)
{
	switch (rule->kind) {
	case RULE_OBJECT:
		return check_object(w, value);
	case RULE_ARRAY:
		return check_array(w, rule, value);
	case RULE_MAP:
		return check_map(w, rule, value);
	case RULE_STRING:
		return check_string(w, rule, value);
	case RULE_ENUM:
		return check_enum(w, rule, value);
	case RULE_INTEGER:
		return check_integer(w, rule, value);
	case RULE_CPU:
		return check_cpu(w, rule, value);
	case RULE_MEMORY:
		return check_memory(w, rule, value);
	case RULE_IGNORED:
		return NULL;
	}
	return NULL;
}

void rule_check(const struct rule_table *table, json_t *document, enum rule_mode mode, uint32_t version,
		int64_t cooldown_s_min, struct rule_errors *errors)
{
	struct walk w = {.table = table,
			 .errors = errors,
			 .mode = mode,
			 .version = version,
			 .cooldown_s_min = cooldown_s_min};
	json_t *checked = check_object(&w, document);

	if (checked == NULL)
		return;
	json_object_clear(document);
	json_object_update(document, checked);
	json_decref(checked);
}
