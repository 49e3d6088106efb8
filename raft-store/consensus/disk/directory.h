/* directory.h -- a server's directory before libraft opens it.
 *
 * libraft takes damaged files for missing ones: a short metadata file makes it forget its vote, a
 * truncated snapshot hangs it. So the files are looked at first, and a server that must not start is
 * refused with the file's name. The file `member`, written before the server first runs, says whose
 * directory it is and that it has been used: with it but without metadata nothing starts, and without it
 * the leftovers of a first start that was cut short are removed. Calls block; they run before the loop
 * does. */
#ifndef RAFT_CONSENSUS_DISK_DIRECTORY_H
#define RAFT_CONSENSUS_DISK_DIRECTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

/* Makes the directory if it is missing, and keeps other processes out until *ret_fd is closed. -EBUSY: one is in. */
int directory_lock(const char *dir, int *ret_fd, struct err *err);
/* *ret_first: this server has never run; bootstrap it, then directory_claim. -EINVAL: another server's
 * directory; -EUCLEAN: files that must not be used; else what a system call said. */
int directory_check(const char *dir, uint64_t id, const char *address, bool *ret_first, struct err *err);
/* Marks the directory as used by this server, durably. */
int directory_claim(const char *dir, uint64_t id, const char *address, struct err *err);

#endif
