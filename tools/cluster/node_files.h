/* node_files.h -- the folder of one node, as `cluster init` and `node join` write it: DIR/<name>/ with berth.conf, certificates and keys.
 * For this folder alone. */
#ifndef CLUSTER_NODE_FILES_H
#define CLUSTER_NODE_FILES_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/buf.h"
#include "core/err.h"

#define NODE_UID_BASE  1000000000u
#define NODE_UID_COUNT 134217728u

/* Where files go and whose they are. */
struct node_place {
	char dir[PATH_MAX]; /* of the cluster, real */
	const char *user;   /* that berthd runs as */
	uid_t uid;
	gid_t gid;
};

/* -ENOENT: no such user, with what to do; -EINVAL: root. Makes `dir` if it is missing. */
int node_place_open(struct node_place *p, const char *dir, const char *user, struct err *err);
/* Writes DIR/<name>; `daemons`: it is the user's. */
int node_place_put(const struct node_place *p, const char *name, unsigned mode, bool daemons,
		   struct str bytes, struct err *err);

struct node_config {
	uint64_t id, incarnation;
	const char *name;
	bool worker, joined, first_keys;
	struct str members; /* lines */
	const char *cluster, *tenant, *audience;
	const char *host;
	unsigned port; /* the first of five */
	unsigned gateway_loops;
	uint64_t uid_base;
	const char *admin_group, *domain, *environment, *region, *isolation,
		*extra; /* NULL or empty: not said */
};
/* DIR/<name>/berth.conf. */
int node_config_write(const struct node_place *p, const struct node_config *c, struct err *err);

#endif
