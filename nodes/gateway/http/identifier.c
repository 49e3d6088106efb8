#include "gateway/http/identifier.h"

#include <string.h>

const char *const identifier_message[IDENTIFIER_RESULTS] = {
	[IDENTIFIER_OK] = "",
	[IDENTIFIER_MISSING] = "identifier: the query parameter is required",
	[IDENTIFIER_REPEATED] = "identifier: the query parameter must be given once",
	[IDENTIFIER_ENCODING] = "identifier: a % must be followed by two hexadecimal digits",
	[IDENTIFIER_LENGTH] = "identifier: must have 4 to 128 characters",
	[IDENTIFIER_CHARACTER] =
		"identifier: only letters, digits and |-&^%$#(){}[];<>_:\"'?/.,@*+=!~` are allowed",
};

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes at most `size` bytes; the true length goes to *ret_n. False: a bad sequence. */
static bool decode(struct str s, char *to, size_t size, size_t *ret_n)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++, n++) {
		char c = s.p[i];
		if (c == '%') {
			int high = s.n - i > 2 ? hex(s.p[i + 1]) : -1,
			    low = s.n - i > 2 ? hex(s.p[i + 2]) : -1;
			if (high < 0 || low < 0)
				return false;
			c = (char)(high * 16 + low);
			i += 2;
		}
		if (n < size)
			to[n] = c;
	}
	*ret_n = n;
	return true;
}

static bool is_identifier_key(struct str key)
{
	char name[10];
	size_t n = 0;

	if (key.n < 10 || key.n > 30 || !decode(key, name, sizeof name, &n))
		return false;
	return n == 10 && str_eq_nocase((struct str){name, n}, STR("identifier"));
}

static bool allowed(char c)
{
	if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
		return true;
	return c && strchr("|-&^%$#(){}[];<>_:\"'?/.,@*+=!~`", c);
}

enum identifier_result identifier_of_query(struct str query, char ret[IDENTIFIER_MAX], size_t *ret_n)
{
	struct str found = STR_NONE, rest = query, pair, key, value;
	bool seen = false;
	size_t n;

	while (rest.n) {
		str_cut(rest, '&', &pair, &rest);
		str_cut(pair, '=', &key, &value);
		if (!is_identifier_key(key))
			continue;
		if (seen)
			return IDENTIFIER_REPEATED;
		seen = true;
		found = value;
	}
	if (!seen)
		return IDENTIFIER_MISSING;
	if (!decode(found, ret, IDENTIFIER_MAX, &n))
		return IDENTIFIER_ENCODING;
	if (n < IDENTIFIER_MIN || n > IDENTIFIER_MAX)
		return IDENTIFIER_LENGTH;
	for (size_t i = 0; i < n; i++)
		if (!allowed(ret[i]))
			return IDENTIFIER_CHARACTER;
	*ret_n = n;
	return IDENTIFIER_OK;
}
