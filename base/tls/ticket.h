/* ticket.h -- the keys that session tickets are sealed with (RFC 5077, RFC 8446 4.6.1): one ring a context, so that a
 * ticket that one loop gave resumes on every other; a new key every few hours, the one before still opens.
 * Inside base/tls. Owner: the SSL_CTX, which frees the ring. Threads: any. */
#ifndef TLS_TICKET_H
#define TLS_TICKET_H

#include <openssl/ssl.h>

#include "core/err.h"

#define TICKET_LIFE_S 14400 /* of a ticket; of a key as the newest one too */

int ticket_keys_attach(SSL_CTX *ctx, struct err *err);
/* A new key now. Twice: no ticket given before opens. */
int ticket_keys_rotate(SSL_CTX *ctx);

#endif
