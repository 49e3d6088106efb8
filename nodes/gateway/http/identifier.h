/* identifier.h -- the `identifier` of a query: found, percent-decoded, checked (Azure's session identifiers).
 * Allowed: letters, digits and  | - & ^ % $ # ( ) { } [ ] ; < > _ : " ' ? / . , @ * + = ! ~ `  -- 4 to 128 of them. */
#ifndef GATEWAY_IDENTIFIER_H
#define GATEWAY_IDENTIFIER_H

#include "core/str.h"
#include "wire/template.h"

enum identifier_result {
	IDENTIFIER_OK,
	IDENTIFIER_MISSING,
	IDENTIFIER_REPEATED,
	IDENTIFIER_ENCODING, /* a bad percent sequence */
	IDENTIFIER_LENGTH,
	IDENTIFIER_CHARACTER,
	IDENTIFIER_RESULTS
};

/* `query` is what is behind the question mark. *ret_n bytes go to `ret`. A parameter's name is decoded before it is compared, so
 * that no second reader of the query can find another identifier. '+' is itself, not a space. */
enum identifier_result identifier_of_query(struct str query, char ret[IDENTIFIER_MAX], size_t *ret_n);
/* For people. */
extern const char *const identifier_message[IDENTIFIER_RESULTS];

#endif
