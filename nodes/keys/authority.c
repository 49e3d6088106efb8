/* See authority.h. Names are made of numbers, parsed addresses and the cluster's own settings: nothing of a request gets in. */
#include "keys/authority.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "crypto/pin.h"
#include "crypto/pki.h"

#define NAME_BYTES 300

struct names {
	char text[PKI_NAMES_MAX][NAME_BYTES];
	struct pki_request request;
};

static void add(struct names *n, const char *kind, const char *name)
{
	char *to = n->text[n->request.n_names];

	snprintf(to, NAME_BYTES, "%s:%s", kind, name);
	for (unsigned i = 0; i < n->request.n_names; i++) {
		if (str_eq(str_of(n->request.names[i]), str_of(to)))
			return;
	}
	n->request.names[n->request.n_names++] = to;
}

/* The host of "https://10.0.0.1:7404", "10.0.0.1:7401" or "[::1]:7401", if it is an address; other names are not certified, since
 * nobody proved them. */
static void add_host(struct names *n, struct str address)
{
	unsigned char ip[16];
	char host[INET6_ADDRSTRLEN];
	struct str head, tail;

	if (str_starts(address, STR("https://")))
		address = str_slice(address, 8, address.n);
	else if (str_starts(address, STR("http://")))
		address = str_slice(address, 7, address.n);
	str_cut(address, '/', &head, &tail);
	if (str_starts(head, STR("[")))
		str_cut(str_slice(head, 1, head.n), ']', &head, &tail);
	else
		str_cut(head, ':', &head, &tail);
	if (str_copy(head, host, sizeof host) < 0)
		return;
	if (inet_pton(AF_INET, host, ip) == 1 || inet_pton(AF_INET6, host, ip) == 1)
		add(n, "IP", host);
}

static void add_domain(struct names *n, const struct cluster_row *cluster)
{
	const struct settings *s = &cluster->settings;
	char name[NAME_BYTES - 8];

	add(n, "DNS", "localhost");
	if (s->domain.n == 0)
		return;
	snprintf(name, sizeof name, "*.%.*s.%.*s.%.*s", STR_ARGS(s->environment), STR_ARGS(s->region),
		 STR_ARGS(s->domain));
	add(n, "DNS", name);
	snprintf(name, sizeof name, "%.*s", STR_ARGS(s->domain));
	add(n, "DNS", name);
}

int authority_issue(const struct keys *keys, const struct authority_order *order, struct buf *ret_cert,
		    struct err *err)
{
	struct names n = {.request = {.lifetime_s = order->lifetime_ms / 1000}};
	char name[64], node[32];

	if (keys_ca_key(keys).n == 0)
		return err_set(err, -EAGAIN, "this node does not have the key of the cluster's CA");
	if (order->csr.n == 0 || order->csr.n > PKI_PEM_MAX)
		return err_set(err, -EINVAL, "certificate request: 1 to %u bytes are allowed", PKI_PEM_MAX);
	snprintf(name, sizeof name, "%.*s", STR_ARGS(order->node_name));
	n.request.common_name = name;
	if (order->use == AUTHORITY_PEER) {
		snprintf(node, sizeof node, "berth://node/%" PRIu64, order->node);
		add(&n, "URI", node);
		add(&n, "URI", order->voter ? "berth://role/voter" : "berth://role/worker");
	}
	for (uint32_t i = 0; i < order->n_addresses; i++)
		add_host(&n, order->addresses[i]);
	if (order->use == AUTHORITY_CLIENTS)
		add_domain(&n, order->cluster);
	if (order->voter)
		add(&n, "DNS", PIN_VOTER_NAME);
	return pki_issue_csr(&n.request, order->csr, keys_ca_cert(keys), keys_ca_key(keys), ret_cert, err);
}
