/* names.h -- paths inside layers: what is accepted, and what a whiteout means. Pure. */
#ifndef IMAGE_UNPACK_NAMES_H
#define IMAGE_UNPACK_NAMES_H

#include "core/err.h"
#include "core/str.h"

#define NAMES_PATH_MAX  4000
#define NAMES_DEPTH_MAX 128

enum names_kind {
	NAMES_ENTRY,
	NAMES_WHITEOUT, /* ".wh.x": x of the layers below is gone */
	NAMES_OPAQUE,   /* ".wh..wh..opq": all that the layers below have in this directory is gone */
	NAMES_IGNORED,  /* other ".wh..wh." names: bookkeeping of aufs */
};

struct names {
	enum names_kind kind;
	char parent[NAMES_PATH_MAX + 2]; /* "." for the root, else "a/b" */
	char base[256];                  /* "." for the root itself; of a whiteout what it removes */
	unsigned depth;                  /* how many names the path has */
};

/* Takes "a/b", "./a/b/", ".". -EBADMSG: absolute, with "..", empty, too long or deep, or a whiteout of "." or "..". */
int names_parse(const char *path, struct names *ret, struct err *err);

/* The target of a hard link, as a path below the root. The same refusals; whiteouts too. */
int names_link_target(const char *path, char ret[NAMES_PATH_MAX + 2], struct err *err);

#endif
