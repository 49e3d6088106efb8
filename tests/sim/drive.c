/* A faked sandboxd: sandboxes are rows of an array; calls end after a while, fail or hang by chance. */
#include <errno.h>
#include <string.h>

#include "core/must.h"
#include "judge/judge.h"
#include "sim.h"

struct sim_run *sim_run_of(struct sim_node *n, uint64_t sandbox)
{
	for (uint32_t i = 0; i < n->n_runs; i++) {
		if (n->runs[i].sandbox == sandbox)
			return &n->runs[i];
	}
	return NULL;
}

bool sim_frozen(const struct sim_node *n)
{
	return n->fence_ms != 0 && sim_boot_ms(n) >= n->fence_ms;
}

bool sim_acts(const struct sim_node *n, const struct sim_run *r)
{
	return r != NULL && !r->still && !r->loaded && !sim_frozen(n);
}

static void fence(struct sim_node *n, uint64_t boot_ms)
{
	for (uint32_t i = 0; i < n->n_runs; i++)
		n->runs[i].still |= n->runs[i].stopping && sim_frozen(n);
	n->fence_ms = boot_ms;
	judge_thawed(n);
}

/* sandboxd writes it down, and reads it after a reboot too. */
static void note_over(struct sim_node *n, uint64_t sandbox)
{
	n->over[n->n_over % SIM_OVER_MAX].sandbox = sandbox;
	n->over[n->n_over % SIM_OVER_MAX].left = false;
	n->over[n->n_over++ % SIM_OVER_MAX].wall_ms = sim_wall_ms(n);
	judge_over(n, sandbox, true);
}

static void remove_run(struct sim_node *n, uint64_t sandbox, bool known)
{
	struct sim_run *r = sim_run_of(n, sandbox);

	if (r == NULL)
		return;
	/* Of a sandbox of another node: what moved away, or did not come. */
	if (judge_sandbox(n->sim, sandbox)->node != n->id) {
		*r = n->runs[--n->n_runs];
		return;
	}
	if (known)
		note_over(n, sandbox);
	else
		judge_over(n, sandbox, false);
	*r = n->runs[--n->n_runs];
}

void host_reboot(struct sim_node *n)
{
	while (n->n_runs > 0)
		remove_run(n, n->runs[0].sandbox, false);
	n->fence_ms = 0;
}

/* When the last of it was gone; 0: nobody knows. One that was booted twice ended twice. */
static uint64_t over_ms(const struct sim_node *n, uint64_t sandbox)
{
	for (uint32_t i = 1; i <= SIM_OVER_MAX && i <= n->n_over; i++) {
		uint32_t at = (n->n_over - i) % SIM_OVER_MAX;

		if (n->over[at].sandbox == sandbox)
			return n->over[at].wall_ms;
	}
	return 0;
}

static bool is_left(const struct sim_node *n, uint64_t sandbox)
{
	for (uint32_t i = 0; i < SIM_OVER_MAX; i++) {
		if (n->over[i].sandbox == sandbox && n->over[i].left)
			return true;
	}
	return false;
}

static void set_left(struct sim_node *n, uint64_t sandbox, bool left)
{
	for (uint32_t i = 0; i < SIM_OVER_MAX; i++) {
		if (n->over[i].sandbox == sandbox)
			n->over[i].left = left;
	}
}

static void reply(struct sim_node *n, const struct effect *e, uint64_t delay_ms,
		  const struct sandboxd_reply *body)
{
	if (e->correlation != 0)
		node_outcome(n, delay_ms, &e->from, e->correlation, MSG_DRIVEN, body);
}

void sim_crash(struct sim *s, struct sim_node *n, uint64_t sandbox, int32_t code)
{
	struct address to = {ADDRESS_SANDBOX, n->id, sandbox};

	(void)s;
	if (sim_run_of(n, sandbox) == NULL || sim_run_of(n, sandbox)->loaded)
		return;
	remove_run(n, sandbox, true);
	set_left(n, sandbox, true);
	node_outcome(n, 1, &to, 0, MSG_EXITED,
		     &(struct sandboxd_exited){sandbox, SANDBOX_EXIT_CODE, code, sim_wall_ms(n)});
}

static void crash_later(struct sim *s, struct sim_event *e)
{
	if (sim_run_of(sim_node(s, e->node), e->number) != NULL)
		s->counts[FAULT_SANDBOX_CRASH]++;
	sim_crash(s, sim_node(s, e->node), e->number, 3);
}

static bool holds(const struct sim_node *n, struct str digest)
{
	for (uint32_t i = 0; i < n->n_images; i++) {
		if (str_eq(n->images[i], digest))
			return true;
	}
	return false;
}

static void start(struct sim *s, struct sim_node *n, const struct effect *e)
{
	const struct sandboxd_start *body = e->body;
	const struct sandbox_row *row = state_sandbox(n->tables, body->sandbox);
	uint64_t delay_ms = 20 + sim_draw(s, 100);

	s->n_starts++;
	if (row == NULL || (row->node != n->id && (body->save == 0 || row->target != n->id)))
		sim_fail(s, "sandbox %llu is started without a row", (unsigned long long)body->sandbox);
	if (is_left(n, body->sandbox)) {
		reply(n, e, 1, &(struct sandboxd_reply){.code = -ECHILD, .message = STR("it has ended")});
		return;
	}
	if (body->save == 0)
		judge_start(n, body->sandbox);
	/* The tables forget a lost node's list; a boot that was on its way then may come before the next list. */
	if (!holds(n, body->digest))
		sim_fail(s, "sandbox %llu is started without its image", (unsigned long long)body->sandbox);
	judge_isolation(n, row->pool, body->isolation);
	if (sim_run_of(n, body->sandbox) != NULL) {
		reply(n, e, 1, &(struct sandboxd_reply){.code = -EEXIST, .message = STR("it runs already")});
		return;
	}
	if ((n->able & 1u << body->isolation) == 0) {
		reply(n, e, 1, &(struct sandboxd_reply){.code = -ENODEV, .message = STR("not on this node")});
		return;
	}
	if (body->save != 0) {
		reply(n, e, delay_ms, &(struct sandboxd_reply){.code = sim_load(s, n, body)});
		return;
	}
	if (sim_meets(s, s->faults.start_hangs, FAULT_START_HANGS))
		return;
	if (sim_meets(s, s->faults.start_fails, FAULT_START_FAILS)) {
		reply(n, e, delay_ms,
		      &(struct sandboxd_reply){.code = -EIO, .message = STR("exec: no such file")});
		return;
	}
	must(n->n_runs < SIM_RUNS_MAX);
	n->runs[n->n_runs++] = (struct sim_run){.sandbox = body->sandbox,
						.listens_ms = s->now_ms + delay_ms + sim_draw(s, 100),
						.port = body->target_port,
						.egress = body->egress,
						.isolation = body->isolation};
	if (sim_meets(s, s->faults.deaf, FAULT_SANDBOX_DEAF))
		n->runs[n->n_runs - 1].listens_ms = UINT64_MAX;
	reply(n, e, delay_ms,
	      &(struct sandboxd_reply){.sandbox = body->sandbox, .pid = 1, .wall_ms = sim_wall_ms(n)});
	if (sim_chance(s, s->faults.crashes)) {
		struct sim_event *later = sim_after(s, delay_ms + sim_draw(s, 20000), crash_later);

		later->node = n->id;
		later->number = body->sandbox;
	}
}

/* What is here comes from a later save than the stop is about. */
static bool is_later(struct sim_node *n, uint64_t sandbox, uint64_t save)
{
	const struct sim_run *r = sim_run_of(n, sandbox);
	const struct sim_file *f = sim_file_of(n, sandbox);

	return save != 0 && ((r != NULL && r->save > save) || (f != NULL && f->save > save));
}

/* What a stop leaves behind its grace. */
static void stopped(struct sim *s, struct sim_event *e)
{
	struct sim_node *n = sim_node(s, e->node);
	bool here = sim_run_of(n, e->number) != NULL, file;

	if (!is_later(n, e->number, (uint64_t)(uintptr_t)e->arg)) {
		remove_run(n, e->number, true);
		set_left(n, e->number, false);
		file = sim_file_remove(n, e->number);
		if (file && !here && judge_sandbox(s, e->number)->node == n->id)
			note_over(n, e->number);
		here = here || file;
	}
	if (e->correlation != 0 && e->type == (uint16_t)n->life)
		node_outcome(n, 0, &e->to, e->correlation, MSG_DRIVEN,
			     &(struct sandboxd_reply){.code = here ? 0 : -ENOENT,
						      .wall_ms = over_ms(n, e->number)});
}

static void stop(struct sim *s, struct sim_node *n, const struct effect *effect)
{
	const struct sandboxd_stop *body = effect->body;
	struct sim_event *e = sim_after(s, 5 + sim_draw(s, body->grace_ms / 4 + 50), stopped);

	struct sim_run *r = sim_run_of(n, body->sandbox);

	e->arg = (void *)(uintptr_t)body->save;
	if (!is_later(n, body->sandbox, body->save))
		judge_stop(n, body->sandbox);
	s->n_stops++;
	if (r != NULL && !is_later(n, body->sandbox, body->save)) {
		r->stopping = true;
		r->still |= sim_frozen(n);
	}
	e->node = n->id;
	e->number = body->sandbox;
	e->to = effect->from;
	e->correlation = effect->correlation;
	e->type = (uint16_t)n->life;
}

static void pull(struct sim *s, struct sim_node *n, const struct effect *e)
{
	const struct sandboxd_image *body = e->body;
	static const char *const known[] = {"sha256:1", "sha256:2", "sha256:3"};

	if (sim_meets(s, s->faults.pull_fails, FAULT_PULL_FAILS)) {
		reply(n, e, 50,
		      &(struct sandboxd_reply){.code = -ETIMEDOUT, .message = STR("the registry is silent")});
		return;
	}
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (!str_eq(str_of(known[i]), body->digest))
			continue;
		if (!holds(n, body->digest))
			n->images[n->n_images++] = str_of(known[i]);
		reply(n, e, 50 + sim_draw(s, 300), &(struct sandboxd_reply){.digest = str_of(known[i])});
		return;
	}
	reply(n, e, 50, &(struct sandboxd_reply){.code = -ENOENT, .message = STR("no such manifest")});
}

static void list_images(struct sim_node *n, const struct effect *e)
{
	struct sandboxd_image_state images[8] = {0};

	for (uint32_t i = 0; i < n->n_images; i++)
		images[i] = (struct sandboxd_image_state){.digest = n->images[i], .reference = STR("i")};
	reply(n, e, 1, &(struct sandboxd_reply){.images = images, .n_images = n->n_images});
}

static void park(struct sim_node *n, const struct effect *e)
{
	const struct sandboxd_park *body = e->body;
	struct sim_run *r = sim_run_of(n, body->sandbox);

	if (r != NULL && r->isolation != ISOLATION_VM)
		sim_fail(n->sim, "sandbox %llu is no machine, and is parked",
			 (unsigned long long)body->sandbox);
	if (r != NULL)
		r->parked = body->on;
	reply(n, e, 1, &(struct sandboxd_reply){.code = r == NULL ? -ENOENT : 0});
}

void sim_drive(struct sim *s, struct sim_node *n, const struct effect *e)
{
	const struct sandboxd_image *image = e->body;
	struct str head, tail;

	if (e->type == SANDBOXD_START) {
		start(s, n, e);
	} else if (e->type == SANDBOXD_STOP) {
		stop(s, n, e);
	} else if (e->type == SANDBOXD_RESOLVE) {
		if (s->resolve_code != 0)
			reply(n, e, 20,
			      &(struct sandboxd_reply){.code = s->resolve_code, .message = STR("resolve")});
		else if (str_cut(image->reference, ':', &head, &tail))
			reply(n, e, 20,
			      &(struct sandboxd_reply){.digest = str_eq(tail, STR("2")) ? STR("sha256:2")
											: STR("sha256:1")});
		else
			reply(n, e, 20,
			      &(struct sandboxd_reply){.code = -ENOENT, .message = STR("manifest unknown")});
	} else if (e->type == SANDBOXD_PULL) {
		pull(s, n, e);
	} else if (e->type == SANDBOXD_IMAGES) {
		list_images(n, e);
	} else if (e->type == SANDBOXD_FENCE) {
		s->n_fences++;
		fence(n, ((const struct sandboxd_fence *)e->body)->boot_ms);
		reply(n, e, 1, &(struct sandboxd_reply){0});
	} else if (e->type == SANDBOXD_EGRESS) {
		const struct sandboxd_egress *egress = e->body;
		struct sim_run *run = sim_run_of(n, egress->sandbox);

		if (run != NULL)
			run->egress = egress->on;
		reply(n, e, 1 + sim_draw(s, 20), &(struct sandboxd_reply){.code = run == NULL ? -ENOENT : 0});
	} else if (e->type == SANDBOXD_PARK) {
		park(n, e);
	} else if (e->type == SANDBOXD_SAVE) {
		sim_save(s, n, e);
	} else if (e->type == SANDBOXD_GO_ON) {
		sim_go_on(s, n, e);
	} else {
		sim_fail(s, "no fake for %s", sandboxd_type_name[e->type]);
	}
}

void sim_probe(struct sim *s, struct sim_node *n, const struct effect *e)
{
	struct sim_run *r = sim_run_of(n, e->sandbox);
	bool ok = r != NULL && r->listens_ms <= s->now_ms && !sim_frozen(n);

	if (r != NULL && r->parked)
		sim_fail(s, "sandbox %llu is parked, and a probe wakes it", (unsigned long long)e->sandbox);
	node_outcome(n, 1, &e->from, e->correlation, MSG_PROBED,
		     &(struct msg_probed){ok, ok ? STR_NONE : STR("connection refused")});
}

static void adopt_now(struct sim *s, struct sim_event *e)
{
	struct sim_node *n = sim_node(s, e->node);
	struct sandboxd_sandbox list[2 * SIM_RUNS_MAX];
	uint32_t n_list = n->n_runs;

	for (uint32_t i = 0; i < n->n_runs; i++)
		list[i] = (struct sandboxd_sandbox){.sandbox = n->runs[i].sandbox,
						    .pid = 1,
						    .running = true,
						    .frozen = sim_frozen(n),
						    .egress = n->runs[i].egress,
						    .parked = n->runs[i].parked,
						    .loaded = n->runs[i].loaded,
						    .isolation = n->runs[i].isolation};
	for (uint32_t i = 0; i < n->n_files; i++) {
		if (sim_run_of(n, n->files[i].sandbox) == NULL)
			list[n_list++] = (struct sandboxd_sandbox){.sandbox = n->files[i].sandbox,
								   .save = n->files[i].save,
								   .isolation = ISOLATION_VM};
	}
	runtime_adopted(n->runtime, list, n_list, sim_boot_ms(n));
}

void sim_adopt(struct sim *s, struct sim_node *n)
{
	sim_after_on(n, 20 + sim_draw(s, 100), adopt_now);
}
