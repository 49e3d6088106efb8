#include "control/links/able.h"

#include <stdio.h>

#include "control/control.h"
#include "core/log.h"

#define TELL_MS 5000

/* A sandboxd that names none is an older one, which runs containers. */
void able_told(void *control, const struct sandboxd_able *able)
{
	struct control *c = control;
	uint32_t known = able->isolations & ((1u << ISOLATIONS) - 1);
	bool vm = (known & 1u << ISOLATION_VM) != 0;
	struct str no_vm = vm ? STR_NONE : able->no_vm;

	if (known == 0)
		known = 1u << ISOLATION_CONTAINER;
	if (known == c->able.isolations && str_eq(no_vm, str_of(c->able.no_vm)))
		return;
	c->able.isolations = known;
	snprintf(c->able.no_vm, sizeof c->able.no_vm, "%.*s", STR_ARGS(no_vm));
	c->able.told_ms = 0;
	if (vm)
		log_info("this node runs virtual machines");
	else if (no_vm.n > 0)
		log_info("this node cannot run virtual machines: %.*s", STR_ARGS(no_vm));
	control_kick(c);
}

bool able_known(const struct control *c)
{
	return c->able.isolations != 0 &&
	       ((c->able.isolations & 1u << ISOLATION_VM) != 0 || c->able.no_vm[0] != '\0');
}

void able_turn(struct control *c, uint64_t now_ms)
{
	const struct node_row *self = state_node(c->state, c->config.node_id);
	struct cmd_node_able body = {.isolations = c->able.isolations, .no_vm = str_of(c->able.no_vm)};
	struct address nobody = {ADDRESS_CONTROL, c->config.node_id, 0};

	if (self == NULL || !able_known(c) || proposer_epoch(c->proposer) == 0 || now_ms < c->able.told_ms ||
	    (self->isolations == body.isolations && str_eq(self->no_vm, body.no_vm)))
		return;
	c->able.told_ms = now_ms + TELL_MS;
	proposer_submit(c->proposer, COMMAND_NODE_ABLE, &body, &nobody, 0, now_ms + TELL_MS);
}
