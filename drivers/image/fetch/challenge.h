/* challenge.h -- WWW-Authenticate of a registry: Basic, or Bearer with realm, service and scope (RFC 9110 11.6.1, the
 * distribution project's token specification). Pure. */
#ifndef IMAGE_FETCH_CHALLENGE_H
#define IMAGE_FETCH_CHALLENGE_H

#include "core/err.h"
#include "core/str.h"

enum challenge_kind { CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
	enum challenge_kind kind;
	char realm[1024], service[256], scope[1024]; /* of Bearer; service and scope may be "" */
};

/* -EPROTO with what is wrong. */
int challenge_parse(struct str header, struct challenge *ret, struct err *err);

#define CHALLENGE_TOKEN_MAX       16384
#define CHALLENGE_TOKEN_BYTES_MAX 65536 /* of the whole answer */

/* The token server's answer: {"token"} or {"access_token"}. Printable and without spaces, for it goes into a header. -EPROTO. */
int challenge_token(struct str body, char ret[CHALLENGE_TOKEN_MAX + 1], struct err *err);

#endif
