/* The TLS half of a stream: ciphertext from the socket goes through the session and comes out as on_data; what the session
 * wants to send collects in the loop's tls_out and is written at once.
 * A pause in the middle of a read keeps the ciphertext that was not yet decrypted in s->held; reads are disarmed then,
 * so held never exceeds one read buffer. */
#include "loop/stream_internal.h"

#include <errno.h>

#include "core/must.h"

#define RECORD_MAX 16384 /* plaintext of one (RFC 8446, 5.1) */

int stream_tls_flush(struct stream *s)
{
	struct buf *out = &s->loop->tls_out;
	int r = STREAM_DONE;

	if (buf_failed(out)) {
		buf_done(out);
		*out = (struct buf){0};
		return -ENOMEM;
	}
	if (out->n) {
		uv_buf_t one = uv_buf_init(out->p, (unsigned)out->n);
		r = stream_write_raw(s, &one, 1);
		buf_clear(out);
	}
	return r;
}

int stream_tls_write(struct stream *s, const struct iovec *iov, int n)
{
	for (int i = 0; i < n; i++) {
		int r = tls_session_write(s->tls, iov[i].iov_base, iov[i].iov_len);
		if (r < 0) {
			buf_clear(&s->loop->tls_out);
			return r;
		}
	}
	return stream_tls_flush(s);
}

/* True once the handshake is done and the owner knows. */
static bool handshake(struct stream *s)
{
	int r = tls_session_handshake(s->tls, NULL);
	bool silent = s->loop->tls_out.n == 0;
	int w = stream_tls_flush(s);

	if (r < 0 || w < 0) {
		stream_fail(s, r < 0 ? r : w);
		return false;
	}
	if (r == 1 && silent)
		stream_acknowledge(s);
	if (r == 1)
		stream_opened(s);
	return r == 1 && !s->closing && !s->failed;
}

/* What the records that are here say, as one run of bytes: a write a record would cost more than its decryption. A record
 * is taken whole, so that none of it stays in the session where a pause would forget it.
 * > 0: so many bytes in `plain`; 0: no more yet; else as tls_session_read, once what came before is delivered. */
static ssize_t gather(struct stream *s)
{
	char *plain = s->loop->plain;
	size_t n = 0;
	ssize_t r;

	do {
		r = tls_session_read(s->tls, plain + n, sizeof s->loop->plain - n);
		n += r > 0 ? (size_t)r : 0;
	} while (r > 0 && sizeof s->loop->plain - n >= RECORD_MAX);
	return n ? (ssize_t)n : r;
}

static void decrypt(struct stream *s)
{
	while (!s->closing && !s->failed && !s->eof && (!s->paused || s->finishing)) {
		ssize_t r = gather(s);
		if (r > 0) {
			if (!s->finishing && s->ops && s->ops->on_data)
				s->ops->on_data(s, s->arg, s->loop->plain, (size_t)r);
		} else if (r == -ENODATA) {
			stream_ended(s);
		} else if (r < 0) {
			stream_tls_flush(s);
			stream_fail(s, (int)r);
		} else {
			break;
		}
	}
	if (!s->closing && !s->failed && stream_tls_flush(s) < 0)
		stream_fail(s, -EPIPE);
}

/* Works on what the session has been lent. */
static void pump_input(struct stream *s)
{
	if (!s->open && !handshake(s))
		return;
	decrypt(s);
}

void stream_tls_received(struct stream *s, const char *p, size_t n)
{
	tls_session_input(s->tls, p, n);
	pump_input(s);
	if (!s->closing && !s->failed && !s->eof)
		buf_add(&s->held, p + n - tls_session_left(s->tls), tls_session_left(s->tls));
	tls_session_input(s->tls, NULL, 0);
	if (buf_failed(&s->held))
		stream_fail(s, -ENOMEM);
}

void stream_tls_pump(struct stream *s)
{
	size_t n;

	if (!s->tls)
		return;
	tls_session_input(s->tls, s->held.p, s->held.n);
	n = s->held.n;
	pump_input(s);
	n -= tls_session_left(s->tls);
	if (!s->closing && n <= s->held.n) /* stream_finish may have dropped it all */
		buf_drop(&s->held, n);
	tls_session_input(s->tls, NULL, 0);
}
