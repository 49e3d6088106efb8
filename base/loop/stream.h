/* stream.h -- one connection, whatever carries it: TCP, unix socket, either of them with TLS.
 *
 * Happy path: connect, adopt or accept; on_open; on_data for each run of bytes; stream_write tries the socket at once and
 * copies only what the kernel did not take; on_drain when the copied tail is out; on_eof; stream_close; on_closed.
 * Failure modes: on_error once, after which the owner closes. A FIN without close_notify under TLS is an error
 * (-ECONNABORTED), not an end: a cut-off body must not look whole (RFC 8446, 6.1).
 * Invariants: no callback runs inside a call of this file; after stream_close only on_closed runs, once; bytes given to
 * on_data are valid during the call alone and are all consumed by it.
 * Thread: the loop's. Owner: whoever made it; the memory goes after on_closed. */
#ifndef LOOP_STREAM_H
#define LOOP_STREAM_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "core/err.h"
#include "loop/loop.h"
#include "tls/tls.h"

struct stream;

/* Any may be NULL. */
struct stream_ops {
	void (*on_open)(struct stream *s,
			void *arg); /* connected, handshake and verification done; not for accepted
	                                                  or adopted streams without TLS, which are open at once */
	void (*on_data)(struct stream *s, void *arg, const char *p, size_t n); /* pause for back-pressure */
	void (*on_drain)(struct stream *s, void *arg); /* nothing is queued any more, after STREAM_QUEUED */
	void (*on_eof)(struct stream *s,
		       void *arg); /* the other side ended its half; writing is still possible */
	void (*on_error)(struct stream *s, void *arg, int error); /* -errno; the stream is dead: close it */
	void (*on_closed)(struct stream *s, void *arg);
};

enum { STREAM_DONE = 0, STREAM_QUEUED = 1 };

/* `tls` (NULL: none) is a client context; the stream keeps a session of it, not the context. -errno; nothing is called then. */
int stream_connect(struct loop *l, const struct sockaddr *address, struct tls_ctx *tls,
		   const struct stream_ops *ops, void *arg, struct stream **ret, struct err *err);
int stream_connect_unix(struct loop *l, const char *path, const struct stream_ops *ops, void *arg,
			struct stream **ret, struct err *err);
/* Takes a connected stream socket, TCP or unix; on failure `fd` stays the caller's. */
int stream_adopt(struct loop *l, int fd, struct tls_ctx *tls, const struct stream_ops *ops, void *arg,
		 struct stream **ret, struct err *err);
/* For an accepted stream (listener.h), inside the accept callback. */
void stream_set(struct stream *s, const struct stream_ops *ops, void *arg);

/* STREAM_DONE, STREAM_QUEUED (written or kept; stop the source until on_drain) or -errno (then close). Before on_open all is kept. */
int stream_write(struct stream *s, const struct iovec *iov, int n);
int stream_write_bytes(struct stream *s, const void *p, size_t n);
size_t stream_queued(const struct stream *s); /* bytes kept */
/* How much of what was written the other side's TCP has acknowledged, TLS's own bytes included. A system call. */
uint64_t stream_acked(const struct stream *s);
/* Another message begins: its reader has to show anew that it reads, before the kernel keeps more than a little for it. */
void stream_message(struct stream *s);
/* Reading starts by itself. Paused, nothing is read and nothing delivered; the end is not noticed either. */
void stream_pause(struct stream *s);
void stream_resume(struct stream *s);
/* Ends our half behind what is queued: close_notify, then FIN. */
void stream_shutdown(struct stream *s);
/* At once; what is queued is lost, and if there was any the other side sees a reset. Twice is fine. */
void stream_close(struct stream *s);
/* Sends what is queued, ends our half, discards what still comes, closes when the other side did or `wait_ms` after
 * all is sent, and when the other side takes nothing for half a minute. Of the callbacks only on_closed follows.
 * For a last answer to somebody who may still be sending. */
void stream_finish(struct stream *s, unsigned wait_ms);

/* A receive buffer of fixed size instead of one that the kernel lets grow to tcp_rmem's: what the other side may send while
 * nobody reads stays small, at the price of speed over long ways. */
void stream_receive_buffer(struct stream *s, uint32_t bytes);

/* How much the kernel may keep of a message beyond what it has sent, while its reader has not shown that it reads: a reader that
 * stops shows soon. STREAM_UNSENT_BYTES otherwise. */
#define STREAM_UNSENT_BYTES (384u * 1024)
void stream_unsent(struct stream *s, uint32_t bytes);

/* The other side acknowledges within `ms` what was sent to it, and shows about as often that it is there when nothing is: else
 * on_error, -ETIMEDOUT. Not for a stream whose reader may pause: a closed window looks the same. Also while connecting. */
void stream_watch(struct stream *s, unsigned ms);

/* The other side is on this machine: no congestion to control. A system's BBR would pace what is sent, with timers. */
void stream_local(struct stream *s);

/* The address of the other side; family AF_UNIX for unix sockets. */
const struct sockaddr *stream_peer(const struct stream *s);
/* As tls_session_identity; -ENOENT without TLS. */
int stream_identity(const struct stream *s, struct tls_identity *ret);
/* As tls_session_refusal, in on_error; NULL where the handshake was done, or there was none to do. */
const char *stream_refusal(const struct stream *s);
/* The peer's user id of a unix socket (SO_PEERCRED); -errno. */
int stream_peer_uid(const struct stream *s, uid_t *ret);

#endif
