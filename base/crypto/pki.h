/* pki.h -- makes the cluster's keys and certificates: EC P-256, X.509 v3, PEM. */
#ifndef CRYPTO_PKI_H
#define CRYPTO_PKI_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

#define PKI_NAMES_MAX   16
#define PKI_DAY_S       86400u
#define PKI_BACKDATED_S 300u   /* certificates begin so long before they are made, for clocks that differ */
#define PKI_PEM_MAX     16384u /* of one request, key or certificate */

struct pki_request {
	const char *common_name;
	const char *names
		[PKI_NAMES_MAX]; /* subject alternative names: "DNS:x", "IP:127.0.0.1", "URI:berth://node/1" */
	unsigned n_names;
	uint64_t lifetime_s;
	bool authority; /* a CA that may sign others */
};

/* A new private key, PKCS#8 PEM. The caller wipes it. */
int pki_make_key(struct buf *ret_pem, struct err *err);
/* The public half of a private key, PEM. */
int pki_public_key(struct str key_pem, struct buf *ret_pem, struct err *err);
/* A certificate for `key`, signed by the issuer; issuer_cert and issuer_key STR_NONE: self-signed. */
int pki_issue(const struct pki_request *request, struct str key_pem, struct str issuer_cert_pem,
	      struct str issuer_key_pem, struct buf *ret_pem, struct err *err);

/* A request to certify the key (PKCS#10, PEM). It names nobody: what the certificate says is up to who issues it. */
int pki_make_csr(struct str key_pem, struct buf *ret_pem, struct err *err);
/* A certificate for the key of a request. -EINVAL: no such request, or its sender does not hold the key, or no EC P-256. */
int pki_issue_csr(const struct pki_request *request, struct str csr_pem, struct str issuer_cert_pem,
		  struct str issuer_key_pem, struct buf *ret_pem, struct err *err);

/* When a certificate was made, and until when it is good; seconds of the Unix epoch. */
struct pki_times {
	uint64_t made_s, until_s;
};
int pki_times(struct str cert_pem, struct pki_times *ret, struct err *err);
/* Whether that authority's key signed the certificate. False too for what cannot be read. */
bool pki_issued_by(struct str cert_pem, struct str issuer_cert_pem);

#endif
