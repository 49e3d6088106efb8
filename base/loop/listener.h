/* listener.h -- accepts connections as streams. TCP sockets are bound with SO_REUSEPORT, so that several loops can
 * listen on one address and the kernel shares connections between them.
 * Failure modes: too many open files pauses accepting for 100 ms (the connection waits in the kernel).
 * Thread: the loop's. Owner: the caller; the memory goes some time after listener_close. */
#ifndef LOOP_LISTENER_H
#define LOOP_LISTENER_H

#include <sys/socket.h>

#include "core/err.h"
#include "loop/loop.h"
#include "loop/stream.h"

struct listener;

/* The new stream is the callee's: call stream_set in here, and stream_close some day. */
typedef void listener_accept(struct stream *s, void *arg);

/* `tls` (NULL: plain) is a server context, referenced for as long as the listener lives. Port 0 draws one. */
int listener_tcp(struct loop *l, const struct sockaddr *address, struct tls_ctx *tls, listener_accept *accept,
		 void *arg, struct listener **ret, struct err *err);
/* A stale socket file of that name is removed first. `mode` as of chmod; `group` is (gid_t)-1 to leave it. */
int listener_unix(struct loop *l, const char *path, unsigned mode, gid_t group, listener_accept *accept,
		  void *arg, struct listener **ret, struct err *err);
/* The port it is bound to; 0 for unix sockets. */
uint16_t listener_port(const struct listener *l);
/* Accepted streams live on. The socket file of a unix listener is removed. */
void listener_close(struct listener *l);

#endif
