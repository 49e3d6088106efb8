/* rule.h -- validation by a table: every field that a resource may have, its type, bounds and versions, in one row.
 *
 * rule_check() walks a document, finds each field's row by its path ("a.b[].c"), turns numbers that came as strings into
 * numbers, enum values into their own spelling, and collects an error for everything that is wrong: unknown fields too.
 * Read-only fields that clients send back are dropped, nulls are dropped (or kept, for a merge patch). */
#ifndef ARM_RULE_H
#define ARM_RULE_H

#include "arm/call.h"

enum rule_kind {
	RULE_OBJECT,
	RULE_ARRAY,   /* min to max elements */
	RULE_MAP,     /* an object of strings, at most max of them */
	RULE_STRING,  /* min to max bytes, and `good` */
	RULE_ENUM,    /* one of `words`, separated by '|' */
	RULE_INTEGER, /* min to max */
	RULE_CPU,     /* cores, a multiple of min/1000, at most max/1000 */
	RULE_MEMORY,  /* "0.5Gi": min to max MiB */
	RULE_IGNORED, /* read-only or without meaning here: dropped */
};

struct rule {
	const char *path;
	enum rule_kind kind;
	int64_t min, max;
	const char *words;          /* ENUM */
	bool (*good)(struct str s); /* STRING */
	const char *allowed;        /* what `good` takes, for people */
	uint32_t since, until;      /* versions; 0: always */
	bool required;              /* where its parent is */
};

struct rule_table {
	const struct rule *rules;
	size_t n;
};

/* Errors of one request: an ARM error with a detail each. */
struct rule_errors {
	struct call *call;
	uint32_t n;
	struct {
		const char *code;
		struct str target, message;
	} list[CALL_ERRORS_MAX];
};

void rule_error(struct rule_errors *errors, const char *code, struct str target, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* Makes the 400 reply. */
void rule_reply(const struct rule_errors *errors);

enum rule_mode {
	RULE_WHOLE, /* required fields must be there; nulls are dropped */
	RULE_PATCH, /* nothing is required; nulls stay, they delete */
};

/* `document` is changed in place. version VERSION_ANY: fields of all versions are taken. `cooldown_s_min` replaces the lower
 * bound of rules whose min is RULE_COOLDOWN_MIN. */
#define RULE_COOLDOWN_MIN INT64_MIN
void rule_check(const struct rule_table *table, json_t *document, enum rule_mode mode, uint32_t version,
		int64_t cooldown_s_min, struct rule_errors *errors);

/* "1.5Gi" -> MiB; "512Mi" -> 512. -EINVAL. */
int rule_memory_mib(struct str text, uint64_t *ret);

#endif
