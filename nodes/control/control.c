/* Happy path of a start: configuration, keys, tables, log (which restores and applies what is on disk), peers, sandboxd,
 * gateway, and then turns. The node joins by a command once a leader is known; from then on its lease is renewed by actors.
 * Failure modes: whatever cannot be opened ends the program with a sentence; a log that failed ends it with status 1, and
 * its supervisor starts it again. */
#include "control/control.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cast/cast.h"
#include "control/api.h"
#include "control/dialer.h"
#include "control/inlet.h"
#include "core/clock.h"
#include "core/fd.h"
#include "core/log.h"
#include "core/must.h"
#include "crypto/digest.h"
#include "state/command.h"

#define TICK_MS       250
#define JOIN_MS       10000
#define PEM_MAX       65536

/* -- Envelopes ---------------------------------------------------------------------------------------------- */

void control_kick(struct control *c)
{
	loop_defer(&c->loop, &c->turn);
}

void control_deliver(struct control *c, const struct envelope *e)
{
	struct inbox_item *item = calloc(1, sizeof *item);

	must(item != NULL);
	codec_encode(&item->bytes, &envelope_codec, e);
	*c->inbox_last = item;
	c->inbox_last = &item->next;
	control_kick(c);
}

void control_refuse(struct control *c, const struct envelope *request, int code, const char *why)
{
	CLEANUP_BUF struct buf body = {0};
	struct msg_refused refused = {.code = code, .message = str_of(why)};
	struct envelope e = {.to = request->from, .from = request->to, .type = MSG_REFUSED,
	                     .correlation = request->correlation, .incarnation = request->incarnation};

	if (request->correlation == 0)
		return;
	codec_encode(&body, message_body_codec[MSG_REFUSED], &refused);
	e.body = buf_str(&body);
	if (e.to.node == c->config.node_id && (e.to.kind == ADDRESS_GATEWAY || e.to.kind == ADDRESS_API))
		control_send(c, &e);
	else
		control_deliver(c, &e);
}

static void send_to_node(struct control *c, uint64_t node, const struct envelope *e)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct envelope wire = *e;
	uint64_t now = clock_boot_ms();

	if (e->deadline_ms != 0)
		wire.deadline_ms = e->deadline_ms > now ? e->deadline_ms - now : 1;
	codec_encode(&bytes, &envelope_codec, &wire);
	if (peers_send(c->peers, node, PEER_ENVELOPE, bytes.p, bytes.n) < 0 && !leaderbox_takes(e->type))
		control_refuse(c, e, -EHOSTUNREACH, "that node cannot be reached");
}

static void send_to_leader(void *control, const struct envelope *e)
{
	struct control *c = control;

	if (c->leader == 0) {
		if (!leaderbox_takes(e->type))
			control_refuse(c, e, -EAGAIN, "the cluster has no leader at the moment");
		return;
	}
	if (c->leader != c->config.node_id) {
		send_to_node(c, c->leader, e);
		return;
	}
	struct envelope mine = *e;

	mine.to.node = c->config.node_id;
	control_deliver(c, &mine);
}

void control_send(struct control *c, const struct envelope *e)
{
	CLEANUP_BUF struct buf bytes = {0};

	if (e->to.node == NODE_LEADER) {
		if (leaderbox_takes(e->type) && e->correlation != 0 && leaderbox_keep(c->leaderbox, e) < 0)
			control_refuse(c, e, -ENOBUFS, "too many requests wait for the leader");
		else
			send_to_leader(c, e);
		return;
	}
	if (e->to.node != c->config.node_id) {
		send_to_node(c, e->to.node, e);
		return;
	}
	if (e->correlation != 0)
		leaderbox_answered(c->leaderbox, e);
	if (e->to.kind == ADDRESS_API) {
		api_answered(c->api, e);
	} else if (e->to.kind == ADDRESS_CONTROL) {
		if (e->type == MSG_LOG)
			tasks_log(c, e);
	} else if (e->to.kind == ADDRESS_GATEWAY) {
		codec_encode(&bytes, &envelope_codec, e);
		gateway_post(c->gateway, (unsigned)e->to.key, bytes.p, bytes.n);
	} else {
		control_deliver(c, e);
	}
}

static void on_frame(void *context, uint64_t from, uint8_t type, const void *p, size_t n)
{
	struct control *c = context;
	CLEANUP_ARENA struct arena arena = {0};
	struct envelope e;
	struct err err = {0};

	if (type == PEER_COMMANDS) {
		if (proposer_forwarded(c->proposer, from, p, n, &err) < 0)
			log_warn("commands of node %" PRIu64 ": %s", from, err.message);
		control_kick(c);
		return;
	}
	if (codec_decode(p, n, &envelope_codec, &arena, &e, &err) < 0 || e.from.node != from ||
	    (e.to.node != c->config.node_id && e.to.node != NODE_LEADER)) {
		log_warn("a message of node %" PRIu64 " was dropped: %s", from,
		         err.message[0] != '\0' ? err.message : "its addresses do not fit");
		return;
	}
	if (e.deadline_ms != 0)
		e.deadline_ms += clock_boot_ms();
	e.to.node = c->config.node_id;
	if (e.to.kind == ADDRESS_GATEWAY || e.to.kind == ADDRESS_API || e.to.kind == ADDRESS_CONTROL)
		control_send(c, &e);
	else
		control_deliver(c, &e);
}

static void on_peer(void *context, uint64_t node, bool reachable)
{
	struct control *c = context;

	log_info("node %" PRIu64 " is %s", node, reachable ? "connected" : "out of reach");
	if (reachable && node == c->leader) {
		leaderbox_each(c->leaderbox, send_to_leader, c);
		control_kick(c);
	}
}

/* -- The log ------------------------------------------------------------------------------------------------- */

static int on_apply(void *arg, uint64_t index, const void *entry, size_t n, struct err *err)
{
	struct control *c = arg;
	struct applied applied;
	int r = state_apply(c->state, index, entry, n, &applied, err);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < applied.n_changes; i++) {
		uint8_t table = applied.changes[i].table;

		c->view_dirty |= table == TABLE_POOLS || table == TABLE_REVISIONS || table == TABLE_NODES ||
		                 table == TABLE_CLUSTER;
	}
	if (c->started) {
		runtime_applied(c->runtime, &applied, clock_boot_ms());
		proposer_applied(c->proposer, &applied);
		control_kick(c);
	}
	return 0;
}

static void *on_snapshot_take(void *arg)
{
	struct control *c = arg;

	return state_snapshot_new(c->state);
}

static int on_snapshot_write(const void *snapshot, int (*write)(void *to, const void *p, size_t n), void *to)
{
	return state_snapshot_write(snapshot, write, to);
}

static void on_snapshot_free(void *arg, void *snapshot)
{
	(void)arg;
	state_snapshot_free(snapshot);
}

static int on_restore(void *arg, const void *p, size_t n, struct err *err)
{
	struct control *c = arg;
	int r = state_restore(c->state, p, n, err);

	c->view_dirty = true;
	if (r == 0 && c->started) {
		runtime_rescan(c->runtime, clock_boot_ms());
		control_kick(c);
	}
	return r;
}

/* A new cluster has empty tables: its first leader writes what `berth cluster init` fixed. */
static void init_cluster(struct control *c)
{
	const struct config *f = &c->config;
	struct cmd_cluster_init init = {
		.id = f->cluster_id,
		.settings = {.cooldown_ms_min = f->cooldown_s_min * 1000, .queue_ms = f->queue_ms,
	                     .lease_ms = f->lease_ms, .lost_ms = f->lost_ms, .operation_kept_ms = 86400000,
	                     .overcommit_cpu = (uint32_t)f->overcommit_cpu,
	                     .overcommit_memory = (uint32_t)f->overcommit_memory, .domain = f->domain,
	                     .environment = f->environment, .region = f->region, .tenant = f->tenant}};
	struct address to = {ADDRESS_CONTROL, f->node_id, 0};

	log_info("this cluster is new: writing its settings");
	proposer_submit(c->proposer, COMMAND_CLUSTER_INIT, &init, &to, 0, clock_boot_ms() + JOIN_MS);
}

void control_join(struct control *c)
{
	const struct config *f = &c->config;
	const struct config_member *self = NULL;

	for (uint32_t i = 0; i < f->n_members; i++) {
		if (f->members[i].id == f->node_id)
			self = &f->members[i];
	}
	if (c->joining || c->leader == 0 || state_cluster(c->state)->id.n == 0)
		return;
	struct cmd_node_join join = {.id = f->node_id, .name = f->node_name, .raft_address = self->raft,
	                             .peer_address = self->peer, .api_address = f->api_url,
	                             .version = STR(BERTH_VERSION), .voter = true, .cpu_milli = f->cpu_milli,
	                             .memory_bytes = f->memory_bytes};
	struct address to = {ADDRESS_CONTROL, f->node_id, 0};

	c->joining = true;
	c->join_correlation = clock_boot_ms();
	proposer_submit(c->proposer, COMMAND_NODE_JOIN, &join, &to, c->join_correlation, clock_boot_ms() + JOIN_MS);
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

static void on_failed(void *arg, const char *why)
{
	struct control *c = arg;

	log_error("the log cannot go on: %s", why);
	c->exit_status = 1;
	loop_stop(&c->loop);
}

static void follow_leader(struct control *c)
{
	uint64_t leader = c->leads ? c->config.node_id : consensus_leader(c->consensus, NULL);

	if (!c->leads && leader == c->config.node_id)
		leader = 0; /* elected, but not yet sure of all that was committed */
	proposer_leader(c->proposer, leader, c->leads);
	if (leader == c->leader)
		return;
	c->leader = leader;
	api_leader(c->api, leader, consensus_term(c->consensus));
	if (leader != 0)
		leaderbox_each(c->leaderbox, send_to_leader, c);
}

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
	struct envelope e = {.to = {ADDRESS_SANDBOX, c->config.node_id, event->sandbox},
	                     .from = {ADDRESS_CONTROL, c->config.node_id, 0}, .type = MSG_EXITED,
	                     .incarnation = state_cluster(c->state)->incarnation};

	codec_encode(&body, message_body_codec[MSG_EXITED], event);
	e.body = buf_str(&body);
	control_deliver(c, &e);
}

/* -- Turns ---------------------------------------------------------------------------------------------------- */

static void take_inbox(struct control *c, uint64_t now)
{
	struct inbox_item *item = c->inbox;

	c->inbox = NULL;
	c->inbox_last = &c->inbox;
	while (item != NULL) {
		struct inbox_item *next = item->next;
		CLEANUP_ARENA struct arena arena = {0};
		struct envelope e;

		if (codec_decode(item->bytes.p, item->bytes.n, &envelope_codec, &arena, &e, NULL) == 0)
			runtime_post(c->runtime, &e, now);
		buf_done(&item->bytes);
		free(item);
		item = next;
	}
}

static void run_turn(struct control *c)
{
	uint64_t now = clock_boot_ms();

	follow_leader(c);
	take_inbox(c, now);
	runtime_run(c->runtime, now);
	proposer_turn(c->proposer, now, clock_wall_ms());
	inlet_applied(c);
	api_turn(c->api);
	if (c->view_dirty) {
		c->view_dirty = false;
		views_publish(c);
	}
	uint64_t next = runtime_next_ms(c->runtime), proposer = proposer_next_ms(c->proposer);

	if (proposer < next)
		next = proposer;
	if (next != UINT64_MAX)
		loop_timer_set(&c->loop, &c->timer, next > now ? next - now : 1);
	else
		loop_timer_clear(&c->loop, &c->timer);
}

static void on_turn(struct loop_deferred *deferred)
{
	run_turn(container_of(deferred, struct control, turn));
}

static void on_timer(struct loop_timer *timer)
{
	control_kick(container_of(timer, struct control, timer));
}

static void on_late(void *context, const struct envelope *e)
{
	control_refuse(context, e, -ETIMEDOUT, "the leader did not answer in time");
}

/* Whether this node may serve its sandboxes: its lease lasts. */
static void check_lease(struct control *c, uint64_t now)
{
	bool allowed = runtime_lease_ms(c->runtime) > now;

	if (allowed == c->allowed)
		return;
	c->allowed = allowed;
	gateway_allow(c->gateway, allowed);
	log_line(allowed ? LOG_INFO : LOG_WARN, "%s",
	         allowed ? "the lease lasts: sessions are served" : "the lease ended: sessions of this node are not served");
}

static void on_tick(struct loop_timer *timer)
{
	struct control *c = container_of(timer, struct control, tick);
	const struct node_row *self = state_node(c->state, c->config.node_id);
	uint64_t now = clock_boot_ms();

	loop_timer_set(&c->loop, &c->tick, TICK_MS);
	leaderbox_expire(c->leaderbox, now, on_late, c);
	check_lease(c, now);
	/* Not joined yet, or declared lost meanwhile: join with a new epoch. */
	if (proposer_epoch(c->proposer) == 0 ||
	    (self != NULL && self->epoch == proposer_epoch(c->proposer) && self->state == NODE_LOST))
		control_join(c);
	control_kick(c);
}

/* -- Start and end --------------------------------------------------------------------------------------------- */

static int open_keys(struct control *c, struct err *err)
{
	const struct config *f = &c->config;
	CLEANUP_BUF struct buf key = {0};
	char path[PATH_MAX], url[512];
	int r;

	must(str_copy(f->keyring, path, sizeof path) == 0 && str_copy(f->audience, url, sizeof url) == 0);
	r = keyring_load(path, &c->keyring, err);
	if (r < 0)
		return r;
	keyring_derive(c->keyring, STR("tags of identifiers"), c->tag_key);
	must(str_copy(f->issuer_key, path, sizeof path) == 0);
	r = fd_read_file(path, PEM_MAX, &key, err);
	if (r < 0)
		return r;
	r = token_keys_new(buf_str(&key), STR_NONE, "berth", url, &c->keys, err);
	crypto_wipe(key.p, key.n);
	return r < 0 ? err_wrap(err, "issuer_key") : 0;
}

static int open_tls(struct control *c, struct err *err)
{
	const struct config *f = &c->config;
	char cert[PATH_MAX], key[PATH_MAX], ca[PATH_MAX];
	int r;

	must(str_copy(f->node_cert, cert, sizeof cert) == 0 && str_copy(f->node_key, key, sizeof key) == 0 &&
	     str_copy(f->ca_cert, ca, sizeof ca) == 0);
	r = tls_ctx_new_files(TLS_SERVER, cert, key, ca, &c->peer_server, err);
	if (r == 0)
		r = tls_ctx_new_files(TLS_CLIENT, cert, key, ca, &c->peer_client, err);
	if (r < 0)
		return err_wrap(err, "certificates between nodes");
	if (f->listen_tls.n == 0)
		return 0;
	must(str_copy(f->tls_cert, cert, sizeof cert) == 0 && str_copy(f->tls_key, key, sizeof key) == 0);
	r = tls_ctx_new_files(TLS_SERVER, cert, key, NULL, &c->tls_server, err);
	return r < 0 ? err_wrap(err, "certificate of listen_tls") : 0;
}

static int open_log(struct control *c, struct err *err)
{
	const struct config *f = &c->config;
	struct consensus_member members[CONFIG_MEMBERS_MAX];
	char addresses[CONFIG_MEMBERS_MAX][CONSENSUS_ADDRESS_SIZE], dir[PATH_MAX];

	for (uint32_t i = 0; i < f->n_members; i++) {
		if (str_copy(f->members[i].raft, addresses[i], sizeof addresses[i]) < 0)
			return err_set(err, -EINVAL, "member: %.*s is too long", STR_ARGS(f->members[i].raft));
		members[i] = (struct consensus_member){.id = f->members[i].id, .address = addresses[i]};
	}
	snprintf(dir, sizeof dir, "%.*s/berthd/raft", STR_ARGS(f->state_dir));
	struct consensus_options options = {
		.loop = &c->loop.uv, .dir = dir, .id = f->node_id, .members = members, .n_members = f->n_members,
		.machine = {.arg = c, .apply = on_apply, .snapshot_take = on_snapshot_take,
	                    .snapshot_write = on_snapshot_write, .snapshot_free = on_snapshot_free, .restore = on_restore},
		.leadership = on_leadership, .failed = on_failed, .arg = c};
	int r = consensus_new(&options, &c->consensus, err);

	return r == 0 ? consensus_start(c->consensus, err) : r;
}

static int on_propose(void *context, const void *entry, size_t n)
{
	struct control *c = context;

	return consensus_propose(c->consensus, entry, n, inlet_proposed, c);
}

static int on_forward(void *context, uint64_t leader, const void *p, size_t n)
{
	struct control *c = context;

	return peers_send(c->peers, leader, PEER_COMMANDS, p, n);
}

static int open_peers(struct control *c, struct err *err)
{
	const struct config *f = &c->config;
	struct peers_options options = {.loop = &c->loop, .node = f->node_id, .cluster = f->cluster_id,
	                                .server = c->peer_server, .client = c->peer_client, .received = on_frame,
	                                .changed = on_peer, .context = c};
	int r;

	for (uint32_t i = 0; i < f->n_members; i++) {
		if (f->members[i].id == f->node_id)
			options.listen = f->members[i].control;
	}
	r = peers_new(&options, &c->peers, err);
	for (uint32_t i = 0; r == 0 && i < f->n_members; i++) {
		if (f->members[i].id != f->node_id)
			r = peers_add(c->peers, f->members[i].id, f->members[i].control, err);
	}
	return r;
}

static void make_actors(struct control *c)
{
	struct runtime_options runtime = {.node = c->config.node_id, .incarnation = state_cluster(c->state)->incarnation,
	                                  .n_gateway_loops = (uint32_t)c->config.gateway_loops, .state = c->state,
	                                  .classes = cast_classes, .n_classes = CAST_CLASSES,
	                                  .effect = effects_carry_out, .context = c};
	struct proposer_options proposer = {.node = c->config.node_id, .state = c->state, .done = effects_proposed,
	                                    .propose = on_propose, .forward = on_forward, .context = c};

	c->runtime = runtime_new(&runtime);
	c->proposer = proposer_new(&proposer);
	c->leaderbox = leaderbox_new();
	must(c->runtime != NULL);
}

static int open_gateway(struct control *c, struct err *err)
{
	const struct config *f = &c->config;
	struct sockaddr_storage plain, tls, peer;
	char admin[PATH_MAX], group[64];
	struct gateway_config g = {.n_loops = (unsigned)f->gateway_loops, .node = f->node_id,
	                           .incarnation = state_cluster(c->state)->incarnation, .tls_server = c->tls_server,
	                           .peer_server = c->peer_server, .peer_client = c->peer_client, .admin_path = admin,
	                           .admin_mode = 0660, .admin_group = (gid_t)-1, .tokens = true};
	int r = 0;

	must(str_copy(f->admin_socket, admin, sizeof admin) == 0 && str_copy(f->admin_group, group, sizeof group) == 0);
	if (group[0] != '\0') {
		struct group *entry = getgrnam(group);

		if (entry == NULL)
			return err_set(err, -ENOENT, "admin_group: there is no group \"%s\"", group);
		g.admin_group = entry->gr_gid;
	}
	if (f->listen.n > 0)
		r = peers_address(f->listen, &plain, err);
	if (r == 0 && f->listen_tls.n > 0)
		r = peers_address(f->listen_tls, &tls, err);
	for (uint32_t i = 0; r == 0 && i < f->n_members; i++) {
		if (f->members[i].id == f->node_id)
			r = peers_address(f->members[i].peer, &peer, err);
	}
	if (r < 0)
		return r;
	g.plain = f->listen.n > 0 ? (struct sockaddr *)&plain : NULL;
	g.tls = f->listen_tls.n > 0 ? (struct sockaddr *)&tls : NULL;
	g.peer = (struct sockaddr *)&peer;
	inlet_fill(c, &g);
	dialer_fill(&g);
	r = gateway_new(&g, &c->gateway, err);
	if (r < 0)
		return r;
	gateway_publish_keys(c->gateway, token_keys_ref(c->keys));
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
	char cert[PATH_MAX], key[PATH_MAX];
	struct err err = {0};

	(void)number;
	if (c->tls_server == NULL)
		return;
	must(str_copy(c->config.tls_cert, cert, sizeof cert) == 0 && str_copy(c->config.tls_key, key, sizeof key) == 0);
	if (tls_ctx_reload_files(c->tls_server, cert, key, NULL, &err) < 0)
		log_error("certificate not reloaded: %s", err.message);
	else
		log_info("certificate reloaded");
}

static int start(struct control *c, struct err *err)
{
	int r = open_keys(c, err);

	if (r == 0)
		r = open_tls(c, err);
	if (r == 0)
		r = loop_init(&c->loop, err);
	if (r < 0)
		return r;
	c->started_boot_ms = clock_boot_ms();
	c->state = state_new();
	c->api = api_new(c);
	c->dialer = dialer_new(c->config.sandboxd_socket, c->config.cluster_id, c->config.node_id);
	make_actors(c);
	r = inlet_open(c, err);
	if (r == 0)
		r = open_peers(c, err);
	if (r == 0)
		r = open_gateway(c, err);
	if (r == 0)
		r = open_log(c, err);
	if (r < 0)
		return r;
	c->started = true;
	runtime_rescan(c->runtime, clock_boot_ms());
	struct sandboxd_client_options sandboxd = {.loop = &c->loop, .socket = c->config.sandboxd_socket,
	                                           .cluster = c->config.cluster_id, .node = c->config.node_id,
	                                           .listed = on_listed, .lost = on_lost, .exited = on_exited, .context = c};

	c->sandboxd = sandboxd_client_new(&sandboxd);
	loop_timer_set(&c->loop, &c->tick, 1);
	return gateway_start(c->gateway, err);
}

int control_run(const char *config_path)
{
	static struct control c;
	struct err err = {0};

	c = (struct control){.inbox_last = &c.inbox, .turn = {.run = on_turn}, .timer = {.fire = on_timer},
	                     .tick = {.fire = on_tick}};
	if (config_load(config_path, &c.config, &err) < 0) {
		fprintf(stderr, "berthd: %s\n", err.message);
		return 2;
	}
	log_init("berthd", (enum log_level)c.config.log_level);
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
	return c.exit_status;
}
