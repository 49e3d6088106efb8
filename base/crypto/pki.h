/* pki.h -- makes the cluster's keys and certificates: EC P-256, X.509 v3, PEM. Used once, by `berth cluster init`. */
#ifndef CRYPTO_PKI_H
#define CRYPTO_PKI_H

#include "core/buf.h"
#include "core/err.h"

#define PKI_NAMES_MAX 16

struct pki_request {
	const char *common_name;
	const char *names
		[PKI_NAMES_MAX]; /* subject alternative names: "DNS:x", "IP:127.0.0.1", "URI:berth://node/1" */
	unsigned n_names;
	unsigned days;
	bool authority; /* a CA that may sign others */
};

/* A new private key, PKCS#8 PEM. The caller wipes it. */
int pki_make_key(struct buf *ret_pem, struct err *err);
/* The public half of a private key, PEM. */
int pki_public_key(struct str key_pem, struct buf *ret_pem, struct err *err);
/* A certificate for `key`, signed by the issuer; issuer_cert and issuer_key STR_NONE: self-signed. */
int pki_issue(const struct pki_request *request, struct str key_pem, struct str issuer_cert_pem,
	      struct str issuer_key_pem, struct buf *ret_pem, struct err *err);

#endif
