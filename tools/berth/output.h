/* output.h -- answers for people and programs: JSON as it came, or columns of it as a table or tab-separated.
 * Whatever came from outside has its control characters escaped. */
#ifndef BERTH_OUTPUT_H
#define BERTH_OUTPUT_H

#include "command.h"
#include "json/json.h"

struct column {
	const char *title,
		*path; /* json.h's path; a list of paths joined by '/' when several are shown together */
};

enum output_form { OUTPUT_JSON, OUTPUT_TABLE, OUTPUT_TSV };
/* EXIT_USAGE for an unknown one. */
int output_form(const struct args *args, enum output_form *ret);
/* One object: a table has a line a column. */
int output_one(const struct args *args, const json_t *object, const struct column *columns, size_t n);
/* The bare `token` of the answer, for $(berth token); JSON only when it is asked for. */
int output_token(const struct args *args, const json_t *answer);
/* The elements of `list`: a table has a line an element. `whole` is what JSON shows. */
int output_list(const struct args *args, const json_t *whole, const json_t *list,
		const struct column *columns, size_t n);

#endif
