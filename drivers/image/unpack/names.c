#include "image_unpack/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"

static int bad(const char *path, const char *what, struct err *err)
{
	char shown[201];

	log_escape(path, strnlen(path, 100), shown, sizeof shown);
	return err_set(err, -EBADMSG, "entry '%s': %s", shown, what);
}

/* "./a//b/" becomes "a/b"; the root becomes "". */
static int clean(const char *path, char to[NAMES_PATH_MAX + 2], unsigned *ret_depth, struct err *err)
{
	size_t n = 0;
	unsigned depth = 0;
	const char *p = path;

	if (*p == '\0')
		return bad(path, "has no name", err);
	if (*p == '/')
		return bad(path, "is absolute", err);
	while (*p != '\0') {
		size_t length = strcspn(p, "/");

		if (length == 2 && memcmp(p, "..", 2) == 0)
			return bad(path, "holds '..'", err);
		if (length > 255)
			return bad(path, "has a name of more than 255 bytes", err);
		if (length > 0 && !(length == 1 && *p == '.')) {
			if (n + length + 1 > NAMES_PATH_MAX)
				return bad(path, "is longer than 4000 bytes", err);
			if (++depth > NAMES_DEPTH_MAX)
				return bad(path, "is deeper than 128 directories", err);
			if (n > 0)
				to[n++] = '/';
			memcpy(to + n, p, length);
			n += length;
		}
		p += length;
		p += *p == '/';
	}
	to[n] = '\0';
	*ret_depth = depth;
	return 0;
}

static int whiteout(const char *path, struct names *names, struct err *err)
{
	const char *name = names->base + 4;

	if (strcmp(names->base, ".wh..wh..opq") == 0) {
		names->kind = NAMES_OPAQUE;
		return 0;
	}
	if (strncmp(names->base, ".wh..wh.", 8) == 0) {
		names->kind = NAMES_IGNORED;
		return 0;
	}
	if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return bad(path, "is a whiteout of nothing, '.' or '..'", err);
	names->kind = NAMES_WHITEOUT;
	memmove(names->base, name, strlen(name) + 1);
	return 0;
}

int names_parse(const char *path, struct names *ret, struct err *err)
{
	struct names names = {.kind = NAMES_ENTRY, .parent = "."};
	char whole[NAMES_PATH_MAX + 2];
	int r = clean(path, whole, &names.depth, err);

	if (r < 0)
		return r;
	char *slash = strrchr(whole, '/');
	const char *base = slash == NULL ? whole : slash + 1;

	snprintf(names.base, sizeof names.base, "%.255s", *base == '\0' ? "." : base);
	if (slash != NULL) {
		*slash = '\0';
		memcpy(names.parent, whole, strlen(whole) + 1);
	}
	/* Nothing may live in or below a whiteout's name. */
	if (strncmp(names.parent, ".wh.", 4) == 0 || strstr(names.parent, "/.wh.") != NULL)
		return bad(path, "is below a whiteout", err);
	if (strncmp(names.base, ".wh.", 4) == 0) {
		r = whiteout(path, &names, err);
		if (r < 0)
			return r;
	}
	*ret = names;
	return 0;
}

int names_link_target(const char *path, char ret[NAMES_PATH_MAX + 2], struct err *err)
{
	char whole[NAMES_PATH_MAX + 2];
	unsigned depth;
	int r = clean(path, whole, &depth, err);

	if (r < 0) {
		err_wrap(err, "hard link's target");
		return r;
	}
	if (whole[0] == '\0')
		return bad(path, "is a hard link to the root", err);
	memcpy(ret, whole, strlen(whole) + 1);
	return 0;
}
