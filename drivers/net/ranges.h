/* ranges.h -- which IPv4 addresses sandboxes may reach: all but special ones, the operator's and our own. Pure. */
#ifndef NET_RANGES_H
#define NET_RANGES_H

#include <stdint.h>

#include "core/buf.h"

#define RANGES_MAX      256u /* denied ones */
#define RANGES_OWN_BITS 20   /* of the range of a node's sandboxes */

struct special_range {
	const char *range, *what;
};

/* Sorted by address; docs/network.md holds this table. `range` NULL ends it; `what` NULL: for documentation (RFC 5737). */
extern const struct special_range ranges_special[];

/* Writes "1.0.0.0-9.255.255.255, ...": everything but the special ranges, those of `denied` ("A.B.C.D" or "A.B.C.D/N" with
 * spaces between) and the /20 at `own`. -EINVAL: not such words; -E2BIG. */
int ranges_allowed(const char *denied, uint32_t own, struct buf *b);
void ranges_print(struct buf *b, uint32_t address);
/* Writes the page's table. */
void ranges_reference(struct buf *b);

#endif
