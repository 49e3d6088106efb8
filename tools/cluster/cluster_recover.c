/* `cluster recover`: one voter of a lost majority goes on alone.
 *
 * Happy path: everything that its log holds counts as committed, for a majority may have committed it; these tables begin a new
 * incarnation in which this node is the only one. Its own sandboxes stay and are taken up again when it starts.
 * Failure modes: the survivor may lack what the lost nodes had acknowledged after they last reached it: nobody can tell, which
 * is why the choice of the node, and the word, are the operator's. The old log is kept beside the new one. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cluster/founding.h"
#include "cluster/recovery.h"
#include "config/config.h"
#include "consensus/disk/founding.h"
#include "core/clock.h"
#include "state/state.h"
#include "state/untyped.h"

static int on_apply(void *arg, uint64_t index, const void *entry, size_t n, struct err *err)
{
	struct applied applied;

	return state_apply(arg, index, entry, n, &applied, err);
}

static void *on_restore(void *arg, void *fresh)
{
	state_swap(arg, fresh);
	return fresh;
}

static int look(const struct config *config, struct state *state, struct consensus_survey *ret,
		struct err *err)
{
	struct consensus_machine machine = {.arg = state,
					    .apply = on_apply,
					    .restore_read = untyped_read,
					    .restore = on_restore,
					    .restore_free = untyped_free};
	char dir[PATH_MAX], address[128] = "";

	for (uint32_t i = 0; i < config->n_members; i++) {
		if (config->members[i].id == config->node_id)
			snprintf(address, sizeof address, "%.*s", STR_ARGS(config->members[i].raft));
	}
	if (address[0] == '\0')
		return err_set(err, -EINVAL, "this node is a worker: it has no log to go on with");
	snprintf(dir, sizeof dir, "%.*s/berthd/raft", STR_ARGS(config->state_dir));
	int r = consensus_survey(dir, config->node_id, address, &machine, ret, err);

	return r == -EBUSY ? err_set(err, -EBUSY, "this node runs: stop it first") : r;
}

static void tell(const struct config *config, const struct state *state, const struct consensus_survey *s,
		 cluster_progress *say, void *context)
{
	const struct node_row *node = NULL;
	char line[512], written[CLOCK_TEXT_SIZE], time[CLOCK_TEXT_SIZE];
	unsigned kept = 0, lost = 0;

	for (const struct sandbox_row *box = NULL; (box = state_next_sandbox(state, box)) != NULL;) {
		kept += box->state == SANDBOX_BOUND && box->node == config->node_id;
		lost += box->state == SANDBOX_BOUND && box->node != config->node_id;
	}
	snprintf(line, sizeof line,
		 "node %" PRIu64 " \"%.*s\": log up to index %" PRIu64 " of term %" PRIu64
		 ", last written %s; cluster "
		 "time %s, incarnation %" PRIu64,
		 config->node_id, STR_ARGS(config->node_name), s->last_index, s->last_term,
		 clock_text(s->written_ms, written), clock_text(state_cluster(state)->time_ms, time),
		 state_cluster(state)->incarnation);
	say(context, line);
	if (s->promised_index > s->last_index) {
		snprintf(line, sizeof line,
			 "this node once had entries up to %" PRIu64
			 " and lost some: choose another one if there is any",
			 s->promised_index);
		say(context, line);
	}
	snprintf(line, sizeof line, "%u sessions are on this node and stay; %u are on other nodes and end",
		 kept, lost);
	say(context, line);
	while ((node = state_next_node(state, node)) != NULL) {
		if (node->id == config->node_id)
			continue;
		snprintf(line, sizeof line,
			 "node %" PRIu64 " \"%.*s\" will be gone: purge it, then it may join anew", node->id,
			 STR_ARGS(node->name));
		say(context, line);
	}
}

static int recover(const char *dir, const struct config *config, struct state *state, bool yes,
		   cluster_progress *say, void *context, struct err *err)
{
	struct reincarnation next = {.survivor = config->node_id};
	struct consensus_survey s = {0};
	char line[256];
	int r = look(config, state, &s, err);

	if (r < 0)
		return r;
	tell(config, state, &s, say, context);
	if (!yes)
		return err_set(err, -ECANCELED,
			       "nothing was changed. Choose the node with the highest term and, among those, "
			       "the highest "
			       "index; make sure that no other voter runs; then say --yes");
	founding_numbers(state, &next);
	r = state_reincarnate(state, &next, err);
	if (r == 0)
		r = founding_log(dir, state, s.term + 2, s.last_index + 1, err);
	if (r < 0)
		return r;
	snprintf(line, sizeof line,
		 "the cluster's new incarnation is %" PRIu64
		 "; start this node, then purge the others and let them join",
		 next.incarnation);
	say(context, line);
	return 0;
}

int cluster_recover(const char *dir, bool yes, cluster_progress *say, void *context, struct err *err)
{
	char path[PATH_MAX];
	struct config config;
	struct state *state;

	snprintf(path, sizeof path, "%s/berth.conf", dir);
	int r = config_load(path, &config, err);

	if (r < 0)
		return r;
	state = state_new();
	r = recover(dir, &config, state, yes, say, context, err);
	state_free(state);
	config_done(&config);
	return r;
}
