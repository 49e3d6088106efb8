/* stream_internal.h -- the inside of a stream, for stream.c, stream_tls.c and listener.c alone. */
#ifndef LOOP_STREAM_INTERNAL_H
#define LOOP_STREAM_INTERNAL_H

#include "loop/stream.h"

struct stream {
	struct loop *loop;
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} u;
	const struct stream_ops *ops;
	void *arg;
	struct tls_session *tls;
	struct buf held;  /* ciphertext that came while paused */
	struct buf early; /* written before the stream was open */
	uv_connect_t connect;
	uv_shutdown_t shutdown;
	struct loop_deferred deferred; /* resume: what was held is delivered from here */
	struct loop_timer finish_timer;
	uint64_t written;    /* to the socket or into its queue */
	uint64_t message_at; /* what was written before the message that is being written */
	uint64_t finish_acked;
	uint32_t unsent_max; /* in the kernel, until a reader has shown that it reads */
	unsigned finish_ms, finish_stalled_ms;
	struct sockaddr_storage peer;
	bool open, paused, armed, eof, failed, closing, finishing;
	bool drain_due, shutdown_due, shutdown_sent, wide;
};

struct stream *stream_make(struct loop *l, int family, struct tls_ctx *tls, struct err *err);
/* An accepted or adopted socket is in the handle: start reading, and the handshake. */
void stream_started(struct stream *s);
void stream_arm(struct stream *s);
void stream_fail(struct stream *s, int error);
void stream_ended(struct stream *s);
void stream_opened(struct stream *s);
/* What came is acknowledged now: a client without NODELAY keeps its next bytes back until then. */
void stream_acknowledge(const struct stream *s);
int stream_write_raw(struct stream *s, const uv_buf_t *bufs, unsigned n);

/* stream_tls.c */
void stream_tls_received(struct stream *s, const char *p, size_t n);
void stream_tls_pump(struct stream *s);
int stream_tls_write(struct stream *s, const struct iovec *iov, int n);
int stream_tls_flush(struct stream *s);

#endif
