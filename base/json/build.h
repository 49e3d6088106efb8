/* build.h -- making JSON: puts into objects and arrays that cannot fail, and printing into a buffer.
 * No memory is treated as an impossible state (must). Thread: a document belongs to one thread. */
#ifndef JSON_BUILD_H
#define JSON_BUILD_H

#include "json/json.h"

json_t *json_new_object(void);
json_t *json_new_array(void);
/* Bytes that are not UTF-8 become U+FFFD. The caller owns the result. */
json_t *json_new_str(struct str s);

/* Each replaces what the key had. */
void json_put(json_t *object, const char *key, json_t *value); /* takes the reference */
void json_put_str(json_t *object, const char *key, struct str s);
void json_put_cstr(json_t *object, const char *key, const char *terminated); /* NULL puts null */
void json_put_u64(json_t *object, const char *key, uint64_t x);              /* at most INT64_MAX */
void json_put_i64(json_t *object, const char *key, int64_t x);
void json_put_real(json_t *object, const char *key, double x);
void json_put_bool(json_t *object, const char *key, bool x);
void json_put_null(json_t *object, const char *key);
void json_put_time(json_t *object, const char *key, uint64_t wall_ms); /* RFC 3339, UTC */
/* A new object or array under the key, borrowed from `object`. */
json_t *json_put_object(json_t *object, const char *key);
json_t *json_put_array(json_t *object, const char *key);

void json_push(json_t *array, json_t *value); /* takes the reference */
void json_push_str(json_t *array, struct str s);
json_t *json_push_object(json_t *array); /* borrowed from `array` */

/* Appends the text, compact or indented by 2, without a newline at the end; keys in the order they were put. */
void json_print(struct buf *to, const json_t *value, bool indented);

#endif
