/* libvirtd.h -- the node's own libvirtd: where it is, and its begin.
 *
 * berth-libvirtd DIR, the launcher, runs it in a mount namespace in which libvirt's directories of the machine are those below DIR:
 *   etc/    libvirtd.conf and qemu.conf, written at each begin
 *   lib/ cache/   libvirt's own
 *   run/    libvirt-sock; qemu/<domain>.pid. Emptied after the machine was booted: the pids are of before then
 *   lock    held by the launcher; its pid is in it
 * Logs of libvirtd and QEMUs are in a small memory file system that ends with the launcher, so that no guest fills the disk.
 * It restarts libvirtd whenever that dies, reaps what libvirtd leaves, outlives sandboxd, and ends when libvirtd does by itself:
 * a while after the last machine and the last connection are gone. SIGTERM ends both; machines go on.
 * Owns nothing. Any thread. */
#ifndef LIBVIRT_LAUNCHER_LIBVIRTD_H
#define LIBVIRT_LAUNCHER_LIBVIRTD_H

#include <stddef.h>

#include "core/err.h"

/* sun_path has 108 bytes. */
#define LIBVIRTD_DIR_MAX 80
#define LIBVIRTD_URI_MAX 200

/* -ENAMETOOLONG. */
int libvirtd_uri(const char *dir, char *ret, size_t size, struct err *err);
/* Begins one unless it is there. Returns before it listens. */
int libvirtd_begin(const char *dir, const char *bin_dir, struct err *err);

#endif
