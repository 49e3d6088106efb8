/* tarball.h -- files by name inside something imported: a tar archive (plain, gzip, zstd; it must be seekable) or a
 * directory. A name is looked up by reading the archive from its start: headers only, bodies are skipped. */
#ifndef IMAGE_FETCH_TARBALL_H
#define IMAGE_FETCH_TARBALL_H

#include <stdbool.h>

#include "image_fetch/walk.h"

struct tarball {
	int fd; /* borrowed */
	bool directory;
};

int tarball_open(int fd, struct tarball *ret, struct err *err);
/* The file's bytes into the sink. Only regular files; names are matched without a leading "./". -ENOENT; -E2BIG above
 * bytes_max; -EBADMSG: not an archive. */
int tarball_read(const struct tarball *t, const char *name, uint64_t bytes_max, walk_sink *sink,
		 void *context, struct err *err);

#endif
