/* carriers.c -- the drivers, one for each isolation.
 *
 * Happy path: each is opened and adopts what runs, at once, so that no slot is given twice; when berthd comes it is proven on a
 * thread: for machines that means a connection to libvirtd and a guest that has to answer, which takes seconds, and containers shall not
 * wait for it. Who said hello is told when it is done.
 * Failure modes: without the driver for containers there is no sandboxd. One that is not proven starts nothing, says why, and is
 * tried again, for libvirtd may come back. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"
#include "drivers_net/egress.h"
#include "sandboxd/server_state.h"

#define AGAIN_MS     60000u
#define AGAIN_MS_MAX 600000u

struct proof {
	struct job job;
	struct server *s;
	struct carrier *carrier;
	int code;
	struct err err;
};

bool carriers_finding_out(const struct server *s, int isolation)
{
	const struct carrier *c = &s->carriers[isolation];

	return !c->proven && c->proving && c->wait_ms == 0;
}

struct sandboxd_able carriers_able(const struct server *s)
{
	struct sandboxd_able able = {0};
	const struct carrier *vm = &s->carriers[ISOLATION_VM];
	struct str why = str_of(vm->why_not.message);

	for (int i = 0; i < ISOLATIONS; i++)
		able.isolations |= s->carriers[i].proven ? 1u << i : 0;
	/* Not known yet: who asks for a machine may wait for it. */
	if (!vm->proven && !carriers_finding_out(s, ISOLATION_VM))
		able.no_vm = str_slice(why, 0, why.n < NO_VM_MAX ? why.n : NO_VM_MAX);
	return able;
}

/* -- Opening ---------------------------------------------------------------------------------------------------- */

static int open_one(struct server *s, enum isolation isolation, struct str cluster, uint64_t node,
		    struct err *err)
{
	struct carrier *c = &s->carriers[isolation];
	int r = s->o.open_driver(s->o.settings, isolation, cluster, node, s->egress, &c->driver, err);

	/* Nothing of it can be here, then; after any other failure something may run that has slots. */
	if ((r == -ENODEV || r == -EINVAL || r == -ENAMETOOLONG) && isolation != ISOLATION_CONTAINER) {
		c->why_not = *err;
		return 0;
	}
	if (r < 0)
		return r;
	if (isolation == ISOLATION_VM && s->o.settings->vm == 0)
		err_set(&c->why_not, -ENODEV, "this node's configuration says vm = off");
	else if (c->driver->ops->prove != NULL)
		err_set(&c->why_not, -ENODEV, "this node is finding out whether it can run them");
	else
		c->proven = true;
	return sandboxes_adopt(s, isolation, err);
}

int carriers_open(struct server *s, struct str cluster, uint64_t node, struct err *err)
{
	int r = 0;

	for (int i = 0; i < ISOLATIONS && r == 0; i++)
		r = open_one(s, (enum isolation)i, cluster, node, err);
	if (r == 0)
		r = egress_settle(s->egress, err); /* behind all: it removes what nobody named */
	if (r == 0)
		fence_adopted(s);
	return r;
}

bool carriers_opened(const struct server *s)
{
	return s->carriers[ISOLATION_CONTAINER].driver != NULL;
}

void carriers_close(struct server *s)
{
	for (int i = 0; i < ISOLATIONS; i++) {
		struct driver *d = s->carriers[i].driver;

		if (d != NULL)
			d->ops->close(d);
	}
}

/* -- Proving ---------------------------------------------------------------------------------------------------- */

static void run_proof(struct job *job)
{
	struct proof *p = container_of(job, struct proof, job);
	struct driver *d = p->carrier->driver;

	p->code = d->ops->prove(d, &p->err);
}

static void done_proof(struct job *job)
{
	struct proof *p = container_of(job, struct proof, job);
	struct carrier *c = p->carrier;
	const char *name = c->driver->ops->name;

	c->proving = false;
	c->proven = p->code == 0;
	if (c->proven) {
		log_info("driver %s: proven", name);
	} else {
		log_warn("driver %s: %s", name, p->err.message);
		c->why_not = p->err;
		c->wait_ms = c->wait_ms == 0 ? AGAIN_MS : c->wait_ms * 2;
		c->wait_ms = c->wait_ms > AGAIN_MS_MAX ? AGAIN_MS_MAX : c->wait_ms;
		c->again_boot_ms = clock_boot_ms() + c->wait_ms;
	}
	send_able(p->s);
	free(p);
}

static void prove(struct server *s, struct carrier *c)
{
	struct proof *p = calloc(1, sizeof *p);

	if (p == NULL)
		return;
	*p = (struct proof){.job = {.run = run_proof, .done = done_proof}, .s = s, .carrier = c};
	c->proving = jobs_post(s->work, &p->job) == 0;
	if (!c->proving)
		free(p);
}

void carriers_prove(struct server *s)
{
	for (int i = 0; i < ISOLATIONS; i++) {
		struct carrier *c = &s->carriers[i];
		bool may = c->driver != NULL && (i != ISOLATION_VM || s->o.settings->vm != 0);

		if (s->wanted && may && !c->proven && !c->proving && clock_boot_ms() >= c->again_boot_ms)
			prove(s, c);
	}
}
