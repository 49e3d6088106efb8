/* apply_member.c -- who belongs to the cluster: tokens, the nodes that they admit, changes of voters, and nodes that go.
 *
 * A token is known by the hash of its secret. Whoever shows the secret first gets a node of its own, and with the same
 * public key the same node again, should the answer have been lost. A change of voters is an operation: begun here before the
 * log is changed, ended here afterwards, so that a leader that takes over knows what was under way. One at a time. */
#include <errno.h>
#include <inttypes.h>

#include "state/apply/apply.h"

#define HASH_TEXT   64
#define LIFE_MS_MIN 1000u
#define LIFE_MS_MAX (7u * 86400000u)
#define KEPT_MS     86400000u /* a token that expired, so that its late user is told why */
#define NAME_MAX    63

/* -- Tokens --------------------------------------------------------------------------------------------------------- */

/* How many are left. */
static uint32_t expire_tokens(struct apply *a)
{
	const struct join_token_row *row = NULL;
	uint32_t n = 0;

	while ((row = state_next_join_token(a->s, row)) != NULL) {
		if (row->expires_ms + KEPT_MS <= a->now_ms)
			store_remove(a->s, KIND_JOIN_TOKENS, row);
		else
			n += row->expires_ms > a->now_ms && row->node == 0;
	}
	return n;
}

void apply_node_token(struct apply *a, const void *body)
{
	const struct cmd_node_token *c = body;

	if (!apply_by_voter(a))
		return;
	if (c->hash.n != HASH_TEXT) {
		apply_refuse(a, -EINVAL, "hash: %zu digits, not %d", c->hash.n, HASH_TEXT);
		return;
	}
	if (c->life_ms < LIFE_MS_MIN || c->life_ms > LIFE_MS_MAX) {
		apply_refuse(a, -EINVAL, "life_ms: %" PRIu64 ", allowed from a second to seven days",
			     c->life_ms);
		return;
	}
	if (state_join_token(a->s, c->hash) != NULL) {
		apply_refuse(a, -EEXIST, "hash: this token is there already");
		return;
	}
	if (expire_tokens(a) >= JOIN_TOKENS_MAX) {
		apply_refuse(a, -ENOBUFS, "%d join tokens wait to be used already", JOIN_TOKENS_MAX);
		return;
	}
	store_put(a->s, KIND_JOIN_TOKENS,
		  &(struct join_token_row){
			  .hash = c->hash, .voter = c->voter, .expires_ms = a->now_ms + c->life_ms});
}

/* -- Admission -------------------------------------------------------------------------------------------------------- */

static bool is_name(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char x = s.p[i];
		bool inner = x == '-' || x == '.';

		if (!((x >= 'a' && x <= 'z') || (x >= '0' && x <= '9') || (inner && i > 0 && i + 1 < s.n)))
			return false;
	}
	return s.n > 0 && s.n <= NAME_MAX;
}

static bool token_admits(struct apply *a, const struct join_token_row *token, const struct cmd_node_admit *c)
{
	if (token == NULL) {
		apply_refuse(a, -ENOKEY, "token: this cluster has no such join token");
		return false;
	}
	if (token->node != 0 && !str_eq(token->key, c->key)) {
		apply_refuse(a, -EALREADY, "token: it was used already, for node %" PRIu64, token->node);
		return false;
	}
	if (token->expires_ms <= a->now_ms) {
		apply_refuse(a, -ETIME, "token: it expired %" PRIu64 " s ago",
			     (a->now_ms - token->expires_ms) / 1000);
		return false;
	}
	return true;
}

static bool is_taken(const struct node_row *row, struct str address)
{
	return address.n > 0 && (str_eq(row->raft_address, address) ||
				 str_eq(row->control_address, address) || str_eq(row->peer_address, address));
}

static bool node_fits(struct apply *a, const struct join_token_row *token, const struct cmd_node_admit *c)
{
	uint32_t n = 0;

	if (!is_name(c->name)) {
		apply_refuse(a, -EINVAL,
			     "name: \"%.*s\", allowed are 1 to %d of a-z, 0-9 and, inside, '-' and '.'",
			     STR_ARGS(c->name), NAME_MAX);
		return false;
	}
	if (c->key.n != HASH_TEXT || c->control_address.n == 0 || c->peer_address.n == 0 ||
	    (token->voter && c->raft_address.n == 0)) {
		apply_refuse(a, -EINVAL, "key, raft, control or forward address: missing");
		return false;
	}
	for (const struct node_row *row = NULL; (row = state_next_node(a->s, row)) != NULL; n++) {
		if (str_eq(row->name, c->name)) {
			apply_refuse(a, -EEXIST, "name: node %" PRIu64 " is called \"%.*s\" already", row->id,
				     STR_ARGS(c->name));
			return false;
		}
		if (is_taken(row, c->raft_address) || is_taken(row, c->control_address) ||
		    is_taken(row, c->peer_address)) {
			apply_refuse(a, -EADDRINUSE, "address: node \"%.*s\" has one of these",
				     STR_ARGS(row->name));
			return false;
		}
	}
	if (n >= NODES_MAX_ROWS) {
		apply_refuse(a, -ENOBUFS, "the cluster has %u nodes, which is the most", n);
		return false;
	}
	return true;
}

void apply_node_admit(struct apply *a, const void *body)
{
	const struct cmd_node_admit *c = body;
	const struct join_token_row *token = state_join_token(a->s, c->hash);
	struct join_token_row used;
	struct node_row row;

	if (!apply_by_voter(a) || !token_admits(a, token, c))
		return;
	if (token->node != 0) {
		a->result->id = token->node;
		return;
	}
	if (!node_fits(a, token, c))
		return;
	row = (struct node_row){.id = apply_next_id(a),
				.name = c->name,
				.raft_address = c->raft_address,
				.control_address = c->control_address,
				.peer_address = c->peer_address,
				.api_address = c->api_address,
				.version = c->version,
				.voter = token->voter,
				.state = NODE_NEW,
				.renewed_ms = a->now_ms};
	used = *token;
	used.node = row.id;
	used.key = c->key;
	store_put(a->s, KIND_NODES, &row);
	store_put(a->s, KIND_JOIN_TOKENS, &used);
	a->result->id = row.id;
	a->result->created = true;
}

/* -- Voters ----------------------------------------------------------------------------------------------------------- */

void apply_member_begin(struct apply *a, const void *body)
{
	const struct cmd_member_begin *c = body;
	const struct node_row *node = state_node(a->s, c->node);
	struct operation_row row;

	if (!apply_by_voter(a))
		return;
	if (node == NULL) {
		apply_refuse(a, -ENOENT, "no node %" PRIu64, c->node);
		return;
	}
	if (a->cluster.member_operation != 0) {
		apply_refuse(a, -EBUSY, "operation %" PRIu64 " changes the voters",
			     a->cluster.member_operation);
		return;
	}
	if (node->member == c->role) {
		apply_refuse(a, -EALREADY, "node %" PRIu64 ": it is %s", c->node, member_role_name[c->role]);
		return;
	}
	if (c->role != MEMBER_NONE && (!node->voter || node->leaving)) {
		apply_refuse(a, -EINVAL, "node %" PRIu64 ": %s takes no part in the log", c->node,
			     node->leaving ? "a node that leaves" : "a worker");
		return;
	}
	if (c->role == MEMBER_VOTER && node->state != NODE_UP) {
		apply_refuse(a, -EHOSTDOWN, "node %" PRIu64 ": it is not up", c->node);
		return;
	}
	row = (struct operation_row){.id = apply_next_id(a),
				     .kind = OPERATION_MEMBER,
				     .phase = PHASE_CHANGE,
				     .started_ms = a->now_ms,
				     .node = c->node,
				     .role = c->role};
	a->cluster.member_operation = row.id;
	store_put(a->s, KIND_OPERATIONS, &row);
	a->result->id = a->result->operation = row.id;
}

void apply_member_end(struct apply *a, const void *body)
{
	const struct cmd_member_end *c = body;
	const struct operation_row *operation = state_operation(a->s, c->operation);
	struct operation_row ended;
	const struct node_row *node;

	if (!apply_by_voter(a))
		return;
	if (c->operation == 0 || operation == NULL || a->cluster.member_operation != c->operation) {
		apply_refuse(a, -ESTALE, "operation %" PRIu64 ": no change of voters that runs",
			     c->operation);
		return;
	}
	ended = *operation;
	ended.phase = c->message.n == 0 ? PHASE_SUCCEEDED : PHASE_FAILED;
	ended.message = c->message;
	ended.ended_ms = a->now_ms;
	a->cluster.member_operation = 0;
	store_put(a->s, KIND_OPERATIONS, &ended);
	node = state_node(a->s, ended.node);
	if (node != NULL && c->message.n == 0) {
		struct node_row row = *node;

		row.member = ended.role;
		store_put(a->s, KIND_NODES, &row);
	}
}

/* -- Nodes that go ------------------------------------------------------------------------------------------------------ */

/* Whether the voters but this one would have a majority that is up. */
static bool others_suffice(const struct apply *a, uint64_t but)
{
	uint32_t n = 0, up = 0;

	for (const struct node_row *row = NULL; (row = state_next_node(a->s, row)) != NULL;) {
		if (row->member != MEMBER_VOTER || row->id == but)
			continue;
		n++;
		up += row->state == NODE_UP;
	}
	return up > n / 2;
}

/* How many sessions it has. */
static uint32_t sessions_of(const struct apply *a, uint64_t node)
{
	uint32_t n = 0;

	for (const struct sandbox_row *box = NULL; (box = state_next_node_sandbox(a->s, node, box)) != NULL;)
		n += box->state == SANDBOX_BOUND;
	return n;
}

static void stop_all(struct apply *a, uint64_t node)
{
	for (const struct sandbox_row *box = NULL;
	     (box = state_next_node_sandbox(a->s, node, box)) != NULL;) {
		const struct session_row *session = state_session_by_generation(a->s, box->generation);

		if (box->state == SANDBOX_BOUND && session != NULL && session->state == SESSION_LIVE) {
			apply_session_close(a, session, REAP_STOPPED);
		} else if (box->state == SANDBOX_BOOTING || box->state == SANDBOX_READY) {
			struct sandbox_row row = *box;

			row.state = SANDBOX_STOPPING;
			box = store_put(a->s, KIND_SANDBOXES, &row);
		}
	}
	apply_arrivals_end(a, node);
}

void apply_node_leave(struct apply *a, const void *body)
{
	const struct cmd_node_leave *c = body;
	const struct node_row *node = state_node(a->s, c->node);
	struct node_row row;

	if (!apply_by_voter(a))
		return;
	if (node == NULL) {
		apply_refuse(a, -ENOENT, "no node %" PRIu64, c->node);
		return;
	}
	if (node->member == MEMBER_VOTER && !others_suffice(a, c->node)) {
		apply_refuse(a, -EPERM,
			     "node \"%.*s\": the voters that are left would have no majority that is up",
			     STR_ARGS(node->name));
		return;
	}
	if (!c->force && sessions_of(a, c->node) > 0) {
		apply_refuse(a, -EBUSY, "node \"%.*s\": it has %u sessions: drain it first, or use force",
			     STR_ARGS(node->name), sessions_of(a, c->node));
		return;
	}
	row = *node;
	row.leaving = row.cordoned = true;
	store_put(a->s, KIND_NODES, &row);
	stop_all(a, c->node);
}

void apply_node_drop(struct apply *a, const void *body)
{
	const struct cmd_node_drop *c = body;
	const struct node_row *node = state_node(a->s, c->node);
	const struct operation_row *change = state_operation(a->s, a->cluster.member_operation);

	if (!apply_by_voter(a))
		return;
	if (node == NULL) {
		apply_refuse(a, -ENOENT, "no node %" PRIu64, c->node);
		return;
	}
	if (!node->leaving || (change != NULL && change->node == c->node) || node->member != MEMBER_NONE ||
	    state_next_node_sandbox(a->s, c->node, NULL) != NULL) {
		apply_refuse(a, -EBUSY, "node %" PRIu64 ": it is not leaving, or something of it is left",
			     c->node);
		return;
	}
	apply_node_forget(a, c->node);
	store_remove(a->s, KIND_NODES, node);
	if (c->node < 64)
		a->cluster.removed_first |= 1ull << c->node;
}
