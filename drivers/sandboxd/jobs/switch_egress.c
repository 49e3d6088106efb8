/* switch_egress.c -- outbound traffic of a running sandbox, on a thread: one run of nft. A stop waits for it. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "sandboxd/server_state.h"

struct egress_job {
	struct job job;
	struct server *s;
	struct asker asker;
	struct sandbox *b; /* stays while it is switching */
	bool on;
	int code;
	struct err err;
};

static void run_egress(struct job *job)
{
	struct egress_job *j = container_of(job, struct egress_job, job);

	j->code = j->b->driver->ops->egress(j->b->driver, j->b->instance, j->on, &j->err);
}

static void done_egress(struct job *job)
{
	struct egress_job *j = container_of(job, struct egress_job, job);

	reply_code(j->s, &j->asker, j->code, &j->err);
	j->b->switching = false;
	sandbox_stop_if_asked(j->s, j->b);
	free(j);
}

void sandbox_egress(struct server *s, struct sandbox *b, bool on, struct asker asker)
{
	struct egress_job *j = NULL;
	struct err err = {0};
	int r = 0;

	if (b->state != SANDBOX_RUNNING)
		r = err_set(&err, -ESRCH, "sandbox %" PRIu64 " is not running", b->id);
	else if (b->switching)
		r = err_set(&err, -EBUSY, "sandbox %" PRIu64 ": its egress is being switched", b->id);
	else if ((j = calloc(1, sizeof *j)) == NULL)
		r = err_set(&err, -ENOMEM, "egress: no memory");
	if (r == 0) {
		*j = (struct egress_job){.job = {.run = run_egress, .done = done_egress},
					 .s = s,
					 .asker = asker,
					 .b = b,
					 .on = on};
		r = jobs_post(s->work, &j->job);
		if (r < 0)
			err_set(&err, r, "egress: too much is under way");
	}
	if (r == 0) {
		b->switching = true;
		return;
	}
	free(j);
	reply_code(s, &asker, r, &err);
}
