/* cluster.h -- Berth's own small API below /.berth/v1/: the cluster, its nodes, a pool's condition, and work that the
 * process does itself (images, tokens). */
#ifndef ARM_CLUSTER_H
#define ARM_CLUSTER_H

#include "arm/call.h"

call_handler cluster_status, cluster_nodes, cluster_node, cluster_pool_status, cluster_images, cluster_import,
	cluster_prune, cluster_forget, cluster_token, cluster_keys;

#endif
