/* saving.c -- machines become files and go on from them: SAVE, GO_ON, and what another node sends or gets.
 *
 * Happy path: SAVE pauses the machine, writes <sandbox>.<save>.part, renames it, and removes the machine; START (start_stop.c) loads such a
 * file; GO_ON removes the file and lets the machine run.
 * Failure modes: a SAVE that fails lets the machine run on; one that ended between the renaming and the machine's end finds the file and
 * does the rest; a machine that is adopted beside a whole file never runs again (sandboxes.c).
 * Invariant: while a file is whole, nothing of its sandbox runs here. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/log.h"
#include "sandboxd/server_state.h"

#define OVERHEAD_MAX \
	(256ull << 20) /* of a file, beyond the memory of the machine: its devices, and their state */

struct saving_job {
	struct job job;
	struct server *s;
	struct asker asker;
	struct sandbox *b; /* stays: it is switching */
	struct sandboxd_save what;
	struct saved_file file;
	uint64_t pool_uid;
	int code;
	struct err err;
};

/* -- SAVE -------------------------------------------------------------------------------------------------------- */

static int write_file(struct saving_job *j)
{
	CLEANUP_FD int fd = -1;
	struct driver *d = j->b->driver;
	int r = saved_files_create(j->s->saved_dir, j->b->id, j->what.save, 0, &fd, &j->err);

	if (r == 0)
		r = d->ops->save(d, j->b->instance, fd, &j->err);
	if (r < 0) {
		(void)saved_files_remove(j->s->saved_dir, j->b->id);
		return r;
	}
	r = saved_files_finish(j->s->saved_dir, j->b->id, j->what.save, 0, &j->file, &j->err);
	if (r < 0) {
		(void)saved_files_remove(j->s->saved_dir, j->b->id);
		(void)d->ops->go_on(d, j->b->instance, NULL);
	}
	return r;
}

static void run_save(struct job *job)
{
	struct saving_job *j = container_of(job, struct saving_job, job);
	struct driver *d = j->b->driver;

	if (j->file.save != j->what.save)
		j->code = write_file(j);
	if (j->code < 0)
		return;
	j->code = d->ops->stop(d, j->b->instance, 0, &j->err);
	if (j->code == 0 && d->ops->keep_log != NULL)
		kept_logs_add(j->s->logs, j->b->id, j->pool_uid, j->b->tag, clock_wall_ms());
}

static void done_save(struct job *job)
{
	struct saving_job *j = container_of(job, struct saving_job, job);
	struct server *s = j->s;
	struct sandbox *b = j->b;
	bool whole = j->file.save == j->what.save;

	b->switching = false;
	if (j->code == 0) {
		struct sandboxd_reply r = {.sandbox = b->id, .bytes = j->file.bytes};

		lifecycle_saved(s, b, j->file.bytes);
		reply(s, &j->asker, &r, -1);
		if (b->stops != NULL)
			(void)saving_drop(s, b->id);
		sandbox_answer_stops(s, b);
		sandbox_forget(s, b);
		free(j);
		return;
	}
	log_warn("%s", j->err.message);
	reply_code(s, &j->asker, j->code, &j->err);
	if (whole) { /* it is paused for good; the next SAVE, or STOP, removes it */
		b->exit = (struct driver_exit){.how = SANDBOX_EXIT_UNKNOWN, .wall_ms = clock_wall_ms()};
		b->exit_known = true;
		b->state = SANDBOX_OVER;
	} else {
		sandbox_watch_exit(s, b);
	}
	sandbox_stop_if_asked(s, b);
	free(j);
}

static void prepare_save(struct server *s, struct sandbox *b, struct saving_job *j)
{
	struct driver_info info;
	char path[KEPT_LOGS_PATH_MAX];

	b->driver->ops->info(b->driver, b->instance, &info);
	j->pool_uid = info.pool_uid;
	if (b->driver->ops->keep_log != NULL) {
		kept_logs_path(s->logs, b->id, info.pool_uid, path);
		b->driver->ops->keep_log(b->driver, b->instance, path);
	}
	watch_remove(s, &b->exit_watch);
	b->loaded = false;
	j->job = (struct job){.run = run_save, .done = done_save};
}

/* -- GO_ON ------------------------------------------------------------------------------------------------------- */

static void run_go_on(struct job *job)
{
	struct saving_job *j = container_of(job, struct saving_job, job);
	struct driver *d = j->b->driver;

	j->code = saved_files_remove(j->s->saved_dir, j->b->id);
	if (j->code < 0)
		err_system(&j->err, j->code, "sandbox %" PRIu64 ": its file cannot be removed", j->b->id);
	else
		j->code = d->ops->go_on(d, j->b->instance, &j->err);
}

static void done_go_on(struct job *job)
{
	struct saving_job *j = container_of(job, struct saving_job, job);

	j->b->switching = false;
	if (j->code == 0)
		j->b->loaded = false;
	reply_code(j->s, &j->asker, j->code, &j->err);
	sandbox_stop_if_asked(j->s, j->b);
	free(j);
}

/* -- Requests ---------------------------------------------------------------------------------------------------- */

/* What is not as it has to be for this; 0: nothing. *ret_over: all of it was done before. */
static int check(struct server *s, enum sandboxd_type type, const struct sandbox *b,
		 const struct saved_file *file, const struct sandboxd_save *what, bool *ret_over,
		 struct err *err)
{
	*ret_over = type == SANDBOXD_SAVE && b == NULL && file->save == what->save;
	if (*ret_over)
		return 0;
	if (b == NULL)
		return err_set(err, -ENOENT, "sandbox %" PRIu64 " is not here", what->sandbox);
	if (b->driver->ops->save == NULL)
		return err_set(err, -ENOTSUP, "sandbox %" PRIu64 ": driver %s cannot save", b->id,
			       b->driver->ops->name);
	if (b->switching || b->state == SANDBOX_STARTING || b->state == SANDBOX_STOPPING)
		return err_set(err, -EBUSY, "sandbox %" PRIu64 ": something else is under way", b->id);
	if (b->state == SANDBOX_OVER && (type == SANDBOXD_GO_ON || file->save != what->save))
		return err_set(err, -ESRCH, "sandbox %" PRIu64 " is not running", b->id);
	if (s->fenced)
		return err_set(err, -EAGAIN, "the node's lease has ended");
	return 0;
}

static void on_machine(struct server *s, enum sandboxd_type type, const struct sandboxd_save *what,
		       struct asker asker)
{
	struct sandbox *b = sandbox_find(s, what->sandbox);
	struct saving_job *j = calloc(1, sizeof *j);
	struct saved_file file = {0};
	struct err err = {0};
	bool over = false;
	int r = j == NULL ? -ENOMEM : 0;

	(void)saved_files_find(s->saved_dir, what->sandbox, &file);
	if (r == 0)
		r = check(s, type, b, &file, what, &over, &err);
	if (r < 0 || over) {
		struct sandboxd_reply done = {.code = r,
					      .message = str_of(err.message),
					      .sandbox = what->sandbox,
					      .bytes = file.bytes};

		free(j);
		reply(s, &asker, &done, -1);
		return;
	}
	*j = (struct saving_job){.s = s, .asker = asker, .b = b, .what = *what, .file = file};
	j->job = (struct job){.run = run_go_on, .done = done_go_on};
	if (b->parked)
		(void)sandbox_still(b, b->frozen, false, NULL);
	if (type == SANDBOXD_SAVE)
		prepare_save(s, b, j);
	b->switching = true;
	if (jobs_post(s->work, &j->job) == 0)
		return;
	b->switching = false;
	if (type == SANDBOXD_SAVE && b->state == SANDBOX_RUNNING)
		sandbox_watch_exit(s, b);
	free(j);
	reply_code(s, &asker, err_set(&err, -EAGAIN, "too much is under way"), &err);
}

static void on_file(struct server *s, enum sandboxd_type type, const struct sandboxd_save *what,
		    struct asker asker)
{
	struct sandboxd_reply r = {.sandbox = what->sandbox, .bytes = what->bytes};
	struct saved_file file;
	CLEANUP_FD int fd = -1;
	struct err err = {0};

	if (what->sandbox == 0 || what->save == 0)
		r.code = err_set(&err, -EINVAL, "%s: 0 is no id", sandboxd_type_name[type]);
	else if (type == SANDBOXD_SAVED)
		r.code = saved_files_read(s->saved_dir, what->sandbox, what->save, &fd, &r.bytes, &err);
	else if (sandbox_find(s, what->sandbox) != NULL)
		r.code = err_set(&err, -EEXIST, "sandbox %" PRIu64 " is here", what->sandbox);
	else if (what->bytes == 0 || what->bytes > s->o.settings->memory_max + OVERHEAD_MAX)
		r.code =
			err_set(&err, -EFBIG, "%s: %" PRIu64 " bytes", sandboxd_type_name[type], what->bytes);
	else if (type == SANDBOXD_RECEIVE)
		r.code = saved_files_create(s->saved_dir, what->sandbox, what->save, what->bytes, &fd, &err);
	else
		r.code =
			saved_files_finish(s->saved_dir, what->sandbox, what->save, what->bytes, &file, &err);
	r.message = str_of(err.message);
	reply(s, &asker, &r, fd);
}

void saving_call(struct server *s, enum sandboxd_type type, const struct sandboxd_save *what,
		 struct asker asker)
{
	if (type == SANDBOXD_SAVE || type == SANDBOXD_GO_ON)
		on_machine(s, type, what, asker);
	else
		on_file(s, type, what, asker);
}

bool saving_is_later(struct server *s, uint64_t sandbox, uint64_t save)
{
	const struct sandbox *b = sandbox_find(s, sandbox);
	struct saved_file file;

	return (b != NULL && b->save > save) ||
	       (saved_files_find(s->saved_dir, sandbox, &file) && file.save > save);
}

bool saving_drop(struct server *s, uint64_t sandbox)
{
	struct saved_file file;
	bool found = saved_files_find(s->saved_dir, sandbox, &file);

	if (saved_files_remove(s->saved_dir, sandbox) < 0)
		log_error("sandbox %" PRIu64 ": what was saved of it cannot be removed", sandbox);
	return found;
}
