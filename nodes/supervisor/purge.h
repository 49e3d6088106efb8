/* purge.h -- ends every sandbox of a node that is not running any more: starts its sandboxd for the purpose, lists, stops
 * each at once, ends sandboxd again, and the node's own libvirtd. Blocking; root; under the supervisor's lock. */
#ifndef SUPERVISOR_PURGE_H
#define SUPERVISOR_PURGE_H

#include "child.h"
#include "config/config.h"

/* -EIO names a sandbox that could not be stopped; the others are gone. */
int purge_node(const struct config *config, struct child *sandboxd, struct err *err);

#endif
