/* lockdown.h -- a child gives up what it does not need before it reads anything from outside.
 *
 * The parent starts it with only the descriptors of protocol.h open and an empty environment. The seccomp filter is a
 * list of allowed calls; others fail with EPERM (ENOSYS for clone3, so that libraries fall back). */
#ifndef IMAGE_CHILD_LOCKDOWN_H
#define IMAGE_CHILD_LOCKDOWN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

/* For berth-fetch, already running unprivileged: no new privileges, no cores, the filter with sockets and threads,
 * no file larger than file_bytes_max. */
int lockdown_fetch(bool network, uint64_t file_bytes_max, struct err *err);

/* For berth-unpack, started as root: the directory becomes its root; then uid and gid, and of the capabilities only those that
 * write any owner's files below that root: CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID; the filter
 * without sockets, threads or programs. */
int lockdown_unpack(int root_fd, uint32_t uid, uint32_t gid, uint64_t file_bytes_max, struct err *err);

/* For berth-pack, started as root, before it executes another program: uid and gid, and of the capabilities only CAP_DAC_READ_SEARCH,
 * also behind the exec; the filter with that call, without sockets and without open_by_handle_at, which with this capability
 * would reach files that no path leads to. */
int lockdown_pack(uint32_t uid, uint32_t gid, uint64_t file_bytes_max, struct err *err);

#endif
