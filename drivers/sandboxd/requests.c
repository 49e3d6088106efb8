/* requests.c -- one request by its type. Each is answered exactly once, here or by the job that it becomes. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/fd.h"
#include "core/log.h"
#include "sandboxd/server_state.h"

struct request {
	struct connection *c;
	const struct packet *p;
	struct arena *arena;
	struct asker asker;
	int fd; /* owned by the handler; -1 when it has taken it */
};

typedef void handler(struct server *s, struct request *q);

static void on_hello(struct server *s, struct request *q)
{
	const struct sandboxd_hello *h = &q->p->body.hello;
	struct sandboxd_reply r = {.version = STR(BERTH_VERSION)};
	struct sandboxd_able able;
	struct sysinfo info;
	struct err err = {0};
	int code = 0;

	if (h->protocol != SANDBOXD_PROTOCOL)
		code = err_set(&err, -EPROTO, "hello: protocol %u; this sandboxd speaks %u", h->protocol,
			       SANDBOXD_PROTOCOL);
	if (code == 0)
		code = identity_take(s, h->cluster, h->node, &err);
	if (code < 0) {
		log_warn("%s", err.message);
		reply_code(s, &q->asker, code, &err);
		return;
	}
	s->wanted |= !h->ending;
	carriers_prove(s);
	able = carriers_able(s);
	r.isolations = able.isolations;
	r.no_vm = able.no_vm;
	if (sysinfo(&info) == 0)
		r.memory_mb = (uint32_t)((uint64_t)info.totalram * info.mem_unit >> 20);
	r.cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	reply(s, &q->asker, &r, -1);
	connection_set_hello(q->c);
	send_network(s, q->c);
	/* What ended while nobody listened; whoever knows it already ignores it. */
	for (struct map_node *n = map_next(&s->sandboxes, NULL); n != NULL; n = map_next(&s->sandboxes, n)) {
		const struct sandbox *b = container_of(n, struct sandbox, node);

		if (b->state == SANDBOX_OVER)
			send_exited(s, b, q->c);
	}
}

static struct sandbox *find(struct server *s, struct request *q, uint64_t id)
{
	struct sandbox *b = sandbox_find(s, id);
	struct err err;

	if (b == NULL)
		reply_code(s, &q->asker, err_set(&err, -ENOENT, "sandbox %" PRIu64 " is not here", id), &err);
	return b;
}

static void on_start(struct server *s, struct request *q)
{
	sandbox_start(s, &q->p->body.start, q->asker);
}

/* False: refused. */
static bool take_tag(struct server *s, struct request *q, struct str tag, char ret[KEPT_LOGS_TAG + 1])
{
	struct err err;

	if (str_copy(tag, ret, KEPT_LOGS_TAG + 1) == 0 && kept_logs_good_tag(ret))
		return true;
	reply_code(s, &q->asker,
		   err_set(&err, -EINVAL, "tag: %d to %d lower-case hex digits, or none", KEPT_LOGS_TAG_MIN,
			   KEPT_LOGS_TAG),
		   &err);
	return false;
}

static void on_stop(struct server *s, struct request *q)
{
	const struct sandboxd_stop *stop = &q->p->body.stop;
	struct sandbox *b = sandbox_find(s, stop->sandbox);
	char text[64], tag[KEPT_LOGS_TAG + 1];

	if (!take_tag(s, q, stop->tag, tag))
		return;
	if (stop->save != 0 && saving_is_later(s, stop->sandbox, stop->save)) {
		reply_code(s, &q->asker, 0, NULL);
		return;
	}
	if (b != NULL) {
		if (tag[0] != '\0')
			memcpy(b->tag, tag, sizeof b->tag);
		sandbox_stop(s, b, stop->grace_ms, q->asker);
		return;
	}
	bool saved = saving_drop(s, stop->sandbox);

	snprintf(text, sizeof text, "sandbox %" PRIu64 " is not here", stop->sandbox);
	reply(s, &q->asker,
	      &(struct sandboxd_reply){.code = saved ? 0 : -ENOENT,
				       .message = str_of(text),
				       .wall_ms = lifecycle_ended_ms(s, stop->sandbox)},
	      -1);
}

/* Those that are nothing but a file. */
static void add_saved(struct server *s, const struct saved_file *files, uint32_t n, struct sandboxd_reply *r)
{
	for (uint32_t i = 0; i < n; i++) {
		if (sandbox_find(s, files[i].sandbox) == NULL)
			r->sandboxes[r->n_sandboxes++] =
				(struct sandboxd_sandbox){.sandbox = files[i].sandbox,
							  .save = files[i].save,
							  .isolation = ISOLATION_VM};
	}
}

static void on_list(struct server *s, struct request *q)
{
	struct saved_file *files = arena_array(q->arena, SANDBOXES_MAX, sizeof *files);
	uint32_t n_files = files == NULL ? 0 : saved_files_list(s->saved_dir, files, SANDBOXES_MAX);
	struct sandboxd_reply r = {0};

	r.sandboxes = arena_array(q->arena, s->sandboxes.n + n_files + 1, sizeof *r.sandboxes);
	if (files == NULL || r.sandboxes == NULL) {
		reply_code(s, &q->asker, -ENOMEM, NULL);
		return;
	}
	for (struct map_node *n = map_next(&s->sandboxes, NULL); n != NULL; n = map_next(&s->sandboxes, n)) {
		const struct sandbox *b = container_of(n, struct sandbox, node);
		struct driver_info info = {.sandbox = b->id,
					   .egress = true}; /* of one being started: it may */

		if (b->instance != NULL)
			b->driver->ops->info(b->driver, b->instance, &info);
		r.sandboxes[r.n_sandboxes++] =
			(struct sandboxd_sandbox){.sandbox = b->id,
						  .pool_uid = info.pool_uid,
						  .revision = info.revision,
						  .started_boot_ms = info.started_boot_ms,
						  .pid = info.pid,
						  .target_port = info.target_port,
						  .running = b->state != SANDBOX_OVER && !b->exit_known,
						  .frozen = b->frozen,
						  .parked = b->parked,
						  .isolation = (uint8_t)b->isolation,
						  .loaded = b->loaded,
						  .egress = info.egress};
	}
	add_saved(s, files, n_files, &r);
	reply(s, &q->asker, &r, -1);
}

static void on_dial(struct server *s, struct request *q)
{
	const struct sandboxd_dial *d = &q->p->body.dial;
	struct sandbox *b = find(s, q, d->sandbox);

	if (b != NULL)
		dial_start(s, b, d->port, d->timeout_ms, q->asker);
}

static void on_image(struct server *s, struct request *q)
{
	image_call(s, q->p, fd_take(&q->fd), q->asker);
}

static void on_kept_log(struct server *s, struct request *q)
{
	const struct sandboxd_log *log = &q->p->body.log;
	char tag[KEPT_LOGS_TAG + 1];
	struct kept_logs_query query = {
		.sandbox = log->sandbox, .pool = log->pool_uid, .tag = tag, .older = log->older};
	struct sandboxd_reply r = {0};
	CLEANUP_FD int fd = -1;
	struct err err;

	if (!take_tag(s, q, log->tag, tag))
		return;
	if (kept_logs_find(s->logs, &query, &r.sandbox, &r.wall_ms, &fd) < 0)
		reply_code(
			s, &q->asker,
			err_set(&err, -ENOENT, "no such log is here: it was empty, or is over its retention"),
			&err);
	else
		reply(s, &q->asker, &r, fd);
}

static int open_log(const struct sandbox *b, uint64_t pool_uid, int *ret_fd, struct err *err)
{
	struct driver_info info;

	b->driver->ops->info(b->driver, b->instance, &info);
	if (pool_uid != 0 && pool_uid != info.pool_uid)
		return err_set(err, -ENOENT, "sandbox %" PRIu64 " is of another pool", b->id);
	return b->driver->ops->log(b->driver, b->instance, ret_fd, err);
}

static void on_log(struct server *s, struct request *q)
{
	struct sandbox *b = sandbox_find(s, q->p->body.log.sandbox);
	CLEANUP_FD int fd = -1;
	struct sandboxd_reply r = {0};
	struct err err = {0};
	int code = -EAGAIN;

	if (b == NULL || q->p->body.log.older) {
		on_kept_log(s, q);
		return;
	}
	if (b->instance != NULL)
		code = open_log(b, q->p->body.log.pool_uid, &fd, &err);
	else
		err_set(&err, code, "sandbox %" PRIu64 " is being started", b->id);
	if (code < 0) {
		reply_code(s, &q->asker, code, &err);
		return;
	}
	r.sandbox = b->id;
	reply(s, &q->asker, &r, fd);
}

static void on_fence(struct server *s, struct request *q)
{
	fence_set(s, q->p->body.fence.boot_ms);
	reply_code(s, &q->asker, 0, NULL);
}

static void on_egress(struct server *s, struct request *q)
{
	struct sandbox *b = find(s, q, q->p->body.egress.sandbox);

	if (b != NULL)
		sandbox_egress(s, b, q->p->body.egress.on, q->asker);
}

static void on_holdings(struct server *s, struct request *q)
{
	holdings_call(s, q->asker);
}

static void on_park(struct server *s, struct request *q)
{
	struct sandbox *b = find(s, q, q->p->body.park.sandbox);
	struct err err = {0};

	if (b != NULL)
		reply_code(s, &q->asker, sandbox_park(b, q->p->body.park.on, &err), &err);
}

static void on_saving(struct server *s, struct request *q)
{
	saving_call(s, q->p->type, &q->p->body.save, q->asker);
}

static handler *const handlers[SANDBOXD_TYPES] = {
	[SANDBOXD_HELLO] = on_hello,    [SANDBOXD_START] = on_start,       [SANDBOXD_STOP] = on_stop,
	[SANDBOXD_LIST] = on_list,      [SANDBOXD_DIAL] = on_dial,         [SANDBOXD_RESOLVE] = on_image,
	[SANDBOXD_PULL] = on_image,     [SANDBOXD_IMPORT] = on_image,      [SANDBOXD_IMAGES] = on_image,
	[SANDBOXD_FORGET] = on_image,   [SANDBOXD_LOG] = on_log,           [SANDBOXD_FENCE] = on_fence,
	[SANDBOXD_EGRESS] = on_egress,  [SANDBOXD_HOLDINGS] = on_holdings, [SANDBOXD_PARK] = on_park,
	[SANDBOXD_SAVE] = on_saving,    [SANDBOXD_GO_ON] = on_saving,      [SANDBOXD_SAVED] = on_saving,
	[SANDBOXD_RECEIVE] = on_saving, [SANDBOXD_RECEIVED] = on_saving,
};

void request_handle(struct server *s, struct connection *c, uint64_t connection, const struct packet *p,
		    struct arena *arena, int fd)
{
	struct request q = {.c = c,
			    .p = p,
			    .arena = arena,
			    .asker = {.connection = connection, .correlation = p->correlation},
			    .fd = fd};
	struct err err;

	if (p->type != SANDBOXD_HELLO && !connection_said_hello(c))
		reply_code(s, &q.asker,
			   err_set(&err, -EPROTO, "%s: hello comes first", sandboxd_type_name[p->type]),
			   &err);
	else
		handlers[p->type](s, &q);
	fd_close(&q.fd);
}
