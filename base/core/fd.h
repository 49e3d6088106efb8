/* fd.h -- owned file descriptors in straight code: closed at the end of the scope unless taken. */
#ifndef CORE_FD_H
#define CORE_FD_H

#include <stddef.h>

#include "buf.h"
#include "err.h"

void fd_close(int *fd); /* closes and sets -1; keeps errno */
/* The descriptor, which the caller now owns; *fd becomes -1. */
int fd_take(int *fd);
/* All of it, or an error. Not for non-blocking descriptors. */
int fd_write_all(int fd, const void *p, size_t n);
/* Appends up to the buffer's bound; -EFBIG when there is more. */
int fd_read_all(int fd, struct buf *b);
int fd_read_file(const char *path, size_t max, struct buf *ret, struct err *err);
/* Writes a temporary file beside `path`, fsyncs it, renames it, fsyncs the directory. */
int fd_write_file(const char *path, unsigned mode, const void *p, size_t n, struct err *err);
/* A directory of our own with this mode; made if missing, refused if it is somebody else's, or no directory. */
int fd_make_directory(const char *path, unsigned mode, struct err *err);
int fd_set_nonblocking(int fd, int on);

#define CLEANUP_FD __attribute__((cleanup(fd_close)))

/* Cleanup for malloc'd memory: CLEANUP_FREE char *p = strdup(...); take with mem_take(&p). */
void mem_free(void *pointer_to_pointer);
#define CLEANUP_FREE __attribute__((cleanup(mem_free)))
#define mem_take(pp)                              \
	({                                        \
		__typeof__(*(pp)) taken_ = *(pp); \
		*(pp) = NULL;                     \
		taken_;                           \
	})

#endif
