#include "control/links/dialer.h"

#include <errno.h>
#include <stdlib.h>

#include "control/control.h"
#include "control/links/sandboxd_client.h"
#include "core/map.h"
#include "core/must.h"

struct dialer {
	struct str socket, cluster;
	uint64_t node;
	struct sandboxd_client *clients[GATEWAY_LOOPS_MAX]; /* each used by its loop's thread alone */
};

struct dial {
	struct loop *loop;
	gateway_dialed *done;
	void *arg;
	int fd, error;
	struct loop_deferred deferred;
};

struct dialer *dialer_new(struct str socket, struct str cluster, uint64_t node)
{
	struct dialer *d = calloc(1, sizeof *d);

	must(d != NULL);
	*d = (struct dialer){.socket = socket, .cluster = cluster, .node = node};
	return d;
}

static void on_listed(void *context, const struct sandboxd_sandbox *list, uint32_t n)
{
	(void)context;
	(void)list;
	(void)n;
}

static void on_lost(void *context)
{
	(void)context;
}

static void on_exited(void *context, const struct sandboxd_exited *event)
{
	(void)context;
	(void)event;
}

static int on_loop_start(void *arg, struct loop *l, unsigned loop)
{
	struct dialer *d = ((struct control *)arg)->dialer;
	struct sandboxd_client_options options = {.loop = l,
						  .socket = d->socket,
						  .cluster = d->cluster,
						  .node = d->node,
						  .listed = on_listed,
						  .lost = on_lost,
						  .exited = on_exited,
						  .context = d};

	d->clients[loop] = sandboxd_client_new(&options);
	return 0;
}

static void on_loop_stop(void *arg, struct loop *l, unsigned loop)
{
	struct control *c = arg;

	(void)l;
	sandboxd_client_close(c->dialer->clients[loop]);
}

static void finish(struct loop_deferred *deferred)
{
	struct dial *dial = container_of(deferred, struct dial, deferred);

	dial->done(dial->arg, dial->fd, dial->error);
	free(dial);
}

static void on_dialed(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct dial *dial = arg;

	(void)context;
	dial->fd = fd;
	dial->error = reply->code < 0 ? reply->code : fd < 0 ? -EPROTO : 0;
	loop_defer(dial->loop, &dial->deferred);
}

static int on_dial(void *arg, struct loop *l, unsigned loop, uint64_t sandbox, uint32_t timeout_ms,
		   gateway_dialed *done, void *done_arg)
{
	struct control *c = arg;
	struct sandboxd_dial call = {.sandbox = sandbox, .timeout_ms = timeout_ms};
	struct dial *dial = calloc(1, sizeof *dial);

	must(dial != NULL);
	*dial = (struct dial){
		.loop = l, .done = done, .arg = done_arg, .fd = -1, .deferred = {.run = finish}};
	sandboxd_client_call(c->dialer->clients[loop], SANDBOXD_DIAL, &call, -1,
			     loop_now(l) + timeout_ms + 1000, on_dialed, dial);
	return 0;
}

void dialer_fill(struct gateway_config *g)
{
	g->dial = on_dial;
	g->loop_start = on_loop_start;
	g->loop_stop = on_loop_stop;
}
