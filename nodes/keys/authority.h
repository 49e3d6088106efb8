/* authority.h -- issues the certificates of the cluster's nodes for the requests that they send. On voters alone: others do not
 * have the key. What a certificate says is decided by who calls this, from the tables or a join token; of the request
 * counts the key alone. Thread: the control loop. */
#ifndef KEYS_AUTHORITY_H
#define KEYS_AUTHORITY_H

#include "keys/keys.h"

#define AUTHORITY_ADDRESSES_MAX 4

enum authority_use {
	AUTHORITY_PEER,    /* between nodes: names node and role */
	AUTHORITY_CLIENTS, /* of clients' TLS: names where clients reach the node, and the pools' domain */
};

struct authority_order {
	enum authority_use use;
	struct str csr; /* PEM */
	uint64_t node;
	struct str node_name;
	bool voter; /* the role: voter (also one that is to become one), or worker */
	/* host:port, or a URL; their hosts are named, each once. */
	struct str addresses[AUTHORITY_ADDRESSES_MAX];
	uint32_t n_addresses;
	uint64_t lifetime_ms;
	const struct cluster_row *cluster; /* of AUTHORITY_CLIENTS: its domain */
};

/* PEM, leaf alone. -EAGAIN: this node does not have the CA's key; -EINVAL: what is wrong with the request. */
int authority_issue(const struct keys *keys, const struct authority_order *order, struct buf *ret_cert,
		    struct err *err);

#endif
