#include "image_fetch/challenge.h"

#include <errno.h>
#include <string.h>

#include "json/json.h"

static struct str skip(struct str s, const char *these)
{
	while (s.n > 0 && strchr(these, s.p[0]) != NULL && s.p[0] != '\0')
		s = str_slice(s, 1, s.n);
	return s;
}

/* A token or a quoted string at the start of *s; advances *s. -EPROTO if it does not fit. */
static int take_value(struct str *s, char *to, size_t size)
{
	size_t n = 0;
	bool quoted = s->n > 0 && s->p[0] == '"';
	size_t i = quoted ? 1 : 0;

	for (; i < s->n; i++) {
		char c = s->p[i];

		if (quoted ? c == '"' : (c == ',' || c == ' ' || c == '\t'))
			break;
		if (quoted && c == '\\' && i + 1 < s->n)
			c = s->p[++i];
		if ((unsigned char)c < ' ' || n + 1 >= size)
			return -EPROTO;
		to[n++] = c;
	}
	if (quoted && i == s->n)
		return -EPROTO;
	to[n] = '\0';
	*s = str_slice(*s, quoted ? i + 1 : i, s->n);
	return 0;
}

int challenge_parse(struct str header, struct challenge *ret, struct err *err)
{
	struct challenge c = {0};
	struct str scheme, rest = skip(header, " \t");
	char other[1024];

	str_cut(rest, ' ', &scheme, &rest);
	if (str_eq_nocase(scheme, STR("basic"))) {
		c.kind = CHALLENGE_BASIC;
		*ret = c;
		return 0;
	}
	if (!str_eq_nocase(scheme, STR("bearer")))
		return err_set(err, -EPROTO, "the registry asks for an unknown kind of authentication");
	c.kind = CHALLENGE_BEARER;
	for (rest = skip(rest, ", \t"); rest.n > 0; rest = skip(rest, ", \t")) {
		struct str name, value;
		int r;

		if (!str_cut(rest, '=', &name, &value))
			break;
		if (str_eq_nocase(name, STR("realm")))
			r = take_value(&value, c.realm, sizeof c.realm);
		else if (str_eq_nocase(name, STR("service")))
			r = take_value(&value, c.service, sizeof c.service);
		else if (str_eq_nocase(name, STR("scope")))
			r = take_value(&value, c.scope, sizeof c.scope);
		else
			r = take_value(&value, other, sizeof other);
		if (r < 0)
			return err_set(err, r, "the registry's WWW-Authenticate is malformed or too long");
		rest = value;
	}
	if (c.realm[0] == '\0')
		return err_set(err, -EPROTO, "the registry's WWW-Authenticate names no realm");
	*ret = c;
	return 0;
}

int challenge_token(struct str body, char ret[CHALLENGE_TOKEN_MAX + 1], struct err *err)
{
	json_auto_t *doc = NULL;
	struct str token = STR_NONE;
	int code = json_parse(body, &(struct json_bounds){.bytes_max = CHALLENGE_TOKEN_BYTES_MAX}, &doc, err);

	if (code == 0)
		code = json_get_str(doc, JSON_OPTIONAL, CHALLENGE_TOKEN_MAX, &token, err, "token");
	if (code == 0 && token.n == 0)
		code = json_get_str(doc, JSON_REQUIRED, CHALLENGE_TOKEN_MAX, &token, err, "access_token");
	for (size_t i = 0; code == 0 && i < token.n; i++) {
		if (token.p[i] <= ' ' || token.p[i] > '~')
			code = err_set(err, -EPROTO, "token: holds characters that no token has");
	}
	if (code < 0) {
		err_wrap(err, "the token server's answer");
		return -EPROTO;
	}
	return str_copy(token, ret, CHALLENGE_TOKEN_MAX + 1);
}
