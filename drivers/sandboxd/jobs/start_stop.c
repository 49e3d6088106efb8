/* start_stop.c -- starting and stopping on threads; see the states in server_state.h. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "image/image.h"
#include "sandboxd/server_state.h"

#define PAGE_BYTES    4096u
#define MEMORY_MIN    (16ull * 1024 * 1024)
#define CPU_MILLI_MIN 10u
#define GRACE_MS_MAX  3600000u /* of a probe's terminationGracePeriodSeconds */

/* -- Start ----------------------------------------------------------------------------------------------------- */

struct start_job {
	struct job job;
	struct server *s;
	struct arena arena; /* a copy of the request, and argv and env from it */
	struct sandboxd_start *request;
	uint64_t sandbox;
	struct driver *driver;
	const struct image *image;
	struct driver_start how;
	struct driver_instance *instance;
	int code;
	struct err err;
};

static uint64_t clamp(uint64_t x, uint64_t low, uint64_t high)
{
	return x < low ? low : x > high ? high : x;
}

static void set_limits(struct start_job *j)
{
	const struct settings *s = j->s->o.settings;
	uint64_t memory = clamp(j->request->memory_bytes, MEMORY_MIN, s->memory_max);

	/* The writable layer is memory of the sandbox: half of it at most, so that a full disk says ENOSPC. */
	j->how.limits = (struct driver_limits){
		.cpu_milli = (uint32_t)clamp(j->request->cpu_milli, CPU_MILLI_MIN, s->cpu_milli_max),
		.pids_max = s->pids_max,
		.memory_bytes = memory - memory % PAGE_BYTES,
		.disk_bytes = clamp(memory / 2, 0, s->disk_bytes_max),
		.log_bytes = s->log_bytes_max,
		.read_bytes = s->read_bytes_max};
}

/* Kubernetes' rule: command replaces Entrypoint, and Cmd with it; args replaces Cmd. */
static int set_argv(struct start_job *j, const struct image_config *image)
{
	const struct sandboxd_start *r = j->request;
	const struct str *first = r->n_command > 0 ? r->command : image->entrypoint;
	uint32_t n_first = r->n_command > 0 ? r->n_command : image->n_entrypoint;
	const struct str *then = r->n_args > 0 || r->n_command > 0 ? r->args : image->cmd;
	uint32_t n_then = r->n_args > 0 || r->n_command > 0 ? r->n_args : image->n_cmd;
	struct str *argv = arena_array(&j->arena, (size_t)n_first + n_then + 1, sizeof *argv);

	if (argv == NULL)
		return err_set(&j->err, -ENOMEM, "start sandbox %" PRIu64 ": no memory", j->sandbox);
	for (uint32_t i = 0; i < n_first + n_then; i++)
		argv[i] = i < n_first ? first[i] : then[i - n_first];
	if (n_first + n_then == 0 || argv[0].n == 0)
		return err_set(&j->err, -EINVAL,
			       "start sandbox %" PRIu64
			       ": neither the image nor the template names a command",
			       j->sandbox);
	j->how.argv = argv;
	j->how.n_argv = n_first + n_then;
	return 0;
}

static bool overridden(const struct sandboxd_start *r, struct str entry)
{
	struct str name, value;

	str_cut(entry, '=', &name, &value);
	for (uint32_t i = 0; i < r->n_env; i++) {
		if (str_eq(r->env[i].name, name))
			return true;
	}
	return false;
}

static int set_env(struct start_job *j, const struct image_config *image)
{
	const struct sandboxd_start *r = j->request;
	struct str *env = arena_array(&j->arena, (size_t)image->n_env + r->n_env + 1, sizeof *env);
	uint32_t n = 0;

	if (env == NULL)
		return err_set(&j->err, -ENOMEM, "start sandbox %" PRIu64 ": no memory", j->sandbox);
	for (uint32_t i = 0; i < image->n_env; i++) {
		if (str_find(image->env[i], '=') < image->env[i].n && !overridden(r, image->env[i]))
			env[n++] = image->env[i];
	}
	for (uint32_t i = 0; i < r->n_env; i++) {
		const struct env_var *v = &r->env[i];

		env[n] = arena_printf(&j->arena, "%.*s=%.*s", STR_ARGS(v->name), STR_ARGS(v->value));
		if (env[n++].p == NULL)
			return err_set(&j->err, -ENOMEM, "start sandbox %" PRIu64 ": no memory", j->sandbox);
	}
	j->how.env = env;
	j->how.n_env = n;
	return 0;
}

static int prepare(struct start_job *j)
{
	static const struct image_config none;
	const struct image_config *image = &none;
	uint64_t bytes;
	int r = 0;

	if (j->s->o.store != NULL) {
		r = image_acquire(j->s->o.store, j->request->digest, &j->image, &j->err);
		if (r < 0)
			return err_wrap(&j->err, "start sandbox %" PRIu64, j->sandbox);
		if (j->driver->ops->wants_disk) {
			r = image_disk(j->s->o.store, j->image, &j->how.disk, &j->err);
			if (r < 0)
				return err_wrap(&j->err, "start sandbox %" PRIu64, j->sandbox);
		}
		image = j->image->config;
		j->how.root = j->image->root;
		j->how.digest = str_of(j->image->digest);
	}
	j->how.user = image->user;
	j->how.working_dir = image->working_dir;
	j->how.stop_signal =
		image->stop_signal > 0 && image->stop_signal < NSIG ? (int)image->stop_signal : SIGTERM;
	set_limits(j);
	if (j->request->save != 0)
		return saved_files_read(j->s->saved_dir, j->sandbox, j->request->save, &j->how.saved, &bytes,
					&j->err);
	r = set_argv(j, image);
	return r == 0 ? set_env(j, image) : r;
}

static void run_start(struct job *job)
{
	struct start_job *j = container_of(job, struct start_job, job);
	struct driver *d = j->driver;

	j->code = prepare(j);
	if (j->code == 0 && j->how.saved > 0 && d->ops->save == NULL)
		j->code = err_set(&j->err, -ENOTSUP, "start sandbox %" PRIu64 ": driver %s cannot load it",
				  j->sandbox, d->ops->name);
	if (j->code == 0)
		j->code = d->ops->start(d, &j->how, &j->instance, &j->err);
	if (j->how.saved > 0)
		close(j->how.saved);
}

static void free_start(struct start_job *j)
{
	arena_done(&j->arena);
	free(j);
}

/* The first that the image exposes; 0: none, or there is no image. */
static uint16_t exposed_port(const struct image *image)
{
	return image != NULL && image->config->n_exposed_ports > 0 ? (uint16_t)image->config->exposed_ports[0]
								   : 0;
}

static void started(struct server *s, struct start_job *j, struct sandbox *b)
{
	struct driver_info info;

	b->instance = j->instance;
	b->image = j->image;
	b->driver->ops->info(b->driver, b->instance, &info);
	struct sandboxd_reply r = {.sandbox = b->id,
				   .pid = info.pid,
				   .wall_ms = info.started_wall_ms,
				   .exposed_port = exposed_port(j->image)};

	b->loaded = j->request->save != 0;
	lifecycle_started(s, b, &j->how.limits, info.started_wall_ms);
	askers_answer(s, &b->starts, &r);
	b->state = SANDBOX_RUNNING;
	if (s->fenced && sandbox_still(b, true, false, NULL) == 0)
		lifecycle_frozen(s, b);
	sandbox_watch_exit(s, b);
	sandbox_stop_if_asked(s, b);
}

/* Something of it is on the host still: its ids are nobody else's until a stop has removed that. */
static void keep_rest(struct server *s, struct start_job *j, struct sandbox *b)
{
	log_warn("sandbox %" PRIu64 ": what it left could not be removed yet; its uid range stays taken",
		 b->id);
	b->instance = j->instance;
	b->exit = (struct driver_exit){.how = SANDBOX_EXIT_UNKNOWN, .wall_ms = clock_wall_ms()};
	b->exit_known = true;
	b->state = SANDBOX_OVER;
	sandbox_stop_if_asked(s, b);
}

static void done_start(struct job *job)
{
	struct start_job *j = container_of(job, struct start_job, job);
	struct server *s = j->s;
	struct sandbox *b = sandbox_find(s, j->sandbox);

	if (j->code == 0) {
		started(s, j, b);
		free_start(j);
		return;
	}
	log_warn("%s", j->err.message);
	if (j->image != NULL)
		image_release(s->o.store, j->image);
	askers_answer(s, &b->starts,
		      &(struct sandboxd_reply){
			      .sandbox = b->id, .code = j->code, .message = str_of(j->err.message)});
	if (j->instance != NULL) {
		keep_rest(s, j, b);
		free_start(j);
		return;
	}
	if (b->stops != NULL)
		(void)saving_drop(s, b->id);
	sandbox_answer_stops(s, b);
	sandbox_forget(s, b);
	free_start(j);
}

static struct start_job *new_start_job(struct server *s, const struct sandboxd_start *how)
{
	struct start_job *j = calloc(1, sizeof *j);

	if (j == NULL)
		return NULL;
	*j = (struct start_job){
		.job = {.run = run_start, .done = done_start}, .s = s, .sandbox = how->sandbox};
	j->request = codec_clone(&j->arena, sandboxd_body_codec[SANDBOXD_START], how);
	if (j->request == NULL) {
		free_start(j);
		return NULL;
	}
	j->how = (struct driver_start){.sandbox = how->sandbox,
				       .pool_uid = how->pool_uid,
				       .revision = how->revision,
				       .root = "",
				       .target_port = how->target_port,
				       .egress = how->egress};
	return j;
}

/* It is here already. Who asks again while it starts, because an answer was lost or its node lists anew, hears what comes of it. */
static int start_again(struct sandbox *b, const struct asker *asker, struct err *err)
{
	switch (b->state) {
	case SANDBOX_STARTING:
		return askers_add(&b->starts, asker)
			       ? 0
			       : err_set(err, -EBUSY, "start sandbox %" PRIu64 ": %d wait for it", b->id,
					 ASKERS_MAX);
	case SANDBOX_RUNNING:
		return err_set(err, -EEXIST, "sandbox %" PRIu64 " is here already", b->id);
	case SANDBOX_OVER:
		return err_set(err, -ECHILD,
			       "sandbox %" PRIu64 " has ended, and what it left waits for a stop", b->id);
	case SANDBOX_STOPPING:
		break;
	}
	return err_set(err, -EAGAIN, "sandbox %" PRIu64 " is being stopped", b->id);
}

void sandbox_start(struct server *s, const struct sandboxd_start *how, struct asker asker)
{
	const struct settings *settings = s->o.settings;
	struct sandbox *b;
	struct start_job *j;
	struct err err = {0};
	int r = packet_check_start(how, &err);

	b = r == 0 ? sandbox_find(s, how->sandbox) : NULL;
	if (b != NULL) {
		r = start_again(b, &asker, &err);
		if (r < 0)
			reply_code(s, &asker, r, &err);
		return;
	}
	if (r == 0 && s->fenced)
		r = err_set(&err, -EAGAIN, "the node's lease has ended: nothing is started");
	if (r == 0 && !s->carriers[how->isolation].proven)
		r = err_set(&err, carriers_finding_out(s, how->isolation) ? -EAGAIN : -ENODEV,
			    "isolation %s: %s", isolation_name[how->isolation],
			    s->carriers[how->isolation].why_not.message);
	if (r < 0) {
		reply_code(s, &asker, r, &err);
		return;
	}
	b = sandbox_new(s, how->sandbox, (enum isolation)how->isolation);
	j = b == NULL || !askers_add(&b->starts, &asker) ? NULL : new_start_job(s, how);
	if (b != NULL)
		b->save = how->save;
	if (j != NULL) {
		j->driver = b->driver;
		j->how.slot = b->slot;
		j->how.uid_base = sandbox_uid_base(s, b->slot);
		j->how.logger_uid = settings->uid_base + b->slot;
		r = jobs_post(s->work, &j->job);
	}
	if (j != NULL && r == 0)
		return;
	if (j != NULL)
		free_start(j);
	r = err_set(&err, -ENOSPC, "start sandbox %" PRIu64 ": %s", how->sandbox,
		    b == NULL ? "no uid range is free" : "too much is under way");
	if (b != NULL)
		sandbox_forget(s, b);
	reply_code(s, &asker, r, &err);
}

/* -- Stop ------------------------------------------------------------------------------------------------------ */

struct stop_job {
	struct job job;
	struct server *s;
	struct sandbox *b; /* stays while it is stopping */
	uint64_t pool_uid;
	char tag[KEPT_LOGS_TAG + 1];
	uint32_t grace_ms;
	int code;
	struct err err;
};

static void run_stop(struct job *job)
{
	struct stop_job *j = container_of(job, struct stop_job, job);
	struct driver *d = j->b->driver;

	j->code = d->ops->stop(d, j->b->instance, j->grace_ms, &j->err);
	if (j->code == 0 && d->ops->keep_log != NULL)
		kept_logs_add(j->s->logs, j->b->id, j->pool_uid, j->tag, clock_wall_ms());
}

static void answer_stops(struct server *s, struct sandbox *b, int code, const struct err *err,
			 uint64_t wall_ms)
{
	struct sandboxd_reply r = {.code = code, .sandbox = b->id, .wall_ms = wall_ms};

	if (code < 0)
		r.message = str_of(err->message);
	askers_answer(s, &b->stops, &r);
}

void sandbox_answer_stops(struct server *s, struct sandbox *b)
{
	answer_stops(s, b, 0, NULL, clock_wall_ms());
}

static void done_stop(struct job *job)
{
	struct stop_job *j = container_of(job, struct stop_job, job);
	struct server *s = j->s;
	struct sandbox *b = j->b;
	uint64_t now = clock_wall_ms();

	if (j->code == 0) {
		(void)saving_drop(s, b->id);
		lifecycle_stopped(s, b, now);
		answer_stops(s, b, 0, NULL, b->exit_known ? b->exit.wall_ms : now);
		sandbox_forget(s, b);
	} else {
		log_error("%s", j->err.message);
		b->state = b->exit_known ? SANDBOX_OVER : SANDBOX_RUNNING;
		answer_stops(s, b, j->code, &j->err, 0);
		if (b->state == SANDBOX_RUNNING)
			sandbox_watch_exit(s, b);
	}
	free(j);
}

/* Where its log goes when it ends. */
static void keep_log(struct server *s, struct sandbox *b, struct stop_job *j)
{
	char path[KEPT_LOGS_PATH_MAX];
	struct driver_info info;

	if (b->driver->ops->keep_log == NULL)
		return;
	b->driver->ops->info(b->driver, b->instance, &info);
	j->pool_uid = info.pool_uid;
	memcpy(j->tag, b->tag, sizeof j->tag);
	kept_logs_path(s->logs, b->id, info.pool_uid, path);
	b->driver->ops->keep_log(b->driver, b->instance, path);
}

static void run_stop_now(struct server *s, struct sandbox *b)
{
	struct stop_job *j = calloc(1, sizeof *j);
	struct err err = {0};
	int r = -ENOMEM;

	watch_remove(s, &b->exit_watch);
	if (b->parked && !b->frozen)
		(void)sandbox_still(b, false, false, NULL); /* it has to run to hear its signal */
	if (j != NULL) {
		/* A frozen sandbox is over its lease: it gets no time to run again. */
		*j = (struct stop_job){.job = {.run = run_stop, .done = done_stop},
				       .s = s,
				       .b = b,
				       .grace_ms = b->frozen ? 0 : b->stop_grace_ms};
		keep_log(s, b, j);
		r = jobs_post(s->stops, &j->job);
	}
	if (r == 0) {
		b->state = SANDBOX_STOPPING;
		return;
	}
	free(j);
	r = err_set(&err, -EAGAIN, "stop sandbox %" PRIu64 ": too much is under way", b->id);
	answer_stops(s, b, r, &err, 0);
	if (b->state == SANDBOX_RUNNING)
		sandbox_watch_exit(s, b);
}

void sandbox_stop(struct server *s, struct sandbox *b, uint32_t grace_ms, struct asker asker)
{
	struct err err = {0};

	if (b->state == SANDBOX_STOPPING && grace_ms == 0)
		b->driver->ops->kill(b->driver, b->instance);
	if (!askers_add(&b->stops, &asker)) {
		reply_code(
			s, &asker,
			err_set(&err, -EBUSY, "stop sandbox %" PRIu64 ": %d wait for it", b->id, ASKERS_MAX),
			&err);
		return;
	}
	b->stop_grace_ms = grace_ms > GRACE_MS_MAX ? GRACE_MS_MAX : grace_ms;
	switch (b->state) {
	case SANDBOX_STARTING: /* stopped when it is started */
	case SANDBOX_STOPPING:
		return;
	case SANDBOX_RUNNING:
	case SANDBOX_OVER:
		sandbox_stop_if_asked(s, b);
		return;
	}
}

void sandbox_stop_if_asked(struct server *s, struct sandbox *b)
{
	if (b->stops != NULL && !b->switching)
		run_stop_now(s, b);
}
