#include "image_fetch/reference.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "image_protocol/protocol.h"

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* Letters and digits in runs, separated by one '.', one or two '_', or any number of '-'. */
static bool component_valid(struct str s)
{
	if (s.n == 0 || !is_lower_alnum(s.p[0]) || !is_lower_alnum(s.p[s.n - 1]))
		return false;
	for (size_t i = 0; i < s.n;) {
		size_t run = 0;
		char c = s.p[i];

		if (is_lower_alnum(c)) {
			i++;
			continue;
		}
		while (s.p[i + run] == c)
			run++;
		if (!(c == '-' || (c == '.' && run == 1) || (c == '_' && run <= 2)) ||
		    !is_lower_alnum(s.p[i + run]))
			return false;
		i += run;
	}
	return true;
}

static bool repository_valid(struct str s)
{
	struct str head;
	bool more = true;

	while (more) {
		more = str_cut(s, '/', &head, &s);
		if (!component_valid(head))
			return false;
	}
	return true;
}

static bool host_valid(struct str s)
{
	struct str name = s, port = STR_NONE;
	uint64_t number;

	if (s.n > 0 && s.p[0] == '[') {
		size_t end = str_find(s, ']');

		if (end == s.n)
			return false;
		name = str_slice(s, 1, end);
		port = str_slice(s, end + 1, s.n);
		for (size_t i = 0; i < name.n; i++) {
			if (memchr("0123456789abcdefABCDEF:.", name.p[i], 24) == NULL)
				return false;
		}
		if (port.n == 0)
			return name.n > 0;
		return name.n > 0 && port.p[0] == ':' &&
		       str_u64(str_slice(port, 1, port.n), 65535, &number) == 0 && number > 0;
	}
	if (str_cut(s, ':', &name, &port) && (str_u64(port, 65535, &number) < 0 || number == 0))
		return false;
	if (name.n == 0 || !is_alnum(name.p[0]) || !is_alnum(name.p[name.n - 1]))
		return false;
	for (size_t i = 0; i < name.n; i++) {
		if (!is_alnum(name.p[i]) && name.p[i] != '-' && !(name.p[i] == '.' && name.p[i - 1] != '.'))
			return false;
	}
	return true;
}

static bool tag_valid(struct str s)
{
	if (s.n == 0 || s.n > 128 || s.p[0] == '.' || s.p[0] == '-')
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (!is_alnum(s.p[i]) && s.p[i] != '_' && s.p[i] != '.' && s.p[i] != '-')
			return false;
	}
	return true;
}

/* The first component is a host if it could not be a name on Docker Hub. */
static bool looks_like_host(struct str s)
{
	if (str_eq(s, STR("localhost")) || str_find(s, '.') < s.n || str_find(s, ':') < s.n)
		return true;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] >= 'A' && s.p[i] <= 'Z')
			return true;
	}
	return false;
}

static int bad(struct err *err, struct str text, const char *what)
{
	return err_set(err, -EINVAL, "image '%.*s': %s", (int)(text.n > 200 ? 200 : text.n), text.p, what);
}

int reference_parse(struct str text, struct reference *ret, struct err *err)
{
	struct reference ref = {0};
	struct str rest = text, digest = STR_NONE, tag = STR_NONE, host, name;

	if (text.n == 0 || text.n > 512)
		return err_set(err, -EINVAL, "image: must have 1 to 512 bytes, not %zu", text.n);
	if (memchr(text.p, '\0', text.n) != NULL)
		return err_set(err, -EINVAL, "image: holds a NUL");
	if (str_cut(rest, '@', &rest, &digest) && !image_digest_valid(digest))
		return bad(err, text, "the digest must be sha256: and 64 hexadecimal digits");
	if (!str_cut(rest, '/', &host, &name) || !looks_like_host(host)) {
		host = STR("docker.io");
		name = rest;
	}
	if (str_eq(host, STR("index.docker.io")) || str_eq(host, STR("registry-1.docker.io")))
		host = STR("docker.io");
	if (str_cut(name, ':', &name, &tag) && !tag_valid(tag))
		return bad(err, text, "the tag must be 1 to 128 letters, digits, '_', '.' or '-'");
	if (!host_valid(host) || host.n >= sizeof ref.host)
		return bad(err, text, "the registry's host is malformed");
	if (!repository_valid(name))
		return bad(
			err, text,
			"the name must be lower-case letters and digits, separated by '.', '_', '-' or '/'");
	bool library = str_eq(host, STR("docker.io")) && str_find(name, '/') == name.n;

	if (name.n + 8 >= sizeof ref.repository)
		return bad(err, text, "the name is longer than 247 bytes");
	snprintf(ref.repository, sizeof ref.repository, "%s%.*s", library ? "library/" : "", STR_ARGS(name));
	if (tag.n == 0 && digest.n == 0)
		tag = STR("latest");
	if (str_copy(host, ref.host, sizeof ref.host) < 0 || str_copy(tag, ref.tag, sizeof ref.tag) < 0 ||
	    str_copy(digest, ref.digest, sizeof ref.digest) < 0)
		return bad(err, text, "is too long");
	for (char *p = ref.host; *p != '\0'; p++) {
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	}
	*ret = ref;
	return 0;
}
