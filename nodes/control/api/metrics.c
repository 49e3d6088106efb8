/* The node's figures in Prometheus's text format, and what keeps it from being ready. Identifiers never appear. */
#include <inttypes.h>

#include "control/api/api.h"
#include "control/feed/feeder.h"
#include "control/feed/intake.h"
#include "control/replica.h"
#include "core/clock.h"
#include "records/records.h"
#include "state/able.h"

static void figure(struct buf *to, const char *name, const char *type, const char *help, uint64_t value)
{
	buf_printf(to, "# HELP berth_%s %s\n# TYPE berth_%s %s\nberth_%s %" PRIu64 "\n", name, help, name,
		   type, name, value);
}

static void write_pools(struct control *c, struct buf *to)
{
	buf_printf(to, "# HELP berth_pool_sandboxes Sandboxes of a pool by state.\n# TYPE "
		       "berth_pool_sandboxes gauge\n");
	for (const struct pool_row *p = state_next_pool(c->state, NULL); p != NULL;
	     p = state_next_pool(c->state, p)) {
		struct pool_counts n = state_pool_counts(c->state, p->uid);
		const struct {
			const char *state;
			uint32_t n;
		} rows[] = {{"booting", n.booting},
			    {"ready", n.ready},
			    {"bound", n.bound},
			    {"stopping", n.stopping}};

		for (size_t i = 0; i < 4; i++)
			buf_printf(to, "berth_pool_sandboxes{pool=\"%.*s\",state=\"%s\"} %" PRIu32 "\n",
				   STR_ARGS(p->name), rows[i].state, rows[i].n);
	}
	buf_printf(to, "# HELP berth_pool_sessions Sessions of a pool by state.\n# TYPE berth_pool_sessions "
		       "gauge\n");
	for (const struct pool_row *p = state_next_pool(c->state, NULL); p != NULL;
	     p = state_next_pool(c->state, p)) {
		struct pool_counts n = state_pool_counts(c->state, p->uid);

		buf_printf(to,
			   "berth_pool_sessions{pool=\"%.*s\",state=\"waiting\"} %" PRIu32
			   "\nberth_pool_sessions{pool=\"%.*s\",state=\"live\"} %" PRIu32
			   "\nberth_pool_sessions{pool=\"%.*s\",state=\"closing\"} %" PRIu32 "\n",
			   STR_ARGS(p->name), n.waiting, STR_ARGS(p->name), n.live, STR_ARGS(p->name),
			   n.closing);
	}
}

static void write_gateway(struct control *c, struct buf *to)
{
	struct gateway_stats g;

	gateway_stats(c->gateway, &g);
	figure(to, "connections_total", "counter", "Client connections accepted.", g.connections);
	figure(to, "connections_open", "gauge", "Client connections now.", g.connections_open);
	figure(to, "routes", "gauge", "Sessions that the gateway loops know the place of.", g.routes);
	figure(to, "requests_total", "counter", "Requests of clients, the management API's too.", g.requests);
	figure(to, "requests_forwarded_total", "counter", "Of these, forwarded to another node.",
	       g.forwarded);
	figure(to, "tunnels_total", "counter", "Connections upgraded.", g.tunnels);
	figure(to, "opens_total", "counter", "Questions for a session's place.", g.opens);
	figure(to, "refused_429_total", "counter", "Requests answered 429.", g.refused_429);
	figure(to, "refused_503_total", "counter", "Requests answered 503.", g.refused_503);
	figure(to, "bad_requests_total", "counter", "Requests that were malformed.", g.bad_requests);
	figure(to, "refused_connections_total", "counter",
	       "Connections above connections_max or address_connections_max.", g.refused_connections);
	figure(to, "parted_total", "counter",
	       "Requests and tunnels cut because their session was saved or moved", g.parted);
	figure(to, "refused_limits_total", "counter",
	       "Requests above a bound of their pool, their token's subject, or those waiting.",
	       g.refused_limits);
	figure(to, "too_slow_total", "counter", "Requests ended because their client was too slow.",
	       g.too_slow);
	figure(to, "bad_responses_total", "counter", "Answers of sandboxes that were malformed.",
	       g.bad_responses);
}

/* What alarms are about: docs/operations.md. */
static void write_condition(struct control *c, struct buf *to)
{
	const struct node_row *own = state_node(c->state, c->config.node_id);
	uint64_t now = clock_boot_ms(), lease = runtime_lease_ms(c->runtime), up = 0, lost = 0, cordoned = 0;
	struct records_usage records;
	CLEANUP_BUF struct buf causes = {0};

	for (const struct node_row *n = NULL; (n = state_next_node(c->state, n)) != NULL;) {
		up += n->state == NODE_UP;
		lost += n->state == NODE_LOST;
		cordoned += n->cordoned;
	}
	metrics_not_ready(c, &causes);
	records_usage(c->records, &records);
	figure(to, "ready", "gauge", "1 while this node should get requests.", causes.n == 0);
	figure(to, "leader_known", "gauge", "1 while this node knows a leader.", c->leader != 0);
	figure(to, "lease_left_ms", "gauge", "How long this node's lease lasts.",
	       lease > now ? lease - now : 0);
	figure(to, "sandboxd_connected", "gauge", "1 while sandboxd is connected.",
	       sandboxd_client_ready(c->sandboxd));
	figure(to, "runs_vm", "gauge", "1 while this node can run virtual machines.",
	       own != NULL && state_node_runs(own, ISOLATION_VM));
	figure(to, "disk_bytes", "gauge", "Of the disk of state_dir.", own == NULL ? 0 : own->disk.bytes);
	figure(to, "disk_free_bytes", "gauge", "Free on the disk of state_dir.",
	       own == NULL ? 0 : own->disk.free);
	figure(to, "disk_nearly_full", "gauge", "1 while less than disk_free_min is free.",
	       c->disk_nearly_full);
	figure(to, "records_failing", "gauge", "1 while billing records cannot be written.", records.failing);
	figure(to, "nodes_up", "gauge", "Nodes that renew their leases.", up);
	figure(to, "nodes_lost", "gauge", "Nodes that are lost.", lost);
	figure(to, "nodes_cordoned", "gauge", "Nodes that get no new sandbox.", cordoned);
	figure(to, "incarnation", "gauge", "Of the cluster.", state_cluster(c->state)->incarnation);
	figure(to, "feature_level", "gauge", "Of the cluster.", state_cluster(c->state)->feature_level);
}

static void write_failures(struct control *c, struct buf *to)
{
	buf_printf(
		to,
		"# HELP berth_pool_failures Failed starts of a pool, in a row.\n# TYPE berth_pool_failures "
		"gauge\n");
	for (const struct pool_row *p = NULL; (p = state_next_pool(c->state, p)) != NULL;)
		buf_printf(to, "berth_pool_failures{pool=\"%.*s\"} %" PRIu32 "\n", STR_ARGS(p->name),
			   p->failures);
}

/* Their next sandbox would have nowhere to run: by isolation, or by labels. */
static uint64_t count_unable(const struct control *c)
{
	uint64_t n = 0;

	for (const struct pool_row *p = NULL; (p = state_next_pool(c->state, p)) != NULL;) {
		const struct revision_row *revision = state_revision(c->state, p->uid, p->desired_revision);
		char text[ABLE_TEXT_MAX];

		n += revision != NULL && able_nodes(c->state, p, &revision->template, text) != ABLE_SOME;
	}
	return n;
}

/* Of workers that this voter feeds, or of the voter that feeds this worker. */
static void write_feeds(struct control *c, struct buf *to)
{
	struct feeder_counts fed = {0};
	struct intake_counts taken = {0};

	if (c->feeder != NULL)
		feeder_count(c->feeder, &fed);
	if (c->intake != NULL)
		taken = intake_counts(c->intake);
	figure(to, "feeds", "gauge", "Workers that this voter feeds.", fed.workers);
	figure(to, "feed_memory_bytes", "gauge", "Entries kept for workers.", fed.ring_bytes);
	figure(to, "feed_snapshots_total", "counter", "Snapshots begun for workers.", fed.snapshots);
	figure(to, "feeds_behind_total", "counter", "Feeds that fell behind what is kept.", fed.behind);
	figure(to, "feed_voter", "gauge", "The voter that feeds this worker; 0: none.",
	       c->intake != NULL ? intake_voter(c->intake) : 0);
	figure(to, "feed_restores_total", "counter", "Snapshots that this worker took.", taken.restores);
	figure(to, "feed_voters_total", "counter", "How often this worker asked another voter.",
	       taken.voters);
}

void metrics_write(struct control *c, struct buf *to)
{
	struct runtime_counters r = runtime_counters(c->runtime);
	struct consensus_counts log;

	replica_count(c, &log);
	write_condition(c, to);
	write_gateway(c, to);
	write_feeds(c, to);
	figure(to, "actor_messages_total", "counter", "Messages handled by actors.", r.messages);
	figure(to, "actor_refused_total", "counter", "Messages refused.", r.refused);
	figure(to, "actors", "gauge", "Actors now.", r.actors);
	figure(to, "export_records_total", "counter", "Closed records that exports sent.",
	       c->records_exported);
	figure(to, "log_leader", "gauge", "1 on the leader.", c->leads);
	figure(to, "log_term", "gauge", "Term of the log.", replica_term(c));
	figure(to, "log_applied_index", "gauge", "Last applied entry.", replica_applied(c));
	figure(to, "log_committed_index", "gauge", "Last committed entry.", log.committed);
	figure(to, "log_disk_free_bytes", "gauge",
	       "Free bytes on the disk that holds the log; 0 on a worker.", log.disk_free);
	figure(to, "log_disk_nearly_full", "gauge", "1 while nothing new may begin for want of room.",
	       log.disk_low);
	figure(to, "log_snapshots_total", "counter", "Snapshots taken.", log.snapshots);
	figure(to, "tables_hash", "gauge", "Hash of the tables at their index: equal on all voters.",
	       state_hash(c->state) & 0xffffffffffff);
	figure(to, "network_repairs_total", "counter", "Rules for outbound traffic that had to be restored.",
	       c->network.repairs);
	figure(to, "network_failing", "gauge", "1 while rules for outbound traffic cannot be written.",
	       c->network.problem[0] != '\0');
	figure(to, "pools_unable", "gauge", "Pools that no node can run.", count_unable(c));
	write_pools(c, to);
	write_failures(c, to);
}

void metrics_health(struct control *c, struct buf *to)
{
	const struct arm_network *n = &c->network;
	char at[CLOCK_TEXT_SIZE];

	buf_printf(to, "ok\n");
	if (n->repairs > 0)
		buf_printf(to,
			   "network rules: changed by somebody else, repaired %" PRIu32
			   " times, last at %s\n",
			   n->repairs, clock_text(n->repaired_ms, at));
	if (n->problem[0] != '\0')
		buf_printf(to, "network rules: %s\n", n->problem);
}

void metrics_not_ready(struct control *c, struct buf *to)
{
	if (c->leader == 0)
		buf_printf(to, "the cluster has no leader\n");
	if (proposer_epoch(c->proposer) == 0)
		buf_printf(to, "this node has not joined yet\n");
	else if (!c->allowed)
		buf_printf(to, "this node's lease has ended\n");
	if (!sandboxd_client_ready(c->sandboxd))
		buf_printf(to, "sandboxd is not connected\n");
}
