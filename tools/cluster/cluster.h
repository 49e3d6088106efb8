/* cluster.h -- what `berth cluster init|start|stop` do on this machine: files, keys and processes of a static cluster.
 *
 * Layout: DIR/ca.pem, and for each node DIR/<name>/ with berth.conf, its certificates and keys,
 * state/ and run/. For a cluster over several machines each node's folder is copied to its machine.
 * Progress lines go to the callback; errors name the file or port. */
#ifndef CLUSTER_CLUSTER_H
#define CLUSTER_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/str.h"

#define CLUSTER_NODES_MAX 16

/* What a cluster goes on with that is not new. */
struct cluster_given {
	struct str cluster, tenant;          /* UUIDs */
	struct str ring;                     /* the key ring file's text */
	struct str ca_cert, ca_key, ca_file; /* PEM; ca_file: all CAs that are accepted */
	uint64_t node, incarnation;          /* id of its first node */
};

struct cluster_plan {
	const char *dir;
	const struct cluster_given *given; /* NULL: a new cluster */
	unsigned nodes;                    /* 1, 3 or 5 voters */
	unsigned workers;                  /* beside them */
	/* IPv4 address that all listen on, 127.0.0.1; or one for each node, separated by commas, voters first. */
	const char *host;
	unsigned
		base_port; /* and the next four: Raft, control, forward, HTTP, HTTPS; on one address node i has base + 10 * (i - 1) */
	const char *user;                 /* that berthd runs as */
	const char *admin_group;          /* NULL: root and the user alone */
	const char *domain;               /* NULL: pools are reached by path alone */
	const char *environment, *region; /* NULL: default, local */
	const char *tls_cert, *tls_key;   /* NULL: issued by the cluster's CA */
	unsigned gateway_loops;
	const char *isolation; /* of pools that name none: "vm" or "container"; NULL: container */
	const char *extra;     /* lines that are added to each berth.conf, e.g. "cooldown_min = 2\n"; NULL */
};

typedef void cluster_progress(void *context, const char *line);

/* Makes everything; -EEXIST if DIR already holds a cluster. */
int cluster_init(const struct cluster_plan *plan, cluster_progress *say, void *context, struct err *err);
/* The record and names that a domain needs, as text for people. */
void cluster_names(const struct cluster_plan *plan, cluster_progress *say, void *context);
/* Starts the supervisors that do not run and waits until every node is ready. -ETIMEDOUT with what is not. */
int cluster_start(const char *dir, unsigned timeout_s, cluster_progress *say, void *context, struct err *err);
/* Ends the supervisors; with `purge` also all sandboxes and what they left on the host. */
int cluster_stop(const char *dir, bool purge, cluster_progress *say, void *context, struct err *err);

/* A machine that is to become a node: its keys, and the requests for certificates that it sends. */
struct join_plan {
	const char *dir, *name;
	const char *host;   /* IPv4 address that it listens on, and is reached at */
	unsigned base_port; /* and the next four */
	const char *user, *admin_group;
	unsigned gateway_loops;
	const char *extra; /* as above */
};
struct joining;
/* Checks the plan, and makes the keys in memory; nothing is written. -EEXIST: DIR/<name> is there. */
int joining_new(const struct join_plan *plan, struct joining **ret, struct err *err);
/* PEM; `clients`: of the certificate for clients' TLS. */
struct str joining_csr(const struct joining *j, bool clients);
/* "host:port" of the i-th port. */
void joining_address(const struct joining *j, unsigned i, char *to, size_t size);
/* What the cluster answered. */
struct joined {
	uint64_t id, incarnation;
	bool worker;
	const char *cluster, *tenant, *audience, *domain, *environment, *region;
	struct str certificate, clients_certificate, ca,
		keyring;    /* PEM, PEM, PEM, text; the last one empty for a worker */
	struct str members; /* lines of berth.conf: voters, for a worker to ask */
};
/* Writes DIR/<name>/, berth.conf last. */
int joining_write(struct joining *j, const struct joined *a, struct err *err);
/* Wipes the keys. */
void joining_free(struct joining *j);

/* Ends what is left of a node that was removed, or is damaged, on this machine, and wipes DIR/<name>. -EBUSY: it runs; -EPERM: its
 * cluster did not remove it, and not `force`. */
int cluster_purge(const char *dir, const char *name, bool force, cluster_progress *say, void *context,
		  struct err *err);

#endif
