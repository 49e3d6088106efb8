/* One sandbox on this node.
 *
 * Happy path: the row appears (booting); START; probes until the port or the startup probe answers; READY is proposed;
 * the row is ready, later bound; at the end HALT (from its session) or the row's `stopping` makes STOP, and the end is committed.
 * Failure modes: a start that fails, a process that exits, a port that never answers, a failing liveness probe: stopped,
 * cleaned up and proposed gone with the cause. Outcomes that are not known (sandboxd or the leader away) are tried again:
 * START of what runs is answered with -EEXIST, STOP of what does not run succeeds, commands are idempotent by their row.
 * Invariants: nothing is started before its row is committed; no row goes before sandboxd said that nothing of it runs;
 * what was running before this program started is adopted, never started again. */
#include "sandbox.h"

#include <errno.h>
#include <string.h>

#include "limits.h"
#include "private.h"

#define PROBE_FIRST_MS 2 /* most servers listen within milliseconds; the gap doubles */
#define PROBE_LAST_MS  1000
#define PROBE_WAIT_MS  1000
#define LIVENESS_MS    10000

static uint8_t start(struct sandbox *self, struct context *c)
{
	const struct sandbox_row *row = sandbox_row_of(&self->actor, c);
	const struct pool_row *pool = row == NULL ? NULL : state_pool(c->state, row->pool);
	const struct template *t = limits_template(&self->actor, c);

	if (pool == NULL || t == NULL) {
		ending_set(&self->ending, true, "its pool or revision is gone");
		return sandbox_stop(self, c, 0);
	}
	if (self->begun_ms == 0)
		self->begun_ms = c->now_ms;
	self->outbound.open = row->egress;

	struct sandboxd_start how = sandbox_start_of(row, pool, t);

	how.command = t->command;
	how.n_command = t->n_command;
	how.args = t->args;
	how.n_args = t->n_args;
	how.env = t->env;
	how.n_env = t->n_env;
	self->request = context_drive(c, SANDBOXD_START, &how, row->pool, row->revision, SANDBOX_START_MS);
	return SANDBOX_ACTOR_STARTING;
}

static uint8_t probe(struct sandbox *self, struct context *c)
{
	const struct template *t = limits_template(&self->actor, c);
	const struct probe *p = limits_probe(t, PROBE_STARTUP);

	self->request = context_probe(c, self->actor.key, p, t == NULL ? 0 : t->target_port,
				      p == NULL ? PROBE_WAIT_MS : limits_or(p->timeout_s, 1) * 1000ull);
	return SANDBOX_ACTOR_PROBING;
}

static uint8_t runs(struct sandbox *self, struct context *c)
{
	if (self->begun_ms == 0)
		self->begun_ms = c->now_ms;
	self->probe_gap_ms = PROBE_FIRST_MS;
	context_timer(c, 0);
	outbound_check(&self->outbound, c, sandbox_row_of(&self->actor, c));
	return probe(self, c);
}

uint8_t sandbox_serve(struct sandbox *self, struct context *c)
{
	const struct probe *p = limits_probe(limits_template(&self->actor, c), PROBE_LIVENESS);

	self->request = 0;
	self->failures = 0;
	context_timer(c, p == NULL ? 0 : c->now_ms + limits_or(p->initial_delay_s, 1) * 1000ull);
	outbound_check(&self->outbound, c, sandbox_row_of(&self->actor, c));
	parking_check(&self->parking, c, sandbox_row_of(&self->actor, c));
	return SANDBOX_ACTOR_SERVING;
}

static uint8_t propose_ready(struct sandbox *self, struct context *c)
{
	context_timer(c, 0);
	self->request = context_propose(c, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){self->actor.key},
					SANDBOX_PROPOSE_MS);
	return SANDBOX_ACTOR_ANNOUNCING;
}

/* What the row asks for while nothing is known of the process. */
static uint8_t begin(struct sandbox *self, struct context *c, bool running, uint64_t save)
{
	const struct sandbox_row *row = sandbox_row_of(&self->actor, c);

	if (row == NULL)
		return running ? sandbox_stop(self, c, 0) : SANDBOX_ACTOR_GONE;
	if (row->rest != REST_AWAKE)
		return sandbox_rest_begin(self, c, running, save);
	switch ((enum sandbox_state)row->state) {
	case SANDBOX_BOOTING:
		if (running && self->parking.on) /* it was ready: these tables are older */
			return SANDBOX_ACTOR_NEW;
		if (running)
			return runs(self, c);
		/* Before this process has joined, the tables may be older than what the one before it did: this sandbox may
		 * have run, served and ended since. What runs is listed once more then. */
		return context_epoch(c) == 0 ? SANDBOX_ACTOR_NEW : start(self, c);
	case SANDBOX_READY:
	case SANDBOX_BOUND:
		if (running)
			return sandbox_serve(self, c);
		ending_set(&self->ending, false, "it did not run any more when its node came back");
		return sandbox_stop(self, c, 0);
	case SANDBOX_STOPPING:
	case SANDBOX_STATES:
		break;
	}
	return sandbox_stop(self, c, SANDBOX_GRACE_MS);
}

/* Before sandboxd has listed what runs, only the list tells; afterwards what has no process yet is to be started. */
static uint8_t new_changed(struct actor *a, struct context *c, const struct message *m)
{
	const struct sandbox_row *row = sandbox_row_of(a, c);

	(void)m;
	if (row == NULL)
		return SANDBOX_ACTOR_GONE;
	if (!c->listed)
		return SANDBOX_ACTOR_NEW;
	return begin((struct sandbox *)a, c, row->state != SANDBOX_BOOTING, 0);
}

static uint8_t adopt(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_adopted *adopted = m->body;

	((struct sandbox *)a)->outbound.open = adopted->egress;
	((struct sandbox *)a)->parking.on = adopted->parked;
	return begin((struct sandbox *)a, c, adopted->running, adopted->save);
}

static uint8_t started(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;
	const struct sandboxd_reply *reply = m->body;

	if (!sandbox_awaited(self, m))
		return SANDBOX_ACTOR_STARTING;
	self->exposed_port = reply->exposed_port;
	if (reply->code == 0 || reply->code == -EEXIST)
		return runs(self, c);
	if (ending_unknown(reply->code) && c->now_ms < self->begun_ms + SANDBOX_START_MS) {
		context_timer(c, c->now_ms + SANDBOX_RETRY_MS);
		return SANDBOX_ACTOR_STARTING;
	}
	if (reply->code == -ECHILD)
		ending_set(&self->ending, true, "its process ended before it was ready");
	ending_set(&self->ending, true, "it did not start: %.*s", STR_ARGS(reply->message));
	return sandbox_stop(self, c, 0);
}

static uint8_t start_lost(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;

	if (!sandbox_awaited(self, m))
		return SANDBOX_ACTOR_STARTING;
	ending_set(&self->ending, true, "it did not start within %d s", SANDBOX_START_MS / 1000);
	return sandbox_stop(self, c, 0);
}

static uint8_t start_again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return start((struct sandbox *)a, c);
}

/* While it is on its way up: the row may have been told to stop, or is gone with its node's epoch. */
static uint8_t rising_changed(struct actor *a, struct context *c, const struct message *m)
{
	const struct sandbox_row *row = sandbox_row_of(a, c);

	(void)m;
	if (row == NULL || row->state == SANDBOX_STOPPING)
		return sandbox_stop((struct sandbox *)a, c,
				    0); /* it has served nobody, and may not listen to signals yet */
	if (row->state != SANDBOX_BOOTING)
		return sandbox_serve((struct sandbox *)a, c);
	if (a->state != SANDBOX_ACTOR_STARTING) /* else when it runs */
		outbound_check(&((struct sandbox *)a)->outbound, c, row);
	return a->state;
}

static uint8_t exited(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;
	const struct sandbox_row *row = sandbox_row_of(a, c);
	bool booting = row != NULL && row->state == SANDBOX_BOOTING;

	ending_exit(&self->ending, m->body, row, booting ? " before it was ready" : "");
	return sandbox_stop(self, c, 0);
}

static uint8_t halt(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;
	const struct msg_halt *body = m->body;

	self->halter = context_asker(m);
	self->ending.unserved = body->unserved;
	ending_set(&self->ending, false, "%.*s", STR_ARGS(body->reason));
	return sandbox_stop(self, c, body->grace_ms);
}

static uint8_t start_probe_failed(struct sandbox *self, struct context *c, struct str why)
{
	const struct template *t = limits_template(&self->actor, c);
	uint64_t limit_ms =
		limits_start_ms(&state_cluster(c->state)->settings, limits_probe(t, PROBE_STARTUP));

	if (c->now_ms >= self->begun_ms + limit_ms) {
		ending_silent(&self->ending, t == NULL ? 0 : t->target_port, self->exposed_port, limit_ms,
			      why);
		return sandbox_stop(self, c, 0);
	}
	context_timer(c, c->now_ms + self->probe_gap_ms);
	self->probe_gap_ms = self->probe_gap_ms * 2 < PROBE_LAST_MS ? self->probe_gap_ms * 2 : PROBE_LAST_MS;
	return SANDBOX_ACTOR_PROBING;
}

static uint8_t start_probed(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;
	const struct msg_probed *probed = m->body;

	if (!sandbox_awaited(self, m))
		return SANDBOX_ACTOR_PROBING;
	return probed->ok ? propose_ready(self, c) : start_probe_failed(self, c, probed->message);
}

static uint8_t start_probe_lost(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_refused *refused = m->body;

	if (outbound_lost(&((struct sandbox *)a)->outbound, c, m) || !sandbox_awaited((struct sandbox *)a, m))
		return SANDBOX_ACTOR_PROBING;
	return start_probe_failed((struct sandbox *)a, c, refused->message);
}

static uint8_t probe_again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	outbound_check(&((struct sandbox *)a)->outbound, c, sandbox_row_of(a, c));
	return probe((struct sandbox *)a, c);
}

static uint8_t readopted(struct sandbox *self, struct context *c, const struct message *m, bool failed,
			 const char *why)
{
	const struct msg_adopted *adopted = m->body;

	if (!adopted->running) {
		ending_set(&self->ending, failed, "%s", why);
		return sandbox_stop(self, c, 0);
	}
	self->outbound = (struct outbound){.open = adopted->egress};
	self->parking.on = adopted->parked;
	outbound_check(&self->outbound, c, sandbox_row_of(&self->actor, c));
	if (self->actor.state == SANDBOX_ACTOR_SERVING)
		parking_check(&self->parking, c, sandbox_row_of(&self->actor, c));
	return self->actor.state;
}

static uint8_t readopt_rising(struct actor *a, struct context *c, const struct message *m)
{
	return readopted((struct sandbox *)a, c, m, true, "its process ended before it was ready");
}

static uint8_t announced(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_proposed *proposed = m->body;
	uint8_t next = SANDBOX_ACTOR_ANNOUNCING;

	if (!sandbox_awaited((struct sandbox *)a, m))
		return SANDBOX_ACTOR_ANNOUNCING;
	if (proposed->code == 0)
		next = rising_changed(a, c, m);
	if (next != SANDBOX_ACTOR_ANNOUNCING)
		return next;
	context_timer(c, c->now_ms + SANDBOX_RETRY_MS / 4);
	return SANDBOX_ACTOR_ANNOUNCING;
}

static uint8_t announce_lost(struct actor *a, struct context *c, const struct message *m)
{
	if (!outbound_lost(&((struct sandbox *)a)->outbound, c, m))
		context_timer(c, c->now_ms + SANDBOX_RETRY_MS / 4);
	return a->state;
}

static uint8_t announce_again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	outbound_check(&((struct sandbox *)a)->outbound, c, sandbox_row_of(a, c));
	return propose_ready((struct sandbox *)a, c);
}

static uint8_t serving_changed(struct actor *a, struct context *c, const struct message *m)
{
	const struct sandbox_row *row = sandbox_row_of(a, c);

	if (row == NULL || row->state == SANDBOX_STOPPING)
		return sandbox_stop((struct sandbox *)a, c, SANDBOX_GRACE_MS);
	if (row->rest == REST_SAVED || row->rest == REST_WAKING)
		return sandbox_rest_changed(a, c, m);
	outbound_check(&((struct sandbox *)a)->outbound, c, row);
	parking_check(&((struct sandbox *)a)->parking, c, row);
	return SANDBOX_ACTOR_SERVING;
}

static uint8_t switched(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;
	const struct sandboxd_reply *reply = m->body;

	if (outbound_driven(&self->outbound, c, m))
		return a->state;
	ending_set(&self->ending, false, "its egress could not be turned off: %.*s",
		   STR_ARGS(reply->message));
	return sandbox_stop(self, c, 0);
}

static uint64_t live_gap_ms(const struct probe *p)
{
	return p->period_s != 0 ? p->period_s * 1000ull : LIVENESS_MS;
}

static uint8_t live_probe(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;
	const struct template *t = limits_template(a, c);
	const struct probe *p = limits_probe(t, PROBE_LIVENESS);

	(void)m;
	outbound_check(&self->outbound, c, sandbox_row_of(a, c));
	if (p == NULL)
		return SANDBOX_ACTOR_SERVING;
	if (self->parking.on) { /* a probe would wake it */
		context_timer(c, c->now_ms + live_gap_ms(p));
		return SANDBOX_ACTOR_SERVING;
	}
	self->request = context_probe(c, a->key, p, t->target_port, limits_or(p->timeout_s, 1) * 1000ull);
	return SANDBOX_ACTOR_SERVING;
}

static uint8_t live_answer(struct sandbox *self, struct context *c, bool ok, struct str why)
{
	const struct sandbox_row *row = sandbox_row_of(&self->actor, c);
	const struct probe *p = limits_probe(limits_template(&self->actor, c), PROBE_LIVENESS);

	if (p == NULL)
		return SANDBOX_ACTOR_SERVING;
	self->failures = ok ? 0 : self->failures + 1;
	if (self->failures >= limits_or(p->failure_threshold, 3)) {
		ending_set(&self->ending, row != NULL && row->state == SANDBOX_READY,
			   "its liveness probe failed %u times: %.*s", self->failures, STR_ARGS(why));
		return sandbox_stop(self, c, p->grace_s != 0 ? p->grace_s * 1000 : SANDBOX_GRACE_MS);
	}
	context_timer(c, c->now_ms + live_gap_ms(p));
	return SANDBOX_ACTOR_SERVING;
}

static uint8_t live_probed(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_probed *probed = m->body;

	if (!sandbox_awaited((struct sandbox *)a, m))
		return SANDBOX_ACTOR_SERVING;
	return live_answer((struct sandbox *)a, c, probed->ok, probed->message);
}

static uint8_t live_probe_lost(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_refused *refused = m->body;

	if (outbound_lost(&((struct sandbox *)a)->outbound, c, m) || !sandbox_awaited((struct sandbox *)a, m))
		return SANDBOX_ACTOR_SERVING;
	return live_answer((struct sandbox *)a, c, false, refused->message);
}

static uint8_t readopt_serving(struct actor *a, struct context *c, const struct message *m)
{
	return readopted((struct sandbox *)a, c, m, false, "its process ended while sandboxd was away");
}

#define T(s)    SM_TO(SANDBOX_ACTOR_##s)
#define RESTING (T(SAVING) | T(RESTING) | T(WAKING))
static const struct sm_cell cells[SANDBOX_ACTOR_STATES][MSG_TYPES] =
	{
		[SANDBOX_ACTOR_NEW] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_CHANGED] = ON(new_changed, T(NEW) | T(STARTING) | T(SERVING) | RESTING |
									T(STOPPING) | T(GONE)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_DRIVEN] = IGNORE,
				[MSG_EXITED] = IGNORE,
				[MSG_ADOPTED] = ON(adopt, T(NEW) | T(STARTING) | T(PROBING) | T(SERVING) |
								  RESTING | T(STOPPING) | T(GONE)),
				[MSG_PROBED] = IGNORE,
				[MSG_HALT] = DEFER,
				[MSG_SAVE] = IGNORE,
				[MSG_REFUSED] = IGNORE,
			},
		[SANDBOX_ACTOR_STARTING] =
			{
				[MSG_TIMER] = ON(start_again, T(STARTING) | T(STOPPING)),
				[MSG_CHANGED] = ON(rising_changed, T(STARTING) | T(SERVING) | T(STOPPING)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_DRIVEN] = ON(started, T(STARTING) | T(PROBING) | T(STOPPING)),
				[MSG_EXITED] = ON(exited, T(STOPPING)),
				[MSG_ADOPTED] = ON(adopt, T(NEW) | T(STARTING) | T(PROBING) |
								  RESTING | T(SERVING) | T(STOPPING) |
								  T(GONE)),
				[MSG_PROBED] = IGNORE,
				[MSG_HALT] = ON(halt, T(STOPPING)),
				[MSG_SAVE] = IGNORE,
				[MSG_REFUSED] = ON(start_lost, T(STARTING) | T(STOPPING)),
			},
		[SANDBOX_ACTOR_PROBING] =
			{
				[MSG_TIMER] = ON(probe_again, T(PROBING)),
				[MSG_CHANGED] = ON(rising_changed, T(PROBING) | T(SERVING) | T(STOPPING)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_DRIVEN] = ON(switched, T(PROBING) | T(STOPPING)),
				[MSG_EXITED] = ON(exited, T(STOPPING)),
				[MSG_ADOPTED] = ON(readopt_rising, T(PROBING) | T(STOPPING)),
				[MSG_PROBED] = ON(start_probed, T(PROBING) | T(ANNOUNCING) | T(STOPPING)),
				[MSG_HALT] = ON(halt, T(STOPPING)),
				[MSG_SAVE] = IGNORE,
				[MSG_REFUSED] = ON(start_probe_lost, T(PROBING) | T(STOPPING)),
			},
		[SANDBOX_ACTOR_ANNOUNCING] =
			{
				[MSG_TIMER] = ON(announce_again, T(ANNOUNCING)),
				[MSG_CHANGED] = ON(rising_changed, T(ANNOUNCING) | T(SERVING) | T(STOPPING)),
				[MSG_PROPOSED] = ON(announced, T(ANNOUNCING) | T(SERVING) | T(STOPPING)),
				[MSG_DRIVEN] = ON(switched, T(ANNOUNCING) | T(STOPPING)),
				[MSG_EXITED] = ON(exited, T(STOPPING)),
				[MSG_ADOPTED] = ON(readopt_rising, T(ANNOUNCING) | T(STOPPING)),
				[MSG_PROBED] = IGNORE,
				[MSG_HALT] = ON(halt, T(STOPPING)),
				[MSG_SAVE] = IGNORE,
				[MSG_REFUSED] = ON(announce_lost, T(ANNOUNCING)),
			},
		[SANDBOX_ACTOR_SERVING] =
			{
				[MSG_TIMER] = ON(live_probe, T(SERVING)),
				[MSG_CHANGED] = ON(serving_changed, T(SERVING) | RESTING | T(STOPPING)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_DRIVEN] = ON(switched, T(SERVING) | T(STOPPING)),
				[MSG_EXITED] = ON(exited, T(STOPPING)),
				[MSG_ADOPTED] = ON(readopt_serving, T(SERVING) | T(STOPPING)),
				[MSG_PROBED] = ON(live_probed, T(SERVING) | T(STOPPING)),
				[MSG_HALT] = ON(halt, T(STOPPING)),
				[MSG_SAVE] = ON(sandbox_save, T(SERVING) | T(SAVING)),
				[MSG_REFUSED] = ON(live_probe_lost, T(SERVING) | T(STOPPING)),
			},
		[SANDBOX_ACTOR_SAVING] =
			{
				[MSG_TIMER] = ON(sandbox_rest_again, T(SAVING)),
				[MSG_CHANGED] = ON(sandbox_rest_changed, T(SERVING) | RESTING | T(STOPPING)),
				[MSG_PROPOSED] = ON(sandbox_rest_told, T(SAVING)),
				[MSG_DRIVEN] = ON(sandbox_saved, T(SAVING)),
				[MSG_EXITED] = ON(exited, T(STOPPING)),
				[MSG_ADOPTED] = ON(sandbox_rest_adopted, T(NEW) | RESTING | T(STOPPING)),
				[MSG_PROBED] = IGNORE,
				[MSG_HALT] = ON(halt, T(STOPPING)),
				[MSG_SAVE] = IGNORE,
				[MSG_REFUSED] = ON(sandbox_rest_told, T(SAVING)),
			},
		[SANDBOX_ACTOR_RESTING] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_CHANGED] = ON(sandbox_rest_changed, T(SERVING) | RESTING | T(STOPPING)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_DRIVEN] = IGNORE,
				[MSG_EXITED] = IGNORE,
				[MSG_ADOPTED] = ON(sandbox_rest_adopted, T(NEW) | RESTING | T(STOPPING)),
				[MSG_PROBED] = IGNORE,
				[MSG_HALT] = ON(halt, T(STOPPING)),
				[MSG_SAVE] = IGNORE,
				[MSG_REFUSED] = IGNORE,
			},
		[SANDBOX_ACTOR_WAKING] =
			{
				[MSG_TIMER] = ON(sandbox_rest_again, T(WAKING) | T(STOPPING)),
				[MSG_CHANGED] = ON(sandbox_rest_changed, T(SERVING) | RESTING | T(STOPPING)),
				[MSG_PROPOSED] = ON(sandbox_rest_told, T(WAKING)),
				[MSG_DRIVEN] = ON(sandbox_woken, T(WAKING) | T(STOPPING)),
				[MSG_EXITED] = ON(exited, T(STOPPING)),
				[MSG_ADOPTED] = ON(sandbox_rest_adopted, T(NEW) | RESTING | T(STOPPING)),
				[MSG_PROBED] = IGNORE,
				[MSG_HALT] = ON(halt, T(STOPPING)),
				[MSG_SAVE] = IGNORE,
				[MSG_REFUSED] = ON(sandbox_rest_told, T(WAKING)),
			},
		[SANDBOX_ACTOR_STOPPING] =
			{
				[MSG_TIMER] = ON(sandbox_stop_again, T(STOPPING)),
				[MSG_CHANGED] = IGNORE,
				[MSG_PROPOSED] = IGNORE,
				[MSG_DRIVEN] = ON(sandbox_stopped,
						  T(STOPPING) | T(SERVING) | RESTING | T(ENDING) | T(GONE)),
				[MSG_EXITED] = ON(sandbox_stopping_exited, T(STOPPING)),
				[MSG_ADOPTED] = ON(sandbox_stop_again, T(STOPPING)),
				[MSG_PROBED] = IGNORE,
				[MSG_HALT] = ON(sandbox_stopping_halt, T(STOPPING)),
				[MSG_SAVE] = IGNORE,
				[MSG_REFUSED] = ON(sandbox_stop_lost, T(STOPPING)),
			},
		[SANDBOX_ACTOR_ENDING] =
			{
				[MSG_TIMER] = ON(sandbox_end_again, T(ENDING) | T(GONE)),
				[MSG_CHANGED] = ON(sandbox_ended, T(ENDING) | T(GONE)),
				[MSG_PROPOSED] = ON(sandbox_ended, T(ENDING) | T(GONE)),
				[MSG_DRIVEN] = IGNORE,
				[MSG_EXITED] = IGNORE,
				[MSG_ADOPTED] = IGNORE,
				[MSG_PROBED] = IGNORE,
				[MSG_HALT] = ON(sandbox_ending_halt, T(ENDING)),
				[MSG_SAVE] = IGNORE,
				[MSG_REFUSED] = ON(sandbox_ended, T(ENDING) | T(GONE)),
			},
		[SANDBOX_ACTOR_GONE] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_CHANGED] = IGNORE,
				[MSG_PROPOSED] = IGNORE,
				[MSG_DRIVEN] = IGNORE,
				[MSG_EXITED] = IGNORE,
				[MSG_ADOPTED] = IGNORE,
				[MSG_PROBED] = IGNORE,
				[MSG_HALT] = REFUSE,
				[MSG_SAVE] = IGNORE,
				[MSG_REFUSED] = IGNORE,
			},
};
#undef T
#undef RESTING

static const uint8_t messages[] = {MSG_TIMER,   MSG_CHANGED, MSG_PROPOSED, MSG_DRIVEN, MSG_EXITED,
				   MSG_ADOPTED, MSG_PROBED,  MSG_HALT,     MSG_SAVE,   MSG_REFUSED};
static const char *const states[] = {"new",     "starting", "probing",  "announcing", "serving", "saving",
				     "resting", "waking",   "stopping", "ending",     "gone"};

const struct sm_def sandbox_sm = {
	.name = "sandbox",
	.states = states,
	.n_states = SANDBOX_ACTOR_STATES,
	.final = SANDBOX_ACTOR_GONE,
	.messages = messages,
	.n_messages = sizeof messages,
	.cells = cells,
};

static bool wanted(const struct context *c, uint64_t key)
{
	const struct sandbox_row *row = state_sandbox(c->state, key);

	return row != NULL && row->node == c->node;
}

static void done(struct actor *a, struct context *c)
{
	context_refuse(c, &((struct sandbox *)a)->halter, -ENOENT, "the sandbox is gone");
}

const struct actor_class sandbox_class = {
	.sm = &sandbox_sm,
	.kind = ADDRESS_SANDBOX,
	.size = sizeof(struct sandbox),
	.mailbox_max = 64,
	.row = true,
	.table = TABLE_SANDBOXES,
	.wanted = wanted,
	.done = done,
};
