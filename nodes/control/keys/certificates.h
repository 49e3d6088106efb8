/* certificates.h -- this node's certificates: that between nodes, and that of clients' TLS where the cluster's CA made it. They
 * renew themselves.
 *
 * Happy path: at two thirds of its life, or when it lasts longer than certificate_lifetime, or is not of the active CA, a new key
 * is made and a request for it sent to the leader, which answers with the certificate. The pair is written as one file below
 * state_dir (<use>.pem), and new connections use it; those that are open go on. The CAs that are trusted follow the tables (ca.pem there).
 * At a start the kept pair is used, unless it has expired or the configured one was made later.
 * Failure modes: no leader, a refusal, an answer that does not fit the key: asked again, from each second to each ten minutes, by the
 * lifetime. A node that was away until its certificate expired is refused by the others and must join anew.
 * Owns: the TLS contexts of struct control. Thread: the control loop. */
#ifndef CONTROL_CERTIFICATES_H
#define CONTROL_CERTIFICATES_H

#include "core/err.h"
#include "wire/envelope.h"

struct control;

int certificates_open(struct control *c, struct err *err);
void certificates_close(struct control *c);
/* Asks for what is due. */
void certificates_tick(struct control *c, uint64_t boot_ms);
/* The cluster's keys changed: other CAs may be trusted. */
void certificates_trust(struct control *c);
/* The files of clients' TLS are read again. */
void certificates_reload(struct control *c);
/* The key of the tables that signed the certificate between nodes; 0: none of them, as far as this node knows. */
uint64_t certificates_ca(const struct control *c);

/* On the leader: issues. */
void certificates_question(struct control *c, const struct envelope *question);
void certificates_answered(struct control *c, const struct envelope *answer);

#endif
