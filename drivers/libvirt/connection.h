/* connection.h -- calls to libvirt, each on a thread of its own, with a time limit that holds whatever libvirtd does.
 *
 * Happy path: connection_call() takes one of CONNECTION_CALLS_MAX places, opens the connection if there is none (and begins the
 * node's own libvirtd if that is not there), runs `work`, and returns what it returned.
 * Failure: the time is over. The caller is told -ETIMEDOUT, its place is free again, and the connection is left to that call alone:
 * the next one opens another, since a daemon answers only a few questions of one connection at a time. Calls that never come back
 * are counted; with CONNECTION_STUCK_MAX of them all further ones are refused. libvirtd is killed or ends: whoever waits for it gets
 * an error at once, and the next call connects anew. A libvirtd that is silent for 15 s counts as gone.
 * Owns: connections and threads. One thread a process runs libvirt's own events. Thread: any. The process has to ignore SIGPIPE. */
#ifndef LIBVIRT_CONNECTION_H
#define LIBVIRT_CONNECTION_H

#include <libvirt/libvirt.h>
#include <stdint.h>

#include "core/err.h"

#define CONNECTION_CALLS_MAX 12
#define CONNECTION_STUCK_MAX 64

struct connection;

struct connection_options {
	const char *uri;     /* NULL or empty: the node's own libvirtd */
	const char *dir;     /* of that one, absolute, see launcher/; its parent exists */
	const char *bin_dir; /* of berth-libvirtd */
};

/* 0 or -errno. What it needs beyond its return is referenced by `arg`. */
typedef int connection_work(virConnectPtr c, void *arg, struct err *err);

/* Connects to nothing yet. */
int connection_new(const struct connection_options *o, struct connection **ret, struct err *err);
/* Calls that still run end on their own. libvirtd goes on. */
void connection_free(struct connection *c);

/* -ETIMEDOUT: `arg` is the call's now, and goes to `drop` once it comes back; with all other results it stays the caller's. */
int connection_call(struct connection *c, connection_work *work, void *arg, void (*drop)(void *arg),
		    uint32_t timeout_ms, struct err *err);

/* Sets err from libvirt's own of this thread, wrapped as "<what>: <libvirt's words>". */
int connection_error(struct err *err, int code, const char *what);

#endif
