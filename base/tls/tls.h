/* tls.h -- certificates and TLS sessions over OpenSSL, without any socket: ciphertext comes in and goes out as bytes.
 * base/loop/stream.h puts it on a connection; nobody else needs the sessions.
 *
 * A tls_ctx holds a certificate, a key and optionally the CA that peers are checked against. It is counted and safe to
 * share between threads; tls_ctx_reload swaps what new sessions use and leaves running ones alone; tickets given before do
 * not resume behind it. TLS 1.2 and 1.3 only, with ephemeral keys and AEAD ciphers.
 * A tls_session belongs to one thread. */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/str.h"

struct tls_ctx;
struct tls_session;

/* TLS_HTTPS: a server for strangers: session tickets, HTTP/1.1 by ALPN. The other two are for nodes among each other. */
enum tls_role { TLS_SERVER, TLS_CLIENT, TLS_HTTPS };

/* Of a certificate between nodes: its URI names "berth://node/<decimal>" and "berth://role/voter" or ".../worker". */
enum tls_node_role { TLS_NO_ROLE, TLS_WORKER, TLS_VOTER };
struct tls_identity {
	uint64_t node;
	enum tls_node_role role;
};

/* PEM texts, borrowed for the call. */
struct tls_options {
	enum tls_role role;
	struct str cert; /* the chain, leaf first; required for a server */
	struct str key;  /* of the leaf */
	struct str ca;   /* when set, the other side must present a certificate of this CA */
};

/* -EINVAL with the part that is wrong named in `err`; -ENOMEM. */
int tls_ctx_new(const struct tls_options *options, struct tls_ctx **ret, struct err *err);
/* The same from files; `ca_path` may be NULL. */
int tls_ctx_new_files(enum tls_role role, const char *cert_path, const char *key_path, const char *ca_path,
		      struct tls_ctx **ret, struct err *err);
/* New sessions use these from now on. On failure the old ones stay. The role cannot change. */
int tls_ctx_reload(struct tls_ctx *c, const struct tls_options *options, struct err *err);
int tls_ctx_reload_files(struct tls_ctx *c, const char *cert_path, const char *key_path, const char *ca_path,
			 struct err *err);
/* Clients of `c` that ask for that name are shown the certificate of `other`; both names and `other` stay until `c` goes. Before sessions are
 * made. */
void tls_ctx_also(struct tls_ctx *c, const char *name, struct tls_ctx *other);
/* A new key for session tickets now, rather than in some hours. */
int tls_ctx_rotate(struct tls_ctx *c);
struct tls_ctx *tls_ctx_ref(struct tls_ctx *c);
void tls_ctx_unref(struct tls_ctx *c); /* NULL is fine */

/* Ciphertext for the other side is appended to *out, which the caller sends and clears after each call here.
 * NULL without memory. */
struct tls_session *tls_session_new(struct tls_ctx *c, struct buf *out);
void tls_session_free(struct tls_session *s);
/* Lends ciphertext until the next call of this function; tls_session_left tells how much was not yet taken. */
void tls_session_input(struct tls_session *s, const void *p, size_t n);
size_t tls_session_left(const struct tls_session *s);
/* 1: done; 0: needs input; -EPROTO: failed, `err` says why (an alert may wait in *out). */
int tls_session_handshake(struct tls_session *s, struct err *err);
/* > 0: bytes of plaintext; 0: needs input; -ENODATA: the other side ended (close_notify); -EPROTO. */
ssize_t tls_session_read(struct tls_session *s, void *p, size_t n);
/* 0, or -EPROTO. All n bytes are taken. */
int tls_session_write(struct tls_session *s, const void *p, size_t n);
/* Appends close_notify. */
void tls_session_shutdown(struct tls_session *s);
/* The node that the verified certificate names, and what it may do there. -ENOENT: no certificate, or none of a node. */
int tls_session_identity(const struct tls_session *s, struct tls_identity *ret);
/* Why a handshake failed, for people: what is wrong with the other side's certificate, as far as it is known. */
const char *tls_session_refusal(const struct tls_session *s);

#endif
