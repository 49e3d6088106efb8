/* call.h -- one request while it is handled: its path in parts, its query, and what the handlers share.
 * Everything borrowed from it lives in the request's arena. */
#ifndef ARM_CALL_H
#define ARM_CALL_H

#include <stdarg.h>

#include "arm/arm.h"
#include "json/build.h"

#define CALL_SEGMENTS_MAX 16
#define CALL_QUERY_MAX    16
#define CALL_ERRORS_MAX   64 /* details of one error answer */

struct call_parameter {
	struct str name, value;
};

struct call {
	const struct arm *arm;
	const struct arm_request *request;
	const struct state *state;
	struct arena *arena;
	struct arm_outcome *out;

	struct str segments[CALL_SEGMENTS_MAX]; /* percent-decoded */
	uint32_t n_segments;
	struct call_parameter query[CALL_QUERY_MAX];
	uint32_t n_query;

	/* what the route's pattern named */
	struct str subscription, group, name, extra;
	struct str scope; /* the resource that access is checked against */
	struct str base;  /* "https://host": links begin so */
	uint32_t version; /* api-version as yyyymmdd */
	struct str version_text;
	struct arm_activity *asks; /* what the owners of sessions must be asked before this can be answered */
	uint32_t n_asks;
	const struct pool_row *pool; /* for routes of one pool that must exist */
};

/* Splits and decodes path and query. -EINVAL: malformed escapes, control characters, or too many parts. */
int call_parse(struct call *c, struct err *err);
/* The value of a query parameter (name without case), or STR_NONE. */
struct str call_query(const struct call *c, const char *name);
/* A query parameter of digits within bounds; `otherwise` when it is missing. -EINVAL after an error reply was made. */
int call_query_u64(struct call *c, const char *name, uint64_t min, uint64_t max, uint64_t otherwise,
		   uint64_t *ret);
struct str call_printf(const struct call *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct str call_lower(const struct call *c, struct str s);

/* Replies. The JSON's reference is taken. */
void call_json(struct call *c, int status, json_t *body);
void call_error(struct call *c, int status, const char *code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void call_empty(struct call *c, int status);
/* The request's body, parsed; NULL after an error reply was made. The caller owns the reference. */
json_t *call_body(struct call *c);

/* "/subscriptions/S/resourceGroups/G/providers/Microsoft.App/sessionPools/N" */
struct str call_pool_id(const struct call *c, struct str subscription, struct str group, struct str name);

/* A table entry of arm.c. */
typedef void call_handler(struct call *c);

#endif
