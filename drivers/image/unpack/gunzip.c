#include "image_unpack/gunzip.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <zlib.h>

#include "core/must.h"

#define WINDOW_GZIP (15 + 16) /* zlib's words for: the largest window, gzip's head and trailer */

struct gunzip {
	z_stream z;
	gunzip_source *source;
	void *context;
	bool between; /* members: here the input may end */
};

struct gunzip *gunzip_new(gunzip_source *source, void *context)
{
	struct gunzip *g = calloc(1, sizeof *g);

	if (g == NULL)
		return NULL;
	g->source = source;
	g->context = context;
	if (inflateInit2(&g->z, WINDOW_GZIP) == Z_OK)
		return g;
	free(g);
	return NULL;
}

void gunzip_free(struct gunzip *g)
{
	if (g == NULL)
		return;
	(void)inflateEnd(&g->z);
	free(g);
}

/* 1: there is input; 0: the end, at a right place. */
static int refill(struct gunzip *g, const char **ret_why)
{
	const void *p = NULL;
	ssize_t n = g->source(g->context, &p);

	if (n > 0) {
		g->z.next_in = (Bytef *)(uintptr_t)p;
		g->z.avail_in = (uInt)n;
		return 1;
	}
	*ret_why = n < 0 ? "the layer's file is too short" : "truncated gzip input";
	return n == 0 && g->between ? 0 : -1;
}

ssize_t gunzip_read(struct gunzip *g, void *to, size_t size, const char **ret_why)
{
	g->z.next_out = to;
	g->z.avail_out = (uInt)size;
	while (g->z.avail_out == size) {
		int r = g->z.avail_in > 0 ? 1 : refill(g, ret_why);

		if (r <= 0)
			return r;
		must(!g->between || inflateReset(&g->z) == Z_OK);
		g->between = false;
		r = inflate(&g->z, Z_NO_FLUSH);
		g->between = r == Z_STREAM_END;
		if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR) {
			*ret_why = g->z.msg != NULL ? g->z.msg : "damaged gzip";
			return -1;
		}
	}
	return (ssize_t)(size - g->z.avail_out);
}
