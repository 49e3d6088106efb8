/* recovery.h -- a cluster that begins anew on this machine: from a backup, or from what one voter still holds.
 *
 * Both make a new incarnation of the same cluster: nodes of the one before are refused, ids go on far above those that were
 * given, sandboxes of nodes that are gone end and are billed to the end of their lease. Progress lines go to the callback;
 * errors name the file. Single-threaded; nothing of the cluster may run in the directories meanwhile. */
#ifndef CLUSTER_RECOVERY_H
#define CLUSTER_RECOVERY_H

#include "cluster/cluster.h"

/* An identity file (0600) and on `say` its recipient, for --recipient. -EEXIST. */
int backup_key_new(const char *path, cluster_progress *say, void *context, struct err *err);
/* Reads all of it, and tells what it holds. */
int backup_check(const char *path, const char *identity, cluster_progress *say, void *context,
		 struct err *err);

/* A first node's directory, as cluster_init makes it; the plan's `nodes` and `workers` are not looked at. */
int cluster_restore(const struct cluster_plan *plan, const char *path, const char *identity,
		    cluster_progress *say, void *context, struct err *err);

/* On a stopped voter of a lost majority: it alone is the cluster from now on. `dir` is the node's folder, with its berth.conf.
 * Without `yes` nothing is changed: `say` tells what it has. */
int cluster_recover(const char *dir, bool yes, cluster_progress *say, void *context, struct err *err);

#endif
