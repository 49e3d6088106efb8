/* seccomp_filter.h -- the system calls that a sandbox may make: an allowlist; everything else answers ENOSYS, and what
 * would reach the host's administration EPERM. Nothing is killed for a call. No namespaces: clone is refused with any
 * CLONE_NEW* flag, and clone3, whose flags a filter cannot see, answers ENOSYS, upon which C libraries use clone.
 * docs/sandbox.md has what that comes to. */
#ifndef LXC_SECCOMP_FILTER_H
#define LXC_SECCOMP_FILTER_H

#include "core/buf.h"
#include "core/err.h"

/* Appends the filter's instructions (struct sock_filter). */
int seccomp_filter_build(struct buf *ret, struct err *err);

#endif
