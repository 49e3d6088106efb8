/* pool_rules.h -- the fields of Microsoft.App/sessionPools (rule.h), in all versions from 2024-02-02-preview on. */
#ifndef ARM_POOL_RULES_H
#define ARM_POOL_RULES_H

#include "arm/rule.h"

/* The tag that chooses a pool's isolation; pool_document.c reads it. */
#define POOL_TAG_ISOLATION "berth.isolation"

extern const struct rule_table pool_rules;
/* In the path: 3 to 63 of a-z, 0-9 and single hyphens, a letter first, no hyphen last. */
bool pool_name_good(struct str name);
bool pool_secret_name_good(struct str name);

#endif
