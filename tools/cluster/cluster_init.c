/* Happy path: a directory, a CA, for each node a certificate, keys and a berth.conf, all owned as the daemons need them.
 * A failure leaves what was made so far; init refuses to run over it, so remove the directory first. */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/cluster.h"
#include "cluster/node_files.h"
#include "core/fd.h"
#include "core/must.h"
#include "crypto/digest.h"
#include "crypto/keyring.h"
#include "crypto/pin.h"
#include "crypto/pki.h"
#include "keys/keys.h"

#define CA_DAYS   3650
#define CERT_DAYS 90

struct making {
	const struct cluster_plan *plan;
	char hosts[CLUSTER_NODES_MAX][INET_ADDRSTRLEN]; /* of each node */
	bool alone;                                     /* each node has its address for itself */
	struct node_place place;
	char cluster[UUID_TEXT_SIZE], tenant[UUID_TEXT_SIZE];
	struct buf ca_cert, ca_key, ring, first_keys;
};

static const char *cluster_environment(const struct cluster_plan *p)
{
	return p->environment != NULL ? p->environment : "default";
}

static const char *cluster_region(const struct cluster_plan *p)
{
	return p->region != NULL ? p->region : "local";
}

static bool is_worker(const struct making *m, unsigned i)
{
	return i > m->plan->nodes;
}

static unsigned long long node_id(const struct making *m, unsigned i)
{
	return m->plan->given != NULL ? m->plan->given->node : i;
}

static int make_ca(struct making *m, struct err *err)
{
	struct pki_request request = {
		.common_name = "Berth cluster CA", .lifetime_s = CA_DAYS * PKI_DAY_S, .authority = true};
	int r = pki_make_key(&m->ca_key, err);

	if (r == 0)
		r = pki_issue(&request, buf_str(&m->ca_key), STR_NONE, STR_NONE, &m->ca_cert, err);
	if (r == 0)
		r = node_place_put(&m->place, "ca.pem", 0644, false, buf_str(&m->ca_cert), err);
	return r;
}

/* The ring that each voter gets, and under it the keys that the first leader puts into the tables. */
static int make_keys(struct making *m, struct err *err)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct keyring *ring = keyring_new();
	uint8_t master[KEYRING_KEY_BYTES];
	struct keys_first first;

	crypto_random(master, sizeof master);
	must(keyring_add(ring, 1, master) == 0);
	crypto_wipe(master, sizeof master);
	keyring_print(ring, &m->ring);
	int r = keys_make_first(ring, str_of(m->cluster), buf_str(&m->ca_key), buf_str(&m->ca_cert), &arena,
				&first, err);

	keyring_free(ring);
	if (r == 0)
		codec_encode(&m->first_keys, &keys_first_codec, &first);
	return r;
}

/* Its keys are in the tables already. */
static int take_given(struct making *m, const struct cluster_given *given, struct err *err)
{
	if (str_copy(given->cluster, m->cluster, sizeof m->cluster) < 0 ||
	    str_copy(given->tenant, m->tenant, sizeof m->tenant) < 0)
		return err_set(err, -EINVAL, "cluster or tenant: not a UUID");
	buf_add_str(&m->ring, given->ring);
	buf_add_str(&m->ca_cert, given->ca_cert);
	buf_add_str(&m->ca_key, given->ca_key);
	return node_place_put(&m->place, "ca.pem", 0644, false, given->ca_file, err);
}

static struct str ca_file(const struct making *m)
{
	return m->plan->given != NULL ? m->plan->given->ca_file : buf_str(&m->ca_cert);
}

/* A key and a certificate of the CA: <name>/<file>.key and <name>/<file>.pem. */
static int make_pair(struct making *m, const char *node, const char *file, const struct pki_request *request,
		     struct err *err)
{
	CLEANUP_BUF struct buf key = {0}, cert = {0};
	char name[128];
	int r = pki_make_key(&key, err);

	if (r == 0)
		r = pki_issue(request, buf_str(&key), buf_str(&m->ca_cert), buf_str(&m->ca_key), &cert, err);
	snprintf(name, sizeof name, "%s/%s.key", node, file);
	if (r == 0)
		r = node_place_put(&m->place, name, 0600, true, buf_str(&key), err);
	snprintf(name, sizeof name, "%s/%s.pem", node, file);
	if (r == 0)
		r = node_place_put(&m->place, name, 0644, true, buf_str(&cert), err);
	if (key.p != NULL)
		crypto_wipe(key.p, key.n);
	return r;
}

static int make_certificates(struct making *m, unsigned i, const char *node, struct err *err)
{
	const struct cluster_plan *p = m->plan;
	char uri[64], ip[80], pools[300], domain[300];
	struct pki_request peer = {
		.common_name = node,
		.names = {uri, is_worker(m, i) ? "URI:berth://role/worker" : "URI:berth://role/voter", ip},
		.n_names = 3, /* and a voter's */
		.lifetime_s = CERT_DAYS * PKI_DAY_S};
	struct pki_request clients = {.common_name = node,
				      .names = {ip, "DNS:localhost"},
				      .n_names = 2,
				      .lifetime_s = CERT_DAYS * PKI_DAY_S};

	snprintf(uri, sizeof uri, "URI:berth://node/%llu", node_id(m, i));
	snprintf(ip, sizeof ip, "IP:%s", m->hosts[i - 1]);
	if (!is_worker(m, i))
		peer.names[peer.n_names++] = "DNS:" PIN_VOTER_NAME;
	int r = make_pair(m, node, "node", &peer, err);

	if (r < 0 || p->tls_cert != NULL)
		return r;
	if (!is_worker(m, i))
		clients.names[clients.n_names++] = "DNS:" PIN_VOTER_NAME;
	if (p->domain != NULL) {
		snprintf(pools, sizeof pools, "DNS:*.%s.%s.%s", cluster_environment(p), cluster_region(p),
			 p->domain);
		snprintf(domain, sizeof domain, "DNS:%s", p->domain);
		clients.names[clients.n_names++] = pools;
		clients.names[clients.n_names++] = domain;
	}
	return make_pair(m, node, "tls", &clients, err);
}

static int copy_tls(struct making *m, const char *node, struct err *err)
{
	const char *from[2] = {m->plan->tls_cert, m->plan->tls_key}, *to[2] = {"tls.pem", "tls.key"};
	int r = 0;

	for (int i = 0; r == 0 && i < 2; i++) {
		CLEANUP_BUF struct buf bytes = {0};
		char name[128];

		snprintf(name, sizeof name, "%s/%s", node, to[i]);
		r = fd_read_file(from[i], 1 << 20, &bytes, err);
		if (r == 0)
			r = node_place_put(&m->place, name, i == 0 ? 0644 : 0600, true, buf_str(&bytes), err);
	}
	return r;
}

static unsigned first_port(const struct making *m, unsigned i)
{
	return m->plan->base_port + (m->alone ? 0 : 10 * (i - 1));
}

static void write_members(const struct making *m, struct buf *to)
{
	const struct cluster_plan *p = m->plan;

	for (unsigned i = 1; i <= p->nodes + p->workers; i++) {
		const char *host = m->hosts[i - 1];
		unsigned port = first_port(m, i);

		buf_printf(to, "member = %llu node%u ", node_id(m, i), i);
		if (i <= p->nodes)
			buf_printf(to, "%s:%u", host, port);
		else
			buf_printf(to, "-");
		buf_printf(to, " %s:%u %s:%u\n", host, port + 1, host, port + 2);
	}
}

static int write_config(struct making *m, unsigned i, const char *node, struct err *err)
{
	const struct cluster_plan *p = m->plan;
	CLEANUP_BUF struct buf members = {0};
	char audience[400];
	struct node_config c = {.id = node_id(m, i),
				.incarnation = p->given != NULL ? p->given->incarnation : 1,
				.name = node,
				.worker = is_worker(m, i),
				.first_keys = !is_worker(m, i) && m->first_keys.n > 0,
				.cluster = m->cluster,
				.tenant = m->tenant,
				.audience = audience,
				.host = m->hosts[i - 1],
				.port = first_port(m, i),
				.gateway_loops = p->gateway_loops,
				.uid_base = NODE_UID_BASE + (uint64_t)(i - 1) * NODE_UID_COUNT,
				.admin_group = p->admin_group,
				.domain = p->domain,
				.environment = p->environment,
				.region = p->region,
				.isolation = p->isolation,
				.extra = p->extra};

	write_members(m, &members);
	c.members = buf_str(&members);
	snprintf(audience, sizeof audience, "https://%s:%u", p->domain != NULL ? p->domain : m->hosts[0],
		 p->base_port + 4);
	return node_config_write(&m->place, &c, err);
}

/* What a voter has and a worker has not. */
static int put_keys(struct making *m, const char *node, struct err *err)
{
	char name[128];
	int r;

	snprintf(name, sizeof name, "%s/keyring", node);
	r = node_place_put(&m->place, name, 0600, true, buf_str(&m->ring), err);
	snprintf(name, sizeof name, "%s/first-keys", node);
	return r == 0 && m->first_keys.n > 0
		       ? node_place_put(&m->place, name, 0600, true, buf_str(&m->first_keys), err)
		       : r;
}

static int make_node(struct making *m, unsigned i, struct err *err)
{
	char node[32], path[PATH_MAX + 64], name[128];
	int r;

	snprintf(node, sizeof node, "node%u", i);
	snprintf(path, sizeof path, "%s/%s", m->place.dir, node);
	if (mkdir(path, 0755) < 0)
		return err_system(err, -errno, "make %s", path);
	r = make_certificates(m, i, node, err);
	if (r == 0 && m->plan->tls_cert != NULL)
		r = copy_tls(m, node, err);
	snprintf(name, sizeof name, "%s/ca.pem", node);
	if (r == 0)
		r = node_place_put(&m->place, name, 0644, false, ca_file(m), err);
	if (r == 0 && !is_worker(m, i))
		r = put_keys(m, node, err);
	return r == 0 ? write_config(m, i, node, err) : r;
}

/* One address for all, or one for each. */
static int share_hosts(struct making *m, struct err *err)
{
	const struct cluster_plan *p = m->plan;
	struct str left = str_of(p->host);
	struct in_addr address;
	unsigned n = 0, nodes = p->nodes + p->workers;

	for (struct str host; left.n > 0; n++) {
		str_cut(left, ',', &host, &left);
		if (n == nodes)
			return err_set(err, -EINVAL, "--host: more addresses than nodes (%u)", nodes);
		if (str_copy(host, m->hosts[n], sizeof m->hosts[n]) < 0 ||
		    inet_pton(AF_INET, m->hosts[n], &address) != 1)
			return err_set(err, -EINVAL, "--host: \"%.*s\" is not an IPv4 address",
				       STR_ARGS(host));
		for (unsigned k = 0; k < n; k++) {
			if (strcmp(m->hosts[k], m->hosts[n]) == 0)
				return err_set(err, -EINVAL, "--host: %s is there twice", m->hosts[n]);
		}
	}
	if (n != 1 && n != nodes)
		return err_set(err, -EINVAL, "--host: one address, or one for each of the %u nodes; not %u",
			       nodes, n);
	m->alone = n == nodes;
	for (; n < nodes; n++)
		memcpy(m->hosts[n], m->hosts[0], sizeof m->hosts[n]);
	return 0;
}

static int check_plan(struct making *m, struct err *err)
{
	const struct cluster_plan *p = m->plan;
	char marker[PATH_MAX + 16];

	if (p->nodes != 1 && p->nodes != 3 && p->nodes != 5)
		return err_set(err, -EINVAL, "--nodes: 1, 3 or 5 are allowed, not %u", p->nodes);
	if (p->nodes + p->workers > CLUSTER_NODES_MAX)
		return err_set(err, -EINVAL, "--workers: 0 to %u are allowed beside %u voters",
			       CLUSTER_NODES_MAX - p->nodes, p->nodes);
	int r = share_hosts(m, err);

	if (r < 0)
		return r;
	if (p->base_port < 1024 || p->base_port + 10 * (p->nodes + p->workers) > 65535)
		return err_set(err, -EINVAL, "--base-port: 1024 to %u are allowed",
			       65535 - 10 * (p->nodes + p->workers));
	if ((p->tls_cert == NULL) != (p->tls_key == NULL))
		return err_set(err, -EINVAL, "--tls-cert and --tls-key go together");
	r = node_place_open(&m->place, p->dir, p->user, err);
	if (r < 0)
		return r;
	snprintf(marker, sizeof marker, "%s/ca.pem", m->place.dir);
	if (access(marker, F_OK) == 0)
		return err_set(err, -EEXIST, "%s holds a cluster already", m->place.dir);
	return 0;
}

static void made_done(struct making *m)
{
	struct buf *secret[] = {&m->ca_key, &m->ring};

	for (int i = 0; i < 2; i++) {
		if (secret[i]->p != NULL)
			crypto_wipe(secret[i]->p, secret[i]->n);
		buf_done(secret[i]);
	}
	buf_done(&m->ca_cert);
	buf_done(&m->first_keys);
}

int cluster_init(const struct cluster_plan *plan, cluster_progress *say, void *context, struct err *err)
{
	struct making m = {.plan = plan};
	char line[PATH_MAX + 128];
	int r = check_plan(&m, err);

	if (r < 0)
		return r;
	if (plan->given != NULL) {
		r = take_given(&m, plan->given, err);
	} else {
		crypto_uuid(m.cluster);
		crypto_uuid(m.tenant);
		r = make_ca(&m, err);
		if (r == 0)
			r = make_keys(&m, err);
	}
	for (unsigned i = 1; r == 0 && i <= plan->nodes + plan->workers; i++) {
		r = make_node(&m, i, err);
		snprintf(line, sizeof line, "node%u: %s/node%u/berth.conf", i, m.place.dir, i);
		if (r == 0)
			say(context, line);
	}
	made_done(&m);
	return r;
}

void cluster_names(const struct cluster_plan *plan, cluster_progress *say, void *context)
{
	char line[1024];

	if (plan->domain == NULL) {
		say(context, "no --domain: pools are reached by path, "
			     "/subscriptions/<s>/resourceGroups/<g>/sessionPools/<pool>/...");
		return;
	}
	snprintf(line, sizeof line, "DNS: *.%s.%s.%s and %s must resolve to %s", cluster_environment(plan),
		 cluster_region(plan), plan->domain, plan->domain, plan->host);
	say(context, line);
	snprintf(line, sizeof line, "certificate names needed: *.%s.%s.%s, %s", cluster_environment(plan),
		 cluster_region(plan), plan->domain, plan->domain);
	say(context, line);
}
