/* json.h -- reading JSON from outside: a strict parse within bounds, then fields by path, with errors that name the field.
 *
 * Owns: json_parse gives one reference to the caller (json_auto_t or json_decref); all else is borrowed from it and
 * lives as long. Thread: a document belongs to one thread. jansson's own functions and loops may be used on the values.
 *
 *   json_auto_t *body = NULL;
 *   r = json_parse(text, &(struct json_bounds){.bytes_max = 65536}, &body, err);
 *   r = json_get_str(body, JSON_REQUIRED, 63, &name, err, "properties.containers[%zu].name", i);
 *   // -> "properties.containers[0].name: must be a string" */
#ifndef JSON_JSON_H
#define JSON_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/str.h"

#define JSON_DEPTH_MAX  32
#define JSON_VALUES_MAX 65536
#define JSON_PATH_MAX   512

struct json_bounds {
	size_t bytes_max;  /* 0: 1 MiB */
	size_t depth_max;  /* 0: JSON_DEPTH_MAX */
	size_t values_max; /* 0: JSON_VALUES_MAX */
	bool any; /* a bare string or number as the whole document too; else an object or array (RFC 4627) */
};

/* Exactly one JSON text (RFC 8259) in UTF-8: no duplicate keys, no NUL in strings, nothing behind it.
 * -E2BIG above a bound, -EBADMSG when malformed (line and column named), -ENOMEM. */
int json_parse(struct str text, const struct json_bounds *bounds, json_t **ret, struct err *err);

/* The bounds alone, before anything is allocated. -E2BIG. */
int json_scan(struct str text, const struct json_bounds *bounds, struct err *err);

enum json_need { JSON_OPTIONAL, JSON_REQUIRED };

/* The value at a path such as "a.b[2].c", or NULL when any part of it is missing, null or of another type.
 * An empty path is `from` itself. Keys with dots or brackets: use json_object_get. */
json_t *json_at(const json_t *from, const char *path);

/* Each reads one field by a path (printf style). Missing and null are the same: with JSON_OPTIONAL the call answers 0
 * and *ret keeps its value, with JSON_REQUIRED it is an error. -ENOENT: missing; -EINVAL: wrong type or out of bounds. */
#define JSON_PRINTF_(n) __attribute__((format(printf, n, (n) + 1)))
int json_get_str(const json_t *from, enum json_need need, size_t bytes_max, struct str *ret, struct err *err,
		 const char *path, ...) JSON_PRINTF_(6);
int json_get_u64(const json_t *from, enum json_need need, uint64_t min, uint64_t max, uint64_t *ret,
		 struct err *err, const char *path, ...) JSON_PRINTF_(7);
/* Integers and fractions. */
int json_get_real(const json_t *from, enum json_need need, double min, double max, double *ret,
		  struct err *err, const char *path, ...) JSON_PRINTF_(7);
int json_get_bool(const json_t *from, enum json_need need, bool *ret, struct err *err, const char *path, ...)
	JSON_PRINTF_(5);
int json_get_object(const json_t *from, enum json_need need, json_t **ret, struct err *err, const char *path,
		    ...) JSON_PRINTF_(5);
/* At most n_max elements. */
int json_get_array(const json_t *from, enum json_need need, size_t n_max, json_t **ret, struct err *err,
		   const char *path, ...) JSON_PRINTF_(6);
/* One of `names` (ending with NULL), compared without case as Azure does; *ret is its index. */
int json_get_enum(const json_t *from, enum json_need need, const char *const *names, unsigned *ret,
		  struct err *err, const char *path, ...) JSON_PRINTF_(6);

/* A key of `object` that is not in `names` (ending with NULL), or NULL: for "unknown field". */
const char *json_unknown_key(const json_t *object, const char *const *names);
/* "a string", "an object", ...; "nothing" for NULL. */
const char *json_kind_name(const json_t *value);
struct str json_str_of(const json_t *string); /* STR_NONE when it is not a string */

#endif
