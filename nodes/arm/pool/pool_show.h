/* pool_show.h -- a pool as the version asked for shows it, and the counts that its tables hold. */
#ifndef ARM_POOL_SHOW_H
#define ARM_POOL_SHOW_H

#include "arm/call.h"

/* The resource as JSON; the caller owns the reference. The row may be one that is not in the tables (yet): its document,
 * names, provisioning and times are what is shown. */
json_t *pool_show(const struct call *c, const struct pool_row *row);
/* "https://<pool>.<env>.<region>.<domain>", or below this endpoint's path when the cluster has no domain. */
struct str pool_show_endpoint(const struct call *c, const struct pool_row *row);

/* Sandboxes of one revision of a pool (0: of any). */
struct pool_sandboxes {
	uint32_t booting, ready, bound, stopping, nodes;
};
struct pool_sandboxes pool_show_sandboxes(const struct call *c, uint64_t pool, uint64_t revision);

/* A uuid that is the same for the same texts, always. */
struct str pool_show_uuid(const struct call *c, const char *kind, struct str of);

#endif
