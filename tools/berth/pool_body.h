/* pool_body.h -- options of `pool create` and `pool update` become the resource's JSON. Nothing is checked here. */
#ifndef BERTH_POOL_BODY_H
#define BERTH_POOL_BODY_H

#include "command.h"
#include "json/json.h"

/* The whole resource, or with `current` (what GET answered) a merge patch of what the options name. Exit code; the caller
 * owns *ret. */
int pool_body(const struct args *args, const char *name, const json_t *current, json_t **ret);
/* The resource of --file, or NULL after a message. */
json_t *pool_body_file(const char *path);

#endif
