/* The replicated log as a voter sees it: entries go to the tables (replica.c), leadership is told to actors; the first leader
 * of a new cluster writes its settings. Each start of a node, a worker too, joins anew. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "control/control.h"
#include "control/links/able.h"
#include "control/replica.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/must.h"
#include "state/command.h"
#include "state/untyped.h"

#define JOIN_MS 10000

static int on_apply(void *arg, uint64_t index, const void *entry, size_t n, struct err *err)
{
	return replica_apply(arg, index, entry, n, err);
}

static void *on_snapshot_take(void *arg)
{
	struct control *c = arg;

	return state_snapshot_new(c->state);
}

static void *on_restore(void *arg, void *fresh)
{
	replica_restored(arg, fresh);
	return fresh;
}

/* A new cluster has empty tables: its first leader writes what `berth cluster init` fixed. */
static void init_cluster(struct control *c)
{
	const struct config *f = &c->config;
	CLEANUP_ARENA struct arena arena = {0};
	struct keys_first first;
	struct err err = {0};
	char path[PATH_MAX];

	must(str_copy(f->first_keys, path, sizeof path) == 0);
	if (keys_load_first(path, f->cluster_id, &arena, &first, &err) < 0) {
		log_error("this cluster is new, and its keys cannot be read: %s", err.message);
		c->exit_status = 1;
		loop_stop(&c->loop);
		return;
	}
	struct cmd_cluster_init init = {.id = f->cluster_id,
					.keys = first.keys,
					.n_keys = first.n_keys,
					.settings = {.cooldown_ms_min = f->cooldown_s_min * 1000,
						     .queue_ms = f->queue_ms,
						     .lease_ms = f->lease_ms,
						     .lost_ms = f->lost_ms,
						     .operation_kept_ms = 86400000,
						     .pull_retry_ms = f->pull_retry_ms,
						     .start_ms = f->start_ms,
						     .isolation = (uint8_t)f->isolation,
						     .overcommit_cpu = (uint32_t)f->overcommit_cpu,
						     .overcommit_memory = (uint32_t)f->overcommit_memory,
						     .domain = f->domain,
						     .environment = f->environment,
						     .region = f->region,
						     .tenant = f->tenant}};
	struct address to = {ADDRESS_CONTROL, f->node_id, 0};

	log_info("this cluster is new: writing its settings");
	proposer_submit(c->proposer, COMMAND_CLUSTER_INIT, &init, &to, 0, clock_boot_ms() + JOIN_MS);
}

void control_join(struct control *c)
{
	const struct config *f = &c->config;
	const struct config_member *self = config_self(f);

	if (c->joining || c->leader == 0 || state_cluster(c->state)->id.n == 0)
		return;
	char boot[CLOCK_BOOT_ID_SIZE];

	clock_boot_id(boot);
	struct cmd_node_join join = {.id = f->node_id,
				     .name = f->node_name,
				     .raft_address = self->raft, /* empty: a worker */
				     .control_address = self->control,
				     .peer_address = self->peer,
				     .api_address = f->api_url,
				     .labels = f->labels,
				     .feature_level = FEATURE_LEVEL,
				     .version = STR(BERTH_VERSION),
				     .boot = str_of(boot),
				     .voter = self->voter,
				     .cpu_milli = f->cpu_milli,
				     .memory_bytes = f->memory_bytes,
				     .isolations = able_known(c) ? c->able.isolations : 0,
				     .no_vm = str_of(c->able.no_vm)};
	struct address to = {ADDRESS_CONTROL, f->node_id, 0};

	c->joining = true;
	c->join_correlation = clock_boot_ms();
	proposer_submit(c->proposer, COMMAND_NODE_JOIN, &join, &to, c->join_correlation,
			clock_boot_ms() + JOIN_MS);
	control_kick(c);
}

static void on_leadership(void *arg, bool leads, uint64_t term)
{
	struct control *c = arg;

	c->leads = leads;
	log_info(leads ? "this node leads, term %" PRIu64 : "this node follows, term %" PRIu64, term);
	runtime_leading(c->runtime, leads, term, clock_boot_ms());
	proposer_leader(c->proposer, leads ? c->config.node_id : 0, leads);
	if (leads && state_cluster(c->state)->id.n == 0)
		init_cluster(c);
	control_kick(c);
}

void control_failed(struct control *c, const char *why)
{
	log_error("the log cannot go on: %s", why);
	c->exit_status = 1;
	loop_stop(&c->loop);
}

/* Whoever waits for a leader has waited enough. */
static void on_leader(void *arg, uint64_t id)
{
	(void)id;
	control_kick(arg);
}

static void on_failed(void *arg, const char *why)
{
	control_failed(arg, why);
}

static void on_refused(void *arg, const char *why)
{
	(void)arg;
	log_warn("%s", why);
}

const char *control_log_full(struct control *c)
{
	static char text[400];

	snprintf(text, sizeof text,
		 "the disk of node %.*s that holds the log (%.*s) is nearly full: %" PRIu64
		 " MiB are free, and the last %" PRIu64 " MiB are kept for what ends sessions",
		 STR_ARGS(c->config.node_name), STR_ARGS(c->config.state_dir),
		 consensus_disk_free(c->consensus) >> 20, c->config.disk_reserve >> 20);
	return text;
}

int control_open_log(struct control *c, struct err *err)
{
	const struct config *f = &c->config;
	struct consensus_member members[CONFIG_VOTERS_MAX];
	char addresses[CONFIG_VOTERS_MAX][CONSENSUS_ADDRESS_SIZE], dir[PATH_MAX], own[CONSENSUS_ADDRESS_SIZE];
	uint32_t n = 0;

	if (str_copy(config_self(f)->raft, own, sizeof own) < 0)
		return err_set(err, -EINVAL, "member: %.*s is too long", STR_ARGS(config_self(f)->raft));
	/* The log of one that joined begins with what the leader sends it. */
	for (uint32_t i = 0; i < f->n_members && f->joined == 0; i++) {
		if (!f->members[i].voter)
			continue;
		must(n < CONFIG_VOTERS_MAX);
		if (str_copy(f->members[i].raft, addresses[n], sizeof addresses[n]) < 0)
			return err_set(err, -EINVAL, "member: %.*s is too long",
				       STR_ARGS(f->members[i].raft));
		members[n] = (struct consensus_member){.id = f->members[i].id, .address = addresses[n]};
		n++;
	}
	snprintf(dir, sizeof dir, "%.*s/berthd/raft", STR_ARGS(f->state_dir));
	const struct consensus_network network = {.loop = &c->loop,
						  .server = c->peer_server,
						  .client = c->peer_client,
						  .cluster = f->cluster_id,
						  .incarnation = &c->incarnation,
						  .refused = on_refused,
						  .admits = roster_knows,
						  .arg = c};
	struct consensus_options options = {.loop = &c->loop.uv,
					    .network = &network,
					    .dir = dir,
					    .id = f->node_id,
					    .members = members,
					    .n_members = n,
					    .disk_reserve = c->config.disk_reserve,
					    .disk_floor = c->config.disk_floor,
					    .address = own,
					    .machine = {.arg = c,
							.apply = on_apply,
							.snapshot_take = on_snapshot_take,
							.snapshot_write = untyped_snapshot_write,
							.snapshot_free = untyped_snapshot_free,
							.restore_read = untyped_read,
							.restore = on_restore,
							.restore_free = untyped_free},
					    .leadership = on_leadership,
					    .leader = on_leader,
					    .failed = on_failed,
					    .arg = c};
	int r = consensus_new(&options, &c->consensus, err);

	return r == 0 ? consensus_start(c->consensus, err) : r;
}
