/* lease_file.h -- until when a node may run its sandboxes, on disk: what keeps that deadline may end or stand still, and who comes
 * after it, or watches it, has to know.
 *
 * One small file, written over in place and never flushed: it is of this boot alone. Owner: sandboxd; the supervisor reads. */
#ifndef LEASE_LEASE_FILE_H
#define LEASE_LEASE_FILE_H

#include <stdint.h>

#include "core/err.h"

struct lease_file {
	uint64_t until_ms; /* CLOCK_BOOTTIME; 0: there never was a lease */
	uint64_t kept_ms;  /* the last such end at which everything was frozen */
};

/* *ret is zero when the file is missing, or of an earlier boot. -EUCLEAN: it is something else. */
int lease_file_read(const char *path, struct lease_file *ret, struct err *err);
int lease_file_open(const char *path, int *ret_fd, struct err *err);
int lease_file_write(int fd, const struct lease_file *lease);

#endif
