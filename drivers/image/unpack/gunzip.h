/* gunzip.h -- gzip with all its members, and with the checks that their trailers are for: libarchive's filter passes over both a
 * wrong checksum and what stands behind the last member. Single-threaded. */
#ifndef IMAGE_UNPACK_GUNZIP_H
#define IMAGE_UNPACK_GUNZIP_H

#include <sys/types.h>

struct gunzip;

/* The next packed bytes in *ret, which stay until the next call; 0: there are no more; -1: they cannot be read. */
typedef ssize_t gunzip_source(void *context, const void **ret);

struct gunzip *gunzip_new(gunzip_source *source, void *context);
void gunzip_free(struct gunzip *g);
/* At most `size` unpacked bytes; 0 at the end; -1 with *ret_why, a text that stays. */
ssize_t gunzip_read(struct gunzip *g, void *to, size_t size, const char **ret_why);

#endif
