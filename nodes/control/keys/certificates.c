#include "control/keys/certificates.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "control/control.h"
#include "core/clock.h"
#include "core/fd.h"
#include "core/log.h"
#include "core/must.h"
#include "crypto/digest.h"
#include "crypto/pki.h"
#include "keys/authority.h"

#define FILE_MAX     65536
#define RETRY_PART   60 /* of the lifetime */
#define RETRY_MS_MIN 1000
#define RETRY_MS_MAX 600000

struct certificate {
	char kept[PATH_MAX];  /* the file of the renewed pair */
	struct buf cert, key; /* in use; the key is wiped once a TLS context has it */
	struct pki_times times;
	bool ours;                      /* of the cluster's CA: else an operator looks after it */
	uint64_t asked_ms, correlation; /* 0: nothing is asked */
	struct buf next_key;
};

struct certificates {
	struct certificate of[AUTHORITY_CLIENTS + 1];
	struct buf ca; /* the bundle that is trusted */
	char ca_path[PATH_MAX];
	uint64_t correlations;
};

static void wipe(struct buf *key)
{
	if (key->p != NULL)
		crypto_wipe(key->p, key->n);
	buf_done(key);
	*key = (struct buf){0};
}

/* -- Reading -------------------------------------------------------------------------------------------------------- */

static int read_text(struct str path, struct buf *ret, struct err *err)
{
	char name[PATH_MAX];

	must(str_copy(path, name, sizeof name) == 0);
	return fd_read_file(name, FILE_MAX, ret, err);
}

/* The configured pair, or the kept one if that was made later and is still good. */
static int read_pair(struct certificate *x, struct str cert, struct str key, struct err *err)
{
	CLEANUP_BUF struct buf kept = {0};
	struct pki_times times;
	int r;

	buf_done(&x->cert);
	x->cert = (struct buf){0};
	wipe(&x->key);
	r = read_text(cert, &x->cert, err);
	if (r == 0)
		r = read_text(key, &x->key, err);
	if (r == 0)
		r = pki_times(buf_str(&x->cert), &x->times, err);
	if (r < 0)
		return r;
	if (fd_read_file(x->kept, FILE_MAX, &kept, NULL) < 0 || pki_times(buf_str(&kept), &times, NULL) < 0 ||
	    times.made_s <=
		    x->times.made_s) /* not who lasts longer: what a node began with may last for years */
		return 0;
	x->times = times;
	buf_clear(&x->cert);
	buf_add(&x->cert, kept.p, kept.n);
	wipe(&x->key);
	buf_add(&x->key, kept.p, kept.n);
	crypto_wipe(kept.p, kept.n);
	return 0;
}

static bool is_ours(const struct control *c, struct str cert)
{
	if (pki_issued_by(cert, buf_str(&c->certificates->ca)))
		return true;
	for (const struct key_row *k = NULL; (k = state_next_key(c->state, k)) != NULL;) {
		if (k->kind == KEY_CA && pki_issued_by(cert, k->public_part))
			return true;
	}
	return false;
}

static int use_pair(struct control *c, enum authority_use use, struct err *err)
{
	struct certificate *x = &c->certificates->of[use];
	struct tls_options o = {.cert = buf_str(&x->cert), .key = buf_str(&x->key)};
	int r;

	if (use == AUTHORITY_CLIENTS) {
		o.role = TLS_HTTPS;
		return c->tls_server == NULL ? tls_ctx_new(&o, &c->tls_server, err)
					     : tls_ctx_reload(c->tls_server, &o, err);
	}
	o.ca = buf_str(&c->certificates->ca);
	o.role = TLS_SERVER;
	r = c->peer_server == NULL ? tls_ctx_new(&o, &c->peer_server, err)
				   : tls_ctx_reload(c->peer_server, &o, err);
	o.role = TLS_CLIENT;
	if (r == 0)
		r = c->peer_client == NULL ? tls_ctx_new(&o, &c->peer_client, err)
					   : tls_ctx_reload(c->peer_client, &o, err);
	return r;
}

static int open_one(struct control *c, enum authority_use use, struct err *err)
{
	const struct config *f = &c->config;
	bool peer = use == AUTHORITY_PEER;
	int r = read_pair(&c->certificates->of[use], peer ? f->node_cert : f->tls_cert,
			  peer ? f->node_key : f->tls_key, err);

	if (r == 0)
		r = use_pair(c, use, err);
	return r < 0 ? err_wrap(err, peer ? "certificate between nodes" : "certificate of listen_tls") : 0;
}

int certificates_open(struct control *c, struct err *err)
{
	struct certificates *all = calloc(1, sizeof *all);
	const struct config *f = &c->config;
	int r;

	must(all != NULL);
	c->certificates = all;
	snprintf(all->of[AUTHORITY_PEER].kept, PATH_MAX, "%.*s/berthd/peer.pem", STR_ARGS(f->state_dir));
	snprintf(all->of[AUTHORITY_CLIENTS].kept, PATH_MAX, "%.*s/berthd/clients.pem",
		 STR_ARGS(f->state_dir));
	snprintf(all->ca_path, PATH_MAX, "%.*s/berthd/ca.pem", STR_ARGS(f->state_dir));
	r = fd_read_file(all->ca_path, FILE_MAX, &all->ca, NULL);
	if (r < 0) {
		buf_clear(&all->ca);
		r = read_text(f->ca_cert, &all->ca, err);
	}
	if (r < 0)
		return err_wrap(err, "ca_cert");
	r = open_one(c, AUTHORITY_PEER, err);
	return r == 0 && f->listen_tls.n > 0 ? open_one(c, AUTHORITY_CLIENTS, err) : r;
}

void certificates_close(struct control *c)
{
	for (int use = 0; c->certificates != NULL && use <= AUTHORITY_CLIENTS; use++) {
		struct certificate *x = &c->certificates->of[use];

		buf_done(&x->cert);
		wipe(&x->key);
		wipe(&x->next_key);
	}
	if (c->certificates != NULL)
		buf_done(&c->certificates->ca);
	free(c->certificates);
	c->certificates = NULL;
}

void certificates_reload(struct control *c)
{
	struct err err = {0};

	if (c->tls_server == NULL)
		return;
	if (open_one(c, AUTHORITY_CLIENTS, &err) < 0)
		log_error("certificate not reloaded: %s", err.message);
	else
		log_info("certificate reloaded");
}

/* -- Trust ------------------------------------------------------------------------------------------------------------ */

void certificates_trust(struct control *c)
{
	struct certificates *all = c->certificates;
	struct str bundle = keys_ca_bundle(c->keys);
	struct err err = {0};

	/* Should another CA be the active one now, then both are due at once. */
	all->of[AUTHORITY_PEER].asked_ms = all->of[AUTHORITY_CLIENTS].asked_ms = 0;
	if (bundle.n == 0 || str_eq(bundle, buf_str(&all->ca)))
		return;
	struct buf before = all->ca;

	all->ca = (struct buf){0};
	buf_add_str(&all->ca, bundle);
	if (use_pair(c, AUTHORITY_PEER, &err) < 0) {
		log_error("the cluster's CAs are not used: %s", err.message);
		buf_done(&all->ca);
		all->ca = before;
		return;
	}
	buf_done(&before);
	if (fd_write_file(all->ca_path, 0644, bundle.p, bundle.n, &err) < 0)
		log_error("the cluster's CAs are not kept: %s", err.message);
}

uint64_t certificates_ca(const struct control *c)
{
	const struct certificate *x = &c->certificates->of[AUTHORITY_PEER];

	for (const struct key_row *k = NULL; (k = state_next_key(c->state, k)) != NULL;) {
		if (k->kind == KEY_CA && pki_issued_by(buf_str(&x->cert), k->public_part))
			return k->id;
	}
	return 0;
}

/* -- Asking ------------------------------------------------------------------------------------------------------------ */

static bool is_due(const struct control *c, const struct certificate *x)
{
	const struct key_row *active = state_active_key(c->state, KEY_CA);
	uint64_t now_s = clock_wall_ms() / 1000, life_s = x->times.until_s - x->times.made_s;

	if (active == NULL || x->cert.n == 0 || !is_ours(c, buf_str(&x->cert)))
		return false;
	return now_s >= x->times.made_s + life_s * 2 / 3 ||
	       x->times.until_s > now_s + c->config.certificate_lifetime_ms / 1000 ||
	       !pki_issued_by(buf_str(&x->cert), active->public_part);
}

static void ask(struct control *c, enum authority_use use)
{
	struct certificate *x = &c->certificates->of[use];
	CLEANUP_BUF struct buf csr = {0}, body = {0};
	struct address leader = {ADDRESS_CONTROL, NODE_LEADER, 0};
	struct err err = {0};

	wipe(&x->next_key);
	if (pki_make_key(&x->next_key, &err) < 0 || pki_make_csr(buf_str(&x->next_key), &csr, &err) < 0) {
		log_error("a certificate is not renewed: %s", err.message);
		return;
	}
	struct msg_certify certify = {.use = (uint8_t)use, .csr = buf_str(&csr)};
	struct envelope e = control_message(c, &body, leader, MSG_CERTIFY, &certify);

	x->correlation = e.correlation = ++c->certificates->correlations << 1 | (use == AUTHORITY_CLIENTS);
	if (!c->leads) {
		control_send(c, &e);
		return;
	}
	e.to.node = c->config.node_id;
	certificates_question(c, &e);
}

void certificates_tick(struct control *c, uint64_t boot_ms)
{
	uint64_t pause = c->config.certificate_lifetime_ms / RETRY_PART;

	pause = pause < RETRY_MS_MIN ? RETRY_MS_MIN : pause > RETRY_MS_MAX ? RETRY_MS_MAX : pause;
	if (c->leader == 0 || !control_caught_up(c))
		return;
	for (int use = 0; use <= AUTHORITY_CLIENTS; use++) {
		struct certificate *x = &c->certificates->of[use];

		if (x->asked_ms != 0 && boot_ms - x->asked_ms < pause)
			continue;
		x->asked_ms = boot_ms; /* so that it is looked at now and then, and not in each turn */
		if (is_due(c, x))
			ask(c, (enum authority_use)use);
	}
}

/* Writes key and certificate as one file, so that one never stands without the other. */
static int keep(struct certificate *x, struct err *err)
{
	CLEANUP_BUF struct buf both = {0};

	buf_add(&both, x->key.p, x->key.n);
	buf_add(&both, x->cert.p, x->cert.n);
	int r = buf_failed(&both) ? err_set(err, -ENOMEM, "no memory")
				  : fd_write_file(x->kept, 0600, both.p, both.n, err);

	if (both.p != NULL)
		crypto_wipe(both.p, both.n);
	return r;
}

static int take(struct control *c, enum authority_use use, struct str cert, struct err *err)
{
	struct certificate *x = &c->certificates->of[use], before = *x;
	struct pki_times times;
	int r = is_ours(c, cert) ? pki_times(cert, &times, err)
				 : err_set(err, -EPERM, "it is not of the cluster's CA");

	if (r < 0)
		return r;
	x->cert = x->key = (struct buf){0};
	buf_add_str(&x->cert, cert);
	buf_add(&x->key, x->next_key.p, x->next_key.n);
	r = keep(x, err);
	if (r == 0)
		r = use_pair(c, use, err); /* refuses one that is not the key's */
	if (r < 0) {
		buf_done(&x->cert);
		wipe(&x->key);
		x->cert = before.cert;
		x->key = before.key;
		return r;
	}
	buf_done(&before.cert);
	wipe(&before.key);
	wipe(&x->next_key);
	x->times = times;
	return 0;
}

void certificates_answered(struct control *c, const struct envelope *answer)
{
	CLEANUP_ARENA struct arena arena = {0};
	enum authority_use use = answer->correlation & 1 ? AUTHORITY_CLIENTS : AUTHORITY_PEER;
	struct certificate *x = &c->certificates->of[use];
	struct msg_certified body;
	struct err err = {0};

	if (x->correlation == 0 || answer->correlation != x->correlation)
		return;
	x->correlation = 0;
	int r = codec_decode(answer->body.p, answer->body.n, message_body_codec[MSG_CERTIFIED], &arena, &body,
			     &err);

	if (r == 0)
		r = take(c, use, body.cert, &err);
	if (r < 0) {
		log_error("a renewed certificate is not used: %s", err.message);
		return;
	}
	log_info("the certificate %s was renewed, for %" PRIu64 " s",
		 use == AUTHORITY_PEER ? "between nodes" : "of clients' TLS",
		 x->times.until_s - x->times.made_s);
	c->ca_key = certificates_ca(c);
	c->keys_told_ms = 0;
	control_kick(c);
}

/* -- The leader's side --------------------------------------------------------------------------------------------------- */

static int issue(struct control *c, const struct node_row *node, const struct msg_certify *body,
		 struct buf *ret_cert, struct err *err)
{
	struct authority_order order = {.use = (enum authority_use)body->use,
					.csr = body->csr,
					.node = node->id,
					.node_name = node->name,
					.voter = node->voter,
					.addresses = {node->control_address, node->peer_address,
						      node->raft_address, node->api_address},
					.n_addresses = 4,
					.lifetime_ms = c->config.certificate_lifetime_ms,
					.cluster = state_cluster(c->state)};

	return authority_issue(c->keys, &order, ret_cert, err);
}

void certificates_question(struct control *c, const struct envelope *question)
{
	CLEANUP_ARENA struct arena arena = {0};
	CLEANUP_BUF struct buf cert = {0}, bytes = {0};
	const struct node_row *node = state_node(c->state, question->from.node);
	struct msg_certify body;
	struct err err = {0};
	int r = codec_decode(question->body.p, question->body.n, message_body_codec[MSG_CERTIFY], &arena,
			     &body, &err);

	if (r == 0 && !c->leads)
		r = err_set(&err, -EAGAIN, "this node does not lead");
	if (r == 0 && (node == NULL || !state_node_belongs(c->state, node->id)))
		r = err_set(&err, -EPERM, "no such node belongs to the cluster");
	if (r == 0)
		r = issue(c, node, &body, &cert, &err);
	if (r < 0) {
		if (r != -EAGAIN)
			control_complain(c, question->from.node, err.message);
		control_refuse(c, question, r, err.message);
		return;
	}
	struct msg_certified certified = {.cert = buf_str(&cert)};
	struct envelope e = control_message(c, &bytes, question->from, MSG_CERTIFIED, &certified);

	e.correlation = question->correlation;
	control_send(c, &e);
}
