/* pin.h -- what a join token says of the cluster's CA: the SHA-256 of its public key (SubjectPublicKeyInfo), in hex. */
#ifndef CRYPTO_PIN_H
#define CRYPTO_PIN_H

#include "core/buf.h"
#include "core/err.h"

#define PIN_TEXT_SIZE 65
/* A name in the certificate that voters show to clients, and nobody else: whoever wants to join can tell that it speaks with one. */
#define PIN_VOTER_NAME "voter.berth.internal"

/* Of the first certificate of the text. -EINVAL: there is none. */
int pin_of(struct str cert_pem, char ret[PIN_TEXT_SIZE], struct err *err);
/* Appends the certificate of the text whose pin that is. -ENOENT. */
int pin_find(struct str bundle_pem, struct str pin, struct buf *to, struct err *err);

#endif
