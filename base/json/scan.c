/* scan.c -- depth and number of values of a text that may not be JSON at all, without memory.
 * Brackets, commas and colons outside of strings are counted; whether they are in place is the parser's work. */
#include <errno.h>

#include "json/json.h"

#define BYTES_MAX (1u << 20)

static size_t or_default(size_t bound, size_t otherwise)
{
	return bound == 0 ? otherwise : bound;
}

/* The index behind the string that opens at `at`, or the end. */
static size_t skip_string(struct str text, size_t at)
{
	for (at++; at < text.n && text.p[at] != '"'; at++) {
		if (text.p[at] == '\\')
			at++;
	}
	return at < text.n ? at : text.n;
}

int json_scan(struct str text, const struct json_bounds *bounds, struct err *err)
{
	size_t bytes_max = or_default(bounds->bytes_max, BYTES_MAX);
	size_t depth_max = or_default(bounds->depth_max, JSON_DEPTH_MAX);
	size_t values_max = or_default(bounds->values_max, JSON_VALUES_MAX);
	size_t depth = 0, values = 1;

	if (text.n > bytes_max)
		return err_set(err, -E2BIG, "the JSON text has %zu bytes, %zu are allowed", text.n,
			       bytes_max);
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];

		if (c == '"')
			i = skip_string(text, i);
		else if (c == '{' || c == '[') {
			values++;
			if (++depth > depth_max)
				return err_set(err, -E2BIG, "the JSON text nests deeper than %zu levels",
					       depth_max);
		} else if ((c == '}' || c == ']') && depth > 0)
			depth--;
		else if (c == ',')
			values++;
		if (values > values_max)
			return err_set(err, -E2BIG, "the JSON text has more than %zu values", values_max);
	}
	return 0;
}
