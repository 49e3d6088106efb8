#include "json/json.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int json_parse(struct str text, const struct json_bounds *bounds, json_t **ret, struct err *err)
{
	size_t flags = JSON_REJECT_DUPLICATES | (bounds->any ? JSON_DECODE_ANY : 0);
	json_error_t error;
	json_t *value;
	int r = json_scan(text, bounds, err);

	if (r < 0)
		return r;
	value = json_loadb(text.p == NULL ? "" : text.p, text.n, flags, &error);
	if (value == NULL && json_error_code(&error) == json_error_out_of_memory)
		return err_set(err, -ENOMEM, "no memory for the JSON text");
	if (value == NULL)
		return err_set(err, -EBADMSG, "not valid JSON: line %d column %d: %s", error.line,
			       error.column, error.text);
	*ret = value;
	return 0;
}

/* One step of a path: a key or "[n]". Advances *path behind it. */
static json_t *step(const json_t *from, const char **path)
{
	const char *p = *path;

	if (*p == '[') {
		size_t index = 0;

		for (p++; *p >= '0' && *p <= '9' && index < JSON_VALUES_MAX; p++)
			index = index * 10 + (size_t)(*p - '0');
		if (*p != ']')
			return NULL;
		*path = p + 1;
		return json_array_get(from, index);
	}
	if (*p == '.')
		p++;
	char key[JSON_PATH_MAX];
	size_t n = strcspn(p, ".[");

	if (n == 0 || n >= sizeof key)
		return NULL;
	memcpy(key, p, n);
	key[n] = '\0';
	*path = p + n;
	return json_object_get(from, key);
}

json_t *json_at(const json_t *from, const char *path)
{
	json_t *value = (json_t *)(uintptr_t)from;

	while (*path != '\0' && value != NULL)
		value = step(value, &path);
	return json_is_null(value) ? NULL : value;
}

const char *json_kind_name(const json_t *value)
{
	if (value == NULL)
		return "nothing";
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	return "nothing";
}

struct str json_str_of(const json_t *string)
{
	if (!json_is_string(string))
		return STR_NONE;
	return (struct str){json_string_value(string), json_string_length(string)};
}

/* The field that a getter is about. */
struct field {
	char path[JSON_PATH_MAX];
	json_t *value;
};

/* 1: there is a value; 0: none, and none needed; negative: none, but needed. */
__attribute__((format(printf, 5, 0))) static int find(struct field *f, const json_t *from,
						      enum json_need need, struct err *err, const char *path,
						      va_list args)
{
	if (vsnprintf(f->path, sizeof f->path, path, args) >= (int)sizeof f->path)
		return err_set(err, -EINVAL, "%s...: the path is too long", f->path);
	f->value = json_at(from, f->path);
	if (f->value != NULL)
		return 1;
	return need == JSON_OPTIONAL ? 0 : err_set(err, -ENOENT, "%s: is missing", f->path);
}

static int wrong_type(const struct field *f, const char *wanted, struct err *err)
{
	return err_set(err, -EINVAL, "%s: must be %s, not %s", f->path, wanted, json_kind_name(f->value));
}

#define FIND(f)                                          \
	struct field f;                                  \
	va_list args;                                    \
                                                         \
	va_start(args, path);                            \
	int r = find(&(f), from, need, err, path, args); \
                                                         \
	va_end(args);                                    \
	if (r <= 0)                                      \
	return r

int json_get_str(const json_t *from, enum json_need need, size_t bytes_max, struct str *ret, struct err *err,
		 const char *path, ...)
{
	FIND(f);
	if (!json_is_string(f.value))
		return wrong_type(&f, "a string", err);
	if (json_string_length(f.value) > bytes_max)
		return err_set(err, -EINVAL, "%s: has %zu bytes, at most %zu are allowed", f.path,
			       json_string_length(f.value), bytes_max);
	*ret = json_str_of(f.value);
	return 0;
}

int json_get_u64(const json_t *from, enum json_need need, uint64_t min, uint64_t max, uint64_t *ret,
		 struct err *err, const char *path, ...)
{
	FIND(f);
	if (!json_is_integer(f.value))
		return wrong_type(&f, "an integer", err);
	json_int_t x = json_integer_value(f.value);

	if (x < 0 || (uint64_t)x < min || (uint64_t)x > max)
		return err_set(err, -EINVAL, "%s: is %lld, must be from %llu to %llu", f.path, (long long)x,
			       (unsigned long long)min, (unsigned long long)max);
	*ret = (uint64_t)x;
	return 0;
}

int json_get_real(const json_t *from, enum json_need need, double min, double max, double *ret,
		  struct err *err, const char *path, ...)
{
	FIND(f);
	if (!json_is_number(f.value))
		return wrong_type(&f, "a number", err);
	double x = json_number_value(f.value);

	if (!(x >= min && x <= max))
		return err_set(err, -EINVAL, "%s: is %g, must be from %g to %g", f.path, x, min, max);
	*ret = x;
	return 0;
}

int json_get_bool(const json_t *from, enum json_need need, bool *ret, struct err *err, const char *path, ...)
{
	FIND(f);
	if (!json_is_boolean(f.value))
		return wrong_type(&f, "true or false", err);
	*ret = json_is_true(f.value);
	return 0;
}

int json_get_object(const json_t *from, enum json_need need, json_t **ret, struct err *err, const char *path,
		    ...)
{
	FIND(f);
	if (!json_is_object(f.value))
		return wrong_type(&f, "an object", err);
	*ret = f.value;
	return 0;
}

int json_get_array(const json_t *from, enum json_need need, size_t n_max, json_t **ret, struct err *err,
		   const char *path, ...)
{
	FIND(f);
	if (!json_is_array(f.value))
		return wrong_type(&f, "an array", err);
	if (json_array_size(f.value) > n_max)
		return err_set(err, -EINVAL, "%s: has %zu elements, at most %zu are allowed", f.path,
			       json_array_size(f.value), n_max);
	*ret = f.value;
	return 0;
}

int json_get_enum(const json_t *from, enum json_need need, const char *const *names, unsigned *ret,
		  struct err *err, const char *path, ...)
{
	char allowed[256] = "";

	FIND(f);
	if (!json_is_string(f.value))
		return wrong_type(&f, "a string", err);
	for (unsigned i = 0; names[i] != NULL; i++) {
		size_t n = strlen(allowed);

		if (str_eq_nocase(json_str_of(f.value), str_of(names[i]))) {
			*ret = i;
			return 0;
		}
		snprintf(allowed + n, sizeof allowed - n, "%s%s", i == 0 ? "" : ", ", names[i]);
	}
	return err_set(err, -EINVAL, "%s: is '%.64s', must be one of %s", f.path, json_string_value(f.value),
		       allowed);
}

const char *json_unknown_key(const json_t *object, const char *const *names)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		size_t i = 0;

		while (names[i] != NULL && strcmp(names[i], key) != 0)
			i++;
		if (names[i] == NULL)
			return key;
	}
	return NULL;
}
