/* consensus.c -- a server's life: options, start, leadership, close.
 *
 * Happy path: consensus_new checks the options; consensus_start looks at the directory, opens the library
 * on raft_uv, puts the guard in front of it, bootstraps a server that has never run, and starts. From then
 * on the guard calls on_settled after each event, which tells the owner of a change of leadership.
 *
 * Failure modes: a server that becomes unavailable (term or vote could not be stored, a message that
 * contradicts what is committed) or whose machine refuses an entry calls `failed`; nothing is repaired in
 * place. A write of the log that fails aborts (guard.c).
 *
 * Invariants: the library is closed outside of its own callbacks, at the end of a turn; memory is freed in
 * the last handle's close callback. */
#include "consensus/consensus.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "consensus/disk/directory.h"
#include "consensus/install.h"
#include "consensus/parts.h"
#include "consensus/disk/promise.h"
#include "consensus/disk/remedy.h"
#include "consensus/rpc/rpc.h"
#include "core/fd.h"
#include "core/must.h"
#include "core/str.h"

#define RECONNECT_MS 200

static int check_address(const char *address, bool loopback_only, struct err *err)
{
	struct str host, port;
	struct in_addr ip;
	char text[CONSENSUS_ADDRESS_SIZE];
	uint64_t number;
	if (address == NULL || strlen(address) >= CONSENSUS_ADDRESS_SIZE)
		return err_set(err, -EINVAL, "member address: missing or longer than %u bytes",
			       CONSENSUS_ADDRESS_SIZE - 1);
	if (!str_cut(str_of(address), ':', &host, &port) || str_copy(host, text, sizeof text) != 0 ||
	    inet_pton(AF_INET, text, &ip) != 1 || str_u64(port, UINT16_MAX, &number) != 0 || number == 0)
		return err_set(err, -EINVAL,
			       "member address \"%s\": must be a dotted quad and a port, as 127.0.0.1:7100",
			       address);
	if (loopback_only && ntohl(ip.s_addr) >> 24 != 127)
		return err_set(err, -EINVAL,
			       "member address \"%s\": without encryption only 127.0.0.0/8 is allowed",
			       address);
	return 0;
}

static bool is_plain(const struct consensus_options *o)
{
	return o->network == NULL || o->network->server == NULL;
}

static int check_members(const struct consensus_options *o, struct err *err)
{
	bool found = false;
	if (o->n_members == 0) /* it joins */
		return o->id == 0 ? err_set(err, -EINVAL, "id: must be above 0")
				  : check_address(o->address, is_plain(o), err);
	if (o->n_members > CONSENSUS_MEMBERS_MAX || o->n_members % 2 == 0)
		return err_set(err, -EINVAL, "members: %u; must be 1, 3, 5 or 7", o->n_members);
	for (uint32_t i = 0; i < o->n_members; i++) {
		const struct consensus_member *m = &o->members[i];
		int rc = check_address(m->address, is_plain(o), err);
		if (rc != 0)
			return rc;
		if (m->id == 0)
			return err_set(err, -EINVAL, "member %s: id must be above 0", m->address);
		for (uint32_t j = 0; j < i; j++)
			if (o->members[j].id == m->id || strcmp(o->members[j].address, m->address) == 0)
				return err_set(err, -EINVAL, "members: id %llu or address %s is there twice",
					       (unsigned long long)m->id, m->address);
		found = found ||
			(m->id == o->id && (o->address == NULL || strcmp(o->address, m->address) == 0));
	}
	if (!found)
		return err_set(err, -EINVAL,
			       "members: this server's id %llu is not among them, or has another address",
			       (unsigned long long)o->id);
	return 0;
}

static int check_options(const struct consensus_options *o, struct err *err)
{
	if (o->dir == NULL || o->dir[0] == 0 || strlen(o->dir) >= CONSENSUS_DIR_SIZE)
		return err_set(err, -EINVAL, "dir: must have 1 to %u bytes", CONSENSUS_DIR_SIZE - 1);
	if (o->heartbeat_ms < 10 || o->heartbeat_ms > 10000)
		return err_set(err, -EINVAL, "heartbeat_ms: %u; must be 10 to 10000", o->heartbeat_ms);
	if (o->election_ms < 3 * o->heartbeat_ms || o->election_ms > 60000)
		return err_set(err, -EINVAL,
			       "election_ms: %u; must be three times heartbeat_ms (%u) to 60000",
			       o->election_ms, o->heartbeat_ms);
	return check_members(o, err);
}

static void copy_options(struct consensus *c)
{
	for (uint32_t i = 0; i < c->options.n_members; i++) {
		const struct consensus_member *m = &c->options.members[i];
		snprintf(c->addresses[i], CONSENSUS_ADDRESS_SIZE, "%s", m->address);
		c->members[i] = (struct consensus_member){m->id, c->addresses[i]};
		if (m->id == c->options.id)
			snprintf(c->address, sizeof c->address, "%s", m->address);
	}
	if (c->options.n_members == 0)
		snprintf(c->address, sizeof c->address, "%s", c->options.address);
	c->options.address = c->address;
	c->options.members = c->members;
	snprintf(c->dir, sizeof c->dir, "%s", c->options.dir);
	c->options.dir = c->dir;
	if (c->options.network != NULL) {
		c->network = *c->options.network;
		c->options.network = &c->network;
	}
}

static void on_turn(uv_prepare_t *turn);

int consensus_new(const struct consensus_options *options, struct consensus **ret, struct err *err)
{
	struct consensus_options o = *options;
	o.election_ms = o.election_ms != 0 ? o.election_ms : 300;
	o.heartbeat_ms = o.heartbeat_ms != 0 ? o.heartbeat_ms : 50;
	o.snapshot_threshold = o.snapshot_threshold != 0 ? o.snapshot_threshold : 16384;
	o.disk_reserve = o.disk_reserve != 0 ? o.disk_reserve : 256ull << 20;
	o.disk_floor = o.disk_floor != 0 ? o.disk_floor : 64ull << 20;
	o.snapshot_trailing = o.snapshot_trailing != 0 ? o.snapshot_trailing : GUARD_TRAILING_MIN;
	int rc = check_options(&o, err);
	if (rc != 0)
		return err_wrap(err, "consensus");
	struct consensus *c = calloc(1, sizeof *c);
	if (c == NULL)
		return err_set(err, -ENOMEM, "consensus: no memory");
	c->options = o;
	c->lock = -1;
	copy_options(c);
	STAILQ_INIT(&c->waiting);
	STAILQ_INIT(&c->pending);
	STAILQ_INIT(&c->waiting_reads);
	STAILQ_INIT(&c->running_reads);
	machine_init(c);
	c->room.dir = c->dir;
	must(uv_prepare_init(o.loop, &c->turn) == 0);
	c->turn.data = c;
	must(uv_prepare_start(&c->turn, on_turn) == 0);
	*ret = c;
	return 0;
}

void consensus_fail(struct consensus *c, const char *why)
{
	if (c->phase == CONSENSUS_NEW)
		snprintf(c->why, sizeof c->why, "%s", why);
	if (c->phase != CONSENSUS_RUNNING)
		return;
	c->phase = CONSENSUS_FAILED;
	if (c->options.failed != NULL)
		c->options.failed(c->options.arg, why);
}

static void tell_leadership(struct consensus *c)
{
	uint64_t before = c->led_term, now = guard_leads(c->guard) ? c->raft.current_term : 0;
	if (before == now)
		return;
	c->led_term = now;
	if (c->options.leadership == NULL)
		return;
	if (before != 0)
		c->options.leadership(c->options.arg, false, before);
	if (now != 0)
		c->options.leadership(c->options.arg, true, now);
}

static void tell_leader(struct consensus *c)
{
	uint64_t now = consensus_leader(c, NULL);
	if (now == c->leader)
		return;
	c->leader = now;
	if (c->options.leader != NULL)
		c->options.leader(c->options.arg, now);
}

void consensus_settled(void *arg)
{
	struct consensus *c = arg;
	if (c->phase != CONSENSUS_RUNNING)
		return;
	propose_settled(c);
	tell_leadership(c);
	tell_leader(c);
	if (c->raft.state == RAFT_UNAVAILABLE) {
		char why[ERR_MESSAGE_MAX];
		snprintf(why, sizeof why, "raft server %llu is unavailable: %s",
			 (unsigned long long)c->options.id, raft_errmsg(&c->raft));
		consensus_fail(c, why);
	}
}

static int raft_error(struct err *err, int rc, const char *what, const char *detail)
{
	bool damaged = rc == RAFT_CORRUPT || rc == RAFT_MALFORMED;
	int code = rc == RAFT_NOMEM ? -ENOMEM : damaged ? -EUCLEAN : -EIO;
	return err_set(err, code, "%s: %s%s%s%s", what, raft_strerror(rc), detail[0] != 0 ? ": " : "", detail,
		       damaged ? "; " REMEDY : "");
}

static int open_transport(struct consensus *c, struct raft_uv_transport **ret, struct err *err)
{
	if (c->options.network != NULL) {
		const struct rpc_options rpc = {c->options.network, c->options.id, c->address};
		return rpc_new(&rpc, &c->rpc, ret, err);
	}
	int rc = raft_uv_tcp_init(&c->tcp, c->options.loop);
	if (rc != 0)
		return raft_error(err, rc, "open transport", c->tcp.errmsg);
	c->have_tcp = true;
	*ret = &c->tcp;
	return 0;
}

static int open_io(struct consensus *c, struct err *err)
{
	struct raft_uv_transport *transport;
	int rc = open_transport(c, &transport, err);
	if (rc != 0)
		return rc;
	rc = raft_uv_init(&c->io, c->options.loop, c->dir, transport);
	if (rc != 0)
		return raft_error(err, rc, "open files", c->io.errmsg);
	c->have_io = true;
	if (c->rpc != NULL)
		rpc_attach(c->rpc, &c->io);
	promise_hook(c);
	raft_uv_set_connect_retry_delay(&c->io, RECONNECT_MS);
	/* Recovery renames what it cannot read and goes on without it, as if it had never been acknowledged. */
	raft_uv_set_auto_recovery(&c->io, false);
	/* A truncated compressed snapshot hangs the library; ours are checked by length and hash. */
	raft_uv_set_snapshot_compression(&c->io, false);
	/* raft_uv has async_work, which version 2 means, but says 1. */
	must(c->io.async_work != NULL);
	c->io.version = 2;
	rc = raft_init(&c->raft, &c->io, &c->fsm, c->options.id, c->address);
	if (rc != 0)
		return raft_error(err, rc, "open", c->io.errmsg);
	c->have_raft = true;
	install_init(c);
	raft_set_election_timeout(&c->raft, c->options.election_ms);
	raft_set_heartbeat_timeout(&c->raft, c->options.heartbeat_ms);
	raft_set_snapshot_threshold(&c->raft, c->options.snapshot_threshold);
	raft_set_snapshot_trailing(&c->raft, c->options.snapshot_trailing);
	raft_set_pre_vote(&c->raft, true);
	const struct guard_options guard = {consensus_settled, c, c->options.guard_off_for_tests};
	return guard_new(&c->raft, &guard, &c->guard, err);
}

/* The log of a server that never ran: one entry, the members. The same on all of them. */
static int bootstrap(struct consensus *c, struct err *err)
{
	struct raft_configuration configuration;
	int rc = 0;
	raft_configuration_init(&configuration);
	for (uint32_t i = 0; i < c->options.n_members && rc == 0; i++)
		rc = raft_configuration_add(&configuration, c->members[i].id, c->members[i].address,
					    RAFT_VOTER);
	if (rc == 0)
		rc = raft_bootstrap(&c->raft, &configuration);
	raft_configuration_close(&configuration);
	if (rc != 0)
		return raft_error(err, rc, "bootstrap", c->io.errmsg);
	return directory_claim(c->dir, c->options.id, c->address, err);
}

/* The files of a server that joins: no log, and the metadata that say that it has given no vote. */
static int begin_joining(struct consensus *c, struct err *err)
{
	int rc = c->io.set_term(&c->io, 0);
	if (rc != 0)
		return raft_error(err, rc, "make files", c->io.errmsg);
	return directory_claim(c->dir, c->options.id, c->address, err);
}

/* One that joins knows no configuration, or one of before it was told of, until a leader has sent it the log so far. */
static int check_membership(const struct consensus *c, struct err *err)
{
	if (c->options.n_members == 0)
		return 0;
	for (unsigned i = 0; i < c->raft.configuration.n; i++) {
		const struct raft_server *s = &c->raft.configuration.servers[i];
		if (s->id == c->options.id && strcmp(s->address, c->address) == 0)
			return 0;
	}
	return err_set(err, -EINVAL, "%s: no member of the log's configuration has id %llu and address %s",
		       c->dir, (unsigned long long)c->options.id, c->address);
}

/* libuv writes to sockets without MSG_NOSIGNAL: a peer that goes away would end this program. */
static int check_sigpipe(struct err *err)
{
	struct sigaction action;
	if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
		return 0;
	return err_set(err, -EINVAL, "SIGPIPE ends this program; it must ignore it");
}

/* The library says no more than "I/O error" when it cannot listen. */
static int check_port(const struct consensus *c, struct err *err)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	struct str host, port;
	char text[CONSENSUS_ADDRESS_SIZE];
	uint64_t number = 0;
	int on = 1;
	if (c->options.network != NULL)
		return 0;
	str_cut(str_of(c->address), ':', &host, &port);
	must(str_copy(host, text, sizeof text) == 0 && inet_pton(AF_INET, text, &address.sin_addr) == 1);
	must(str_u64(port, UINT16_MAX, &number) == 0);
	address.sin_port = htons((uint16_t)number);
	CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1) != 0)
		return err_system(err, -errno, "listen on %s", c->address);
	return 0;
}

static int start(struct consensus *c, struct err *err)
{
	bool first = false;
	int rc = check_sigpipe(err);
	if (rc == 0)
		rc = check_port(c, err);
	if (rc == 0)
		rc = directory_lock(c->dir, &c->lock, err);
	if (rc == 0)
		rc = directory_check(c->dir, c->options.id, c->address, &first, err);
	if (rc == 0)
		rc = promise_check_first(c, first, err);
	if (rc == 0)
		rc = open_io(c, err);
	if (rc == 0 && first)
		rc = c->options.n_members > 0 ? bootstrap(c, err) : begin_joining(c, err);
	if (rc != 0)
		return rc;
	rc = raft_start(&c->raft);
	if (rc != 0 && c->why[0] != 0)
		return err_set(err, -EUCLEAN, "%s: %s", c->dir, c->why);
	if (rc != 0 && c->rpc != NULL && rpc_why(c->rpc)[0] != 0)
		return err_set(err, -EADDRINUSE, "%s", rpc_why(c->rpc));
	if (rc != 0) {
		char what[CONSENSUS_DIR_SIZE + CONSENSUS_ADDRESS_SIZE + 32];
		snprintf(what, sizeof what, "start from %s at %s", c->dir, c->address);
		return raft_error(err, rc, what, raft_errmsg(&c->raft));
	}
	rc = promise_check(c, err);
	return rc == 0 ? check_membership(c, err) : rc;
}

int consensus_start(struct consensus *c, struct err *err)
{
	must(c->phase == CONSENSUS_NEW && !c->have_io);
	int rc = start(c, err);
	if (rc != 0)
		return err_wrap(err, "consensus");
	c->phase = CONSENSUS_RUNNING;
	guard_settle(c->guard);
	return 0;
}

static void turn_closed(uv_handle_t *handle)
{
	struct consensus *c = handle->data;
	promise_close(c);
	fd_close(&c->lock);
	guard_free(c->guard);
	if (c->have_io)
		raft_uv_close(&c->io);
	if (c->have_tcp)
		raft_uv_tcp_close(&c->tcp);
	rpc_free(c->rpc);
	if (c->closed != NULL)
		c->closed(c->closed_arg);
	free(c);
}

static void raft_closed(struct raft *r)
{
	struct consensus *c = r->fsm->data;
	uv_close((uv_handle_t *)&c->turn, turn_closed);
}

static void close_now(struct consensus *c)
{
	uv_prepare_stop(&c->turn);
	if (c->have_raft)
		raft_close(&c->raft, raft_closed);
	propose_cancel(c);
	members_turn(c);
	if (!c->have_raft)
		uv_close((uv_handle_t *)&c->turn, turn_closed);
}

static void on_turn(uv_prepare_t *turn)
{
	struct consensus *c = turn->data;
	if (c->phase == CONSENSUS_CLOSING && !install_busy(c))
		close_now(c);
	if (c->phase != CONSENSUS_RUNNING)
		return;
	members_turn(c);
	propose_flush(c);
	guard_turn(c->guard);
	promise_turn(c);
}

void consensus_close(struct consensus *c, void (*closed)(void *arg), void *arg)
{
	must(c->phase != CONSENSUS_CLOSING);
	c->phase = CONSENSUS_CLOSING;
	c->closed = closed;
	c->closed_arg = arg;
}

static void on_transferred(struct raft_transfer *transfer)
{
	struct consensus *c = transfer->data;
	raft_id leader;
	const char *address;
	void (*done)(void *, int) = c->transfer_done;
	raft_leader(&c->raft, &leader, &address);
	c->transfer_done = NULL;
	if (done != NULL)
		done(c->transfer_arg, leader == transfer->id ? 0 : -ETIMEDOUT);
}

/* The request stays a part of `c`, and is not freed when it is done: the library may still be sending its message. */
int consensus_transfer(struct consensus *c, uint64_t id, void (*done)(void *arg, int status), void *arg)
{
	if (c->phase != CONSENSUS_RUNNING || !guard_leads(c->guard))
		return -EAGAIN;
	if (c->raft.transfer != NULL)
		return -EBUSY;
	c->transfer.data = c;
	c->transfer_done = done;
	c->transfer_arg = arg;
	int rc = raft_transfer(&c->raft, &c->transfer, id, on_transferred);
	if (rc == 0)
		return 0;
	c->transfer_done = NULL;
	return rc == RAFT_BADID ? -EINVAL : rc == RAFT_NOTFOUND ? -ENOENT : -EAGAIN;
}

bool consensus_leads(const struct consensus *c)
{
	return c->phase == CONSENSUS_RUNNING && guard_leads(c->guard);
}

uint64_t consensus_leader(struct consensus *c, const char **ret_address)
{
	raft_id id = 0;
	const char *address = NULL;
	if (c->phase == CONSENSUS_RUNNING)
		raft_leader(&c->raft, &id, &address);
	if (ret_address != NULL)
		*ret_address = id != 0 ? address : NULL;
	return id;
}

uint64_t consensus_term(const struct consensus *c)
{
	return c->raft.current_term;
}

uint64_t consensus_applied(const struct consensus *c)
{
	return c->raft.last_applied;
}

void consensus_count(struct consensus *c, struct consensus_counts *ret)
{
	*ret = c->counts;
	ret->log_first = c->raft.log.offset + 1;
	ret->log_last = c->have_raft ? raft_last_index((struct raft *)&c->raft) : 0;
	ret->committed = c->raft.commit_index;
	ret->watermark = c->promise.record != NULL ? watermark_written(c->promise.record) : 0;
	ret->unanswered = c->unanswered;
	ret->disk_free = consensus_disk_free(c);
	ret->disk_low = consensus_disk_low(c);
	for (int rule = 0; rule < GUARD_RULES && c->guard != NULL; rule++)
		ret->guard[rule] = guard_count(c->guard, (enum guard_rule)rule);
}
