/* Happy path of a start: configuration, keys, tables, log (which restores and applies what is on disk), peers, sandboxd,
 * gateway, and then turns. The node joins by a command once a leader is known; from then on actors renew its lease.
 * Failure modes: whatever cannot be opened ends the program with a sentence; a log that failed ends it with status 1, and
 * its supervisor starts it again. */
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "cast/cast.h"
#include "control/api/api.h"
#include "control/control.h"
#include "control/keys/certificates.h"
#include "control/moving/copies.h"
#include "control/links/able.h"
#include "control/links/border.h"
#include "control/links/dialer.h"
#include "control/links/inlet.h"
#include "control/links/roster.h"
#include "control/replica.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/must.h"
#include "crypto/pin.h"
#include "mesh/mesh.h"

#define FILES_OF_OURS 512 /* Raft, nodes, sandboxd, databases, logs */

/* -- sandboxd ------------------------------------------------------------------------------------------------ */

static void on_listed(void *context, const struct sandboxd_sandbox *list, uint32_t n)
{
	struct control *c = context;

	log_info("sandboxd is connected, %" PRIu32 " sandboxes run", n);
	runtime_adopted(c->runtime, list, n, clock_boot_ms());
	control_kick(c);
}

static void on_lost(void *context)
{
	(void)context;
}

static void on_exited(void *context, const struct sandboxd_exited *event)
{
	struct control *c = context;
	CLEANUP_BUF struct buf body = {0};
	struct address to = {ADDRESS_SANDBOX, c->config.node_id, event->sandbox};
	struct envelope e = control_message(c, &body, to, MSG_EXITED, event);

	control_deliver(c, &e);
}

static void on_network(void *context, const struct sandboxd_network *event)
{
	struct control *c = context;

	c->network = (struct arm_network){.repairs = event->repairs, .repaired_ms = event->wall_ms};
	snprintf(c->network.problem, sizeof c->network.problem, "%.*s", STR_ARGS(event->problem));
}

/* -- Start and end --------------------------------------------------------------------------------------------- */

static int on_propose(void *context, const void *entry, size_t n)
{
	struct control *c = context;

	return consensus_propose(c->consensus, entry, n, inlet_proposed, c);
}

static const char *on_full(void *context)
{
	struct control *c = context;

	return c->consensus != NULL && consensus_disk_low(c->consensus) ? control_log_full(c) : NULL;
}

static void on_refuse(void *context, uint64_t node, const void *p, size_t n)
{
	struct control *c = context;

	(void)peers_send(c->peers, node, PEER_REFUSED, p, n); /* lost: it asks again */
}

static int on_forward(void *context, uint64_t leader, const void *p, size_t n)
{
	struct control *c = context;

	return peers_send(c->peers, leader, PEER_COMMANDS, p, n);
}

static int open_peers(struct control *c, struct err *err)
{
	const struct config *f = &c->config;
	struct peers_options options = {.loop = &c->loop,
					.node = f->node_id,
					.cluster = f->cluster_id,
					.incarnation = &c->incarnation,
					.foreign = roster_foreign,
					.listen = config_self(f)->control,
					.admits = roster_admits,
					.server = c->peer_server,
					.client = c->peer_client,
					.received = control_frame,
					.changed = control_peer,
					.context = c};
	int r;

	r = peers_new(&options, &c->peers, err);
	return r == 0 ? roster_open(c, err) : r;
}

static const char *on_refuses(void *context, uint64_t from, const struct command *command)
{
	struct control *c = context;
	bool voter = from == c->config.node_id ? c->config.role == CONFIG_VOTER : c->voter_speaks;

	return border_refuses_command(voter, from, command);
}

static void make_actors(struct control *c)
{
	struct runtime_options runtime = {.node = c->config.node_id,
					  .incarnation = control_incarnation(c),
					  .n_gateway_loops = (uint32_t)c->config.gateway_loops,
					  .state = c->state,
					  .classes = cast_classes,
					  .n_classes = CAST_CLASSES,
					  .effect = effects_carry_out,
					  .context = c};
	struct proposer_options proposer = {.node = c->config.node_id,
					    .state = c->state,
					    .done = effects_proposed,
					    .propose = on_propose,
					    .full = on_full,
					    .refuse = on_refuse,
					    .forward = on_forward,
					    .refuses = on_refuses,
					    .context = c};

	c->runtime = runtime_new(&runtime);
	c->proposer = proposer_new(&proposer);
	c->leaderbox = leaderbox_new();
	must(c->runtime != NULL);
}

/* Most clients of a crowd are idle, but requests need descriptors to their sandboxes, and everything else needs some. */
static uint32_t connections_max(const struct config *f)
{
	struct rlimit files;
	uint64_t most;

	must(getrlimit(RLIMIT_NOFILE, &files) == 0);
	most = files.rlim_cur > 2 * FILES_OF_OURS ? (files.rlim_cur - FILES_OF_OURS) / 4 * 3
						  : FILES_OF_OURS / 2;
	if (most >= f->connections_max)
		return (uint32_t)f->connections_max;
	log_warn("%" PRIu64 " open files are allowed: connections_max is %" PRIu64 ", not %" PRIu64,
		 (uint64_t)files.rlim_cur, most, f->connections_max);
	return (uint32_t)most;
}

static int open_gateway(struct control *c, struct err *err)
{
	const struct config *f = &c->config;
	struct sockaddr_storage plain, tls, peer, metrics;
	char admin[PATH_MAX], group[64];
	struct gateway_config g = {.n_loops = (unsigned)f->gateway_loops,
				   .node = f->node_id,
				   .incarnation = control_incarnation(c),
				   .tls_server = c->tls_server,
				   .peer_server = c->peer_server,
				   .peer_client = c->peer_client,
				   .admin_path = admin,
				   .admin_mode = 0660,
				   .admin_group = (gid_t)-1,
				   .receive_buffer = (uint32_t)f->client_receive_buffer,
				   .tokens = true,
				   .connections_max = connections_max(f),
				   .address_connections_max = (uint32_t)f->address_connections_max,
				   .pool_requests_max = (uint32_t)f->pool_requests_max,
				   .token_requests_max = (uint32_t)f->token_requests_max,
				   .pool_waiting_max = (uint32_t)f->pool_waiting_max,
				   .token_waiting_max = (uint32_t)f->token_waiting_max,
				   .handshake_ms = (uint32_t)f->handshake_ms,
				   .head_timeout_ms = (uint32_t)f->head_ms,
				   .keep_alive_ms = (uint32_t)f->keep_alive_ms,
				   .dial_timeout_ms = (uint32_t)f->dial_ms,
				   .tunnel_idle_ms = (uint32_t)f->tunnel_idle_ms,
				   .stall_ms = (uint32_t)f->stall_ms,
				   .rate_min = (uint32_t)f->rate_min};
	int r = 0;

	must(str_copy(f->admin_socket, admin, sizeof admin) == 0 &&
	     str_copy(f->admin_group, group, sizeof group) == 0);
	if (group[0] != '\0') {
		struct group *entry = getgrnam(group);

		if (entry == NULL)
			return err_set(err, -ENOENT, "admin_group: there is no group \"%s\"", group);
		g.admin_group = entry->gr_gid;
	}
	if (f->listen.n > 0)
		r = mesh_address(f->listen, &plain, err);
	if (r == 0 && f->listen_tls.n > 0)
		r = mesh_address(f->listen_tls, &tls, err);
	if (r == 0 && f->listen_metrics.n > 0)
		r = mesh_address(f->listen_metrics, &metrics, err);
	if (r == 0)
		r = mesh_address(config_self(f)->peer, &peer, err);
	if (r < 0)
		return r;
	g.plain = f->listen.n > 0 ? (struct sockaddr *)&plain : NULL;
	g.tls = f->listen_tls.n > 0 ? (struct sockaddr *)&tls : NULL;
	g.metrics = f->listen_metrics.n > 0 ? (struct sockaddr *)&metrics : NULL;
	g.peer = (struct sockaddr *)&peer;
	inlet_fill(c, &g);
	dialer_fill(&g);
	r = gateway_new(&g, &c->gateway, err);
	if (r < 0)
		return r;
	if (c->tokens != NULL)
		gateway_publish_keys(c->gateway, token_keys_ref(c->tokens));
	gateway_allow(c->gateway, false);
	return 0;
}

static void on_signal(uv_signal_t *signal, int number)
{
	struct control *c = signal->data;

	log_info("signal %d: this node stops; its sandboxes go on", number);
	loop_stop(&c->loop);
}

/* Certificates of clients' TLS are read again; connections live on. */
static void on_hangup(uv_signal_t *signal, int number)
{
	struct control *c = signal->data;

	(void)number;
	certificates_reload(c);
}

static int start(struct control *c, struct err *err)
{
	int r = keyholder_open(c, err);

	if (r == 0)
		r = certificates_open(c, err);
	/* Whoever joins knows the cluster's CA alone, whoever issued the certificate for clients. */
	if (r == 0 && c->tls_server != NULL && c->config.role == CONFIG_VOTER)
		tls_ctx_also(c->tls_server, PIN_VOTER_NAME, c->peer_server);
	if (r == 0)
		r = loop_init(&c->loop, err);
	if (r < 0)
		return r;
	c->started_boot_ms = clock_boot_ms();
	c->incarnation = c->config.incarnation;
	c->state = state_new();
	c->api = api_new(c);
	c->dialer = dialer_new(c->config.sandboxd_socket, c->config.cluster_id, c->config.node_id);
	r = c->config.role == CONFIG_VOTER ? control_open_log(c, err) : 0;
	if (r == 0)
		r = bookkeeping_open(c, err);
	if (r < 0)
		return r;
	make_actors(c);
	r = inlet_open(c, err);
	if (r == 0)
		r = exports_open(c, err);
	if (r == 0)
		r = replica_open(c, err);
	if (r == 0)
		r = open_peers(c, err);
	if (r == 0)
		r = open_gateway(c, err);
	if (r < 0)
		return r;
	c->started = true;
	runtime_rescan(c->runtime, clock_boot_ms());
	struct sandboxd_client_options sandboxd = {.loop = &c->loop,
						   .socket = c->config.sandboxd_socket,
						   .cluster = c->config.cluster_id,
						   .node = c->config.node_id,
						   .listed = on_listed,
						   .lost = on_lost,
						   .exited = on_exited,
						   .network = on_network,
						   .able = able_told,
						   .context = c};

	c->sandboxd = sandboxd_client_new(&sandboxd);
	loop_timer_set(&c->loop, &c->tick, 1);
	return gateway_start(c->gateway, err);
}

int control_run(const char *config_path)
{
	static struct control c;
	struct err err = {0};

	c = (struct control){.inbox_last = &c.inbox,
			     .turn = {.run = control_turn},
			     .timer = {.fire = control_timer},
			     .tick = {.fire = control_tick}};
	if (config_load(config_path, &c.config, &err) < 0) {
		fprintf(stderr, "berthd: %s\n", err.message);
		return 2;
	}
	log_init("berthd", (enum log_level)c.config.log_level);
	if (roster_was_removed(&c, &err)) {
		log_error("%s", err.message);
		return EXIT_REMOVED;
	}
	if (start(&c, &err) < 0) {
		log_error("%s", err.message);
		return 1;
	}
	uv_signal_init(&c.loop.uv, &c.terminate);
	uv_signal_init(&c.loop.uv, &c.hangup);
	c.terminate.data = c.hangup.data = &c;
	uv_signal_start(&c.terminate, on_signal, SIGTERM);
	uv_signal_start(&c.hangup, on_hangup, SIGHUP);
	log_info("node %.*s started, version " BERTH_VERSION, STR_ARGS(c.config.node_name));
	loop_run(&c.loop);
	gateway_free(c.gateway);
	copies_close(&c);
	bookkeeping_close(&c);
	certificates_close(&c);
	keyholder_close(&c);
	return c.exit_status;
}
