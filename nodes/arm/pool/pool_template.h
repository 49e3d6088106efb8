/* pool_template.h -- a canonical, valid document in plain numbers: limits and template of the messages. */
#ifndef ARM_POOL_TEMPLATE_H
#define ARM_POOL_TEMPLATE_H

#include "arm/rule.h"

/* Rules between fields (unique names, references, ready <= max); adds to `errors`. Fills *ret's limits and template from
 * the document; strings are copied into the arena. */
void pool_template_read(struct call *c, const json_t *document, struct rule_errors *errors,
			struct msg_pool_put *ret);

#endif
