/* Machines that become files and go on from them, as sandboxd keeps them: a file stays whatever ends, machines included, and goes before
 * what was loaded from it goes on. Memory is a count of the requests that were served. */
#include <errno.h>

#include "core/must.h"
#include "judge/judge.h"
#include "sim.h"

struct sim_file *sim_file_of(struct sim_node *n, uint64_t sandbox)
{
	for (uint32_t i = 0; i < n->n_files; i++) {
		if (n->files[i].sandbox == sandbox)
			return &n->files[i];
	}
	return NULL;
}

bool sim_file_remove(struct sim_node *n, uint64_t sandbox)
{
	struct sim_file *f = sim_file_of(n, sandbox);

	if (f == NULL)
		return false;
	*f = n->files[--n->n_files];
	return true;
}

static void put_file(struct sim_node *n, const struct sim_file *f)
{
	(void)sim_file_remove(n, f->sandbox);
	must(n->n_files < SIM_RUNS_MAX);
	n->files[n->n_files++] = *f;
}

static void answer(struct sim_node *n, const struct sim_event *e, int32_t code)
{
	if (e->correlation != 0 && (uint32_t)(e->number >> 48) == (n->life & 0xffff))
		node_outcome(n, 0, &e->to, e->correlation, MSG_DRIVEN,
			     &(struct sandboxd_reply){.code = code});
}

/* Of the host: what it does goes on without its daemon. */
static struct sim_event *later(struct sim_node *n, const struct effect *effect, uint64_t sandbox, uint64_t ms,
			       void (*fire)(struct sim *s, struct sim_event *e))
{
	struct sim_event *e = sim_after(n->sim, ms, fire);

	must(sandbox < UINT64_C(1) << 48);
	e->node = n->id;
	e->number = sandbox | (uint64_t)(n->life & 0xffff) << 48;
	e->to = effect->from;
	e->correlation = effect->correlation;
	return e;
}

static uint64_t sandbox_of(const struct sim_event *e)
{
	return e->number & ((UINT64_C(1) << 48) - 1);
}

/* -- SAVE -------------------------------------------------------------------------------------------------------- */

static void saved(struct sim *s, struct sim_event *e)
{
	struct sim_node *n = sim_node(s, e->node);
	struct sim_run *r = sim_run_of(n, sandbox_of(e));
	uint64_t save = (uint64_t)(uintptr_t)e->arg;

	if (r == NULL || !r->saving || r->stopping) {
		answer(n, e, -ESRCH);
		return;
	}
	r->saving = false;
	if (sim_frozen(n) || sim_meets(s, s->faults.start_fails, FAULT_SAVE_FAILS)) {
		answer(n, e, -EIO);
		return;
	}
	put_file(n, &(struct sim_file){r->sandbox, save, r->count});
	*r = n->runs[--n->n_runs];
	s->counts[FAULT_SAVED]++;
	answer(n, e, 0);
}

void sim_save(struct sim *s, struct sim_node *n, const struct effect *effect)
{
	const struct sandboxd_save *body = effect->body;
	struct sim_run *r = sim_run_of(n, body->sandbox);
	struct sim_file *f = sim_file_of(n, body->sandbox);
	int32_t code = r != NULL && (r->stopping || r->saving)             ? -EBUSY
		       : r == NULL && (f == NULL || f->save != body->save) ? -ENOENT
		       : sim_frozen(n)                                     ? -EAGAIN
									   : 0;

	if (code != 0 || r == NULL) {
		node_outcome(n, 1, &effect->from, effect->correlation, MSG_DRIVEN,
			     &(struct sandboxd_reply){.code = code});
		return;
	}
	r->saving = true;
	r->parked = false;
	later(n, effect, body->sandbox, 10 + sim_draw(s, 200), saved)->arg = (void *)(uintptr_t)body->save;
}

/* -- START and GO_ON ----------------------------------------------------------------------------------------------- */

int32_t sim_load(struct sim *s, struct sim_node *n, const struct sandboxd_start *body)
{
	const struct sim_file *f = sim_file_of(n, body->sandbox);

	if (sim_frozen(n))
		return -EAGAIN;
	if (f == NULL || f->save != body->save)
		return -ENOENT;
	if (sim_meets(s, s->faults.start_fails, FAULT_LOAD_FAILS))
		return -EAGAIN;
	must(n->n_runs < SIM_RUNS_MAX);
	n->runs[n->n_runs++] = (struct sim_run){.sandbox = body->sandbox,
						.listens_ms = s->now_ms,
						.port = body->target_port,
						.egress = body->egress,
						.isolation = body->isolation,
						.save = body->save,
						.count = f->count,
						.loaded = true};
	return 0;
}

void sim_go_on(struct sim *s, struct sim_node *n, const struct effect *effect)
{
	const struct sandboxd_save *body = effect->body;
	struct sim_run *r = sim_run_of(n, body->sandbox);
	int32_t code = r == NULL ? -ENOENT : r->saving || r->stopping ? -EBUSY : sim_frozen(n) ? -EAGAIN : 0;

	if (code == 0) {
		(void)sim_file_remove(n, body->sandbox);
		r->loaded = false;
		judge_went_on(n, body->sandbox);
	}
	(void)s;
	node_outcome(n, 1, &effect->from, effect->correlation, MSG_DRIVEN,
		     &(struct sandboxd_reply){.code = code});
}

/* -- From another node ----------------------------------------------------------------------------------------------- */

struct fetch {
	struct address to;
	uint64_t correlation, sandbox, save, source;
};

/* As nodes/control/moving/copies.c: the source looks whose it is. */
static int32_t fetch(struct sim_node *n, const struct sim_event *e, uint64_t save, uint64_t source)
{
	struct sim_node *from = sim_node(n->sim, source);
	const struct sandbox_row *row =
		from->tables == NULL ? NULL : state_sandbox(from->tables, sandbox_of(e));
	const struct sim_file *f = sim_file_of(from, sandbox_of(e));
	uint64_t ms;

	if (!from->up || !wire_passes(n->sim, n->id, from->id, &ms) ||
	    !wire_passes(n->sim, from->id, n->id, &ms))
		return -EHOSTUNREACH;
	if (row == NULL || row->node != from->id || row->rest != REST_SAVED || row->save != save ||
	    row->target != n->id)
		return -EAGAIN;
	if (f == NULL || f->save != save)
		return -ENOENT;
	if (sim_run_of(n, f->sandbox) != NULL)
		return -EEXIST;
	put_file(n, f);
	return 0;
}

static void fetched(struct sim *s, struct sim_event *e)
{
	const struct fetch *f = (const void *)e->bytes.p;

	answer(sim_node(s, e->node), e, fetch(sim_node(s, e->node), e, f->save, f->source));
	buf_done(&e->bytes);
}

void sim_fetch(struct sim *s, struct sim_node *n, const struct effect *effect)
{
	struct fetch f = {.save = effect->save, .source = effect->node};
	struct sim_event *e = later(n, effect, effect->sandbox, 20 + sim_draw(s, 500), fetched);

	buf_add(&e->bytes, &f, sizeof f);
}
