/* cluster.h -- Berth's own small API below /.berth/v1/: the cluster, its nodes, a pool's condition, and work that the
 * process does itself (images, tokens). */
#ifndef ARM_CLUSTER_H
#define ARM_CLUSTER_H

#include "arm/call.h"

/* By name or number; NULL after an error reply was made. */
const struct node_row *cluster_find_node(struct call *c);
/* How the node takes part in placement: "open", "disk full", "cordoned", "draining" or "drained". */
const char *cluster_scheduling(const struct call *c, const struct node_row *row);

call_handler cluster_status, cluster_health, cluster_nodes, cluster_node, cluster_pool_status, cluster_images,
	cluster_import, cluster_prune, cluster_forget, cluster_token, cluster_keys, cluster_backup,
	cluster_rotate;

#endif
