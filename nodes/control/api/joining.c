/* Nodes that come and go.
 *
 * Happy path: an operator has a token minted: a random secret, of which the tables keep the hash, the pin of the cluster's CA, and
 * whom to ask. Another machine shows it to any voter, with requests for its certificates and its clock. The voter looks at the
 * clock, has the token used up by a command, which gives the node its number, and answers with certificates, the CA, and for a
 * voter the ring of keys. The leader's membership does the rest.
 * Failure modes: a token that is unknown, expired or used, a name that is taken, a clock that is off: refused, with the reason. An answer
 * that was lost: the same requests with the same token get the same node. Workers admit nobody: they have no keys.
 * Thread: the control loop. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "control/api/api.h"
#include "core/clock.h"
#include "core/fd.h"
#include "core/log.h"
#include "core/must.h"
#include "crypto/pin.h"
#include "crypto/pki.h"
#include "json/build.h"
#include "keys/authority.h"

#define SECRET_BYTES 16
#define HASH_SIZE    (2 * SHA256_BYTES + 1)
#define SKEW_MS_MAX  500
#define ASKED_MAX    5 /* addresses in a token */
#define CERT_DAYS    365u
#define PEM_FILE_MAX 65536u

static void reply_json(struct api_call *call, json_t *body)
{
	struct arm_reply reply = {0};
	CLEANUP_BUF struct buf text = {0};

	json_print(&text, body, false);
	json_decref(body);
	arm_reply_text(&reply, 200, "application/json; charset=utf-8", buf_str(&text));
	crypto_wipe(text.p, text.n);
	api_finish(call, &reply);
}

static void refuse(struct api_call *call, int status, const char *code, struct str message)
{
	struct arm_reply reply = {0};

	arm_reply_error(&reply, status, code, "%.*s", STR_ARGS(message));
	api_finish(call, &reply);
}

/* -- The CA ----------------------------------------------------------------------------------------------------- */

static int ca_bundle(struct control *c, struct buf *to, struct err *err)
{
	char path[PATH_MAX];

	if (keys_ca_bundle(c->keys).n > 0) {
		buf_add_str(to, keys_ca_bundle(c->keys));
		return 0;
	}
	must(str_copy(c->config.ca_cert, path, sizeof path) == 0);
	return fd_read_file(path, PEM_FILE_MAX, to, err);
}

void joining_ca_run(struct api_call *call)
{
	CLEANUP_BUF struct buf bundle = {0};
	struct arm_reply reply = {0};
	struct err err = {0};

	if (ca_bundle(api_control(call->api), &bundle, &err) < 0)
		arm_reply_error(&reply, 503, "ServiceUnavailable", "%s", err.message);
	else
		arm_reply_text(&reply, 200, "application/x-pem-file", buf_str(&bundle));
	api_finish(call, &reply);
}

/* -- Tokens ----------------------------------------------------------------------------------------------------- */

static void hash_of(struct str text, char ret[HASH_SIZE])
{
	uint8_t hash[SHA256_BYTES];

	crypto_sha256(text, hash);
	crypto_hex(hash, sizeof hash, ret);
}

/* Whom the new node may ask: voters that are up, over TLS. */
static uint32_t add_addresses(struct control *c, struct buf *to)
{
	uint32_t n = 0;

	for (const struct node_row *row = NULL; (row = state_next_node(c->state, row)) != NULL;) {
		struct str address = row->api_address;

		if (n == ASKED_MAX || row->member != MEMBER_VOTER || row->state != NODE_UP ||
		    !str_starts(address, STR("https://")))
			continue;
		buf_printf(to, "%s%.*s", n == 0 ? "." : ",", STR_ARGS(str_slice(address, 8, address.n)));
		n++;
	}
	return n;
}

static void token_kept(struct api_call *call, const struct msg_proposed *result)
{
	const struct arm_join_token_ask *ask = &call->outcome.join_token;
	const struct buf *token = call->held;
	char expires[CLOCK_TEXT_SIZE];
	json_t *body;

	if (result->code != 0) {
		refuse(call, result->code == -ENOBUFS ? 409 : 503, "JoinTokenNotMade",
		       result->message.n > 0 ? result->message : STR("the cluster did not answer in time"));
		return;
	}
	body = json_new_object();
	json_put_str(body, "token", buf_str(token));
	json_put_cstr(body, "expiresAt", clock_text(clock_wall_ms() + ask->life_ms, expires));
	json_put_cstr(body, "role", ask->voter ? "voter" : "worker");
	reply_json(call, body);
}

void joining_token_run(struct api_call *call)
{
	const struct arm_join_token_ask *ask = &call->outcome.join_token;
	struct control *c = api_control(call->api);
	uint8_t random[SECRET_BYTES];
	char secret[2 * SECRET_BYTES + 1], pin[PIN_TEXT_SIZE], hash[HASH_SIZE];
	struct buf *token = arena_alloc(&call->arena, sizeof *token);
	CLEANUP_BUF struct buf text = {0};
	struct err err = {0};

	must(token != NULL);
	if (keys_ca_key(c->keys).n == 0) {
		refuse(call, 409, "NotAVoter", STR("Join tokens are minted by voters: ask another node."));
		return;
	}
	if (pin_of(keys_ca_cert(c->keys), pin, &err) < 0) {
		refuse(call, 503, "ServiceUnavailable", str_of(err.message));
		return;
	}
	crypto_random(random, sizeof random);
	crypto_hex(random, sizeof random, secret);
	hash_of(str_of(secret), hash);
	buf_printf(&text, "berth1.%s.%s", secret, pin);
	crypto_wipe(random, sizeof random);
	if (add_addresses(c, &text) == 0) {
		refuse(call, 409, "NoTls",
		       STR("No voter serves its API over TLS (listen_tls), which joining needs."));
		return;
	}
	struct str kept = arena_str(&call->arena, buf_str(&text));

	*token = (struct buf){.p = (char *)(uintptr_t)kept.p, .n = kept.n};
	call->held = token;
	crypto_wipe(text.p, text.n);
	crypto_wipe(secret, sizeof secret);
	api_propose(
		call, COMMAND_NODE_TOKEN,
		&(struct cmd_node_token){.hash = str_of(hash), .voter = ask->voter, .life_ms = ask->life_ms},
		token_kept);
}

/* -- Joining ---------------------------------------------------------------------------------------------------- */

static void tell_refused(struct api_call *call, int status, const char *code, struct str message)
{
	const struct arm_join_ask *ask = &call->outcome.join;

	log_warn("a machine that would be node \"%.*s\" was refused: %.*s", STR_ARGS(ask->name),
		 STR_ARGS(message));
	refuse(call, status, code, message);
}

static void refuse_command(struct api_call *call, const struct msg_proposed *result)
{
	static const struct {
		int code, status;
		const char *name;
	} known[] = {
		{-ENOKEY, 403, "JoinTokenUnknown"}, {-ETIME, 403, "JoinTokenExpired"},
		{-EALREADY, 403, "JoinTokenUsed"},  {-EEXIST, 409, "NodeNameTaken"},
		{-EADDRINUSE, 409, "AddressTaken"}, {-EINVAL, 400, "InvalidRequestContent"},
		{-ENOBUFS, 409, "TooManyNodes"},
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (known[i].code == result->code) {
			tell_refused(call, known[i].status, known[i].name, result->message);
			return;
		}
	}
	tell_refused(call, 503, "ServiceUnavailable",
		     STR("the cluster did not answer in time: try again, with the same token"));
}

static int issue(struct control *c, const struct node_row *row, enum authority_use use, struct str csr,
		 struct buf *to, struct err *err)
{
	struct authority_order order = {
		.use = use,
		.csr = csr,
		.node = row->id,
		.node_name = row->name,
		.voter = row->voter,
		.addresses = {row->control_address, row->peer_address, row->api_address, row->raft_address},
		.n_addresses = row->raft_address.n > 0 ? 4 : 3,
		.lifetime_ms = CERT_DAYS * PKI_DAY_S * 1000ull,
		.cluster = state_cluster(c->state)};

	return authority_issue(c->keys, &order, to, err);
}

static void put_members(struct control *c, json_t *body, uint64_t but)
{
	json_t *list = json_put_array(body, "members");

	for (const struct node_row *row = NULL; (row = state_next_node(c->state, row)) != NULL;) {
		json_t *to;

		if (row->id == but || row->member != MEMBER_VOTER)
			continue;
		to = json_push_object(list);
		json_put_u64(to, "id", row->id);
		json_put_str(to, "name", row->name);
		json_put_str(to, "raftAddress", row->raft_address);
		json_put_str(to, "controlAddress", row->control_address);
		json_put_str(to, "forwardAddress", row->peer_address);
	}
}

static void welcome(struct api_call *call, const struct node_row *row, struct str cert, struct str clients)
{
	struct control *c = api_control(call->api);
	const struct cluster_row *cluster = state_cluster(c->state);
	CLEANUP_BUF struct buf ring = {0}, bundle = {0};
	json_t *body = json_new_object();

	json_put_u64(body, "id", row->id);
	json_put_cstr(body, "role", row->voter ? "voter" : "worker");
	json_put_str(body, "cluster", cluster->id);
	json_put_u64(body, "incarnation", cluster->incarnation);
	json_put_str(body, "tenant", cluster->settings.tenant);
	json_put_str(body, "domain", cluster->settings.domain);
	json_put_str(body, "environment", cluster->settings.environment);
	json_put_str(body, "region", cluster->settings.region);
	json_put_str(body, "audience", c->config.audience);
	json_put_str(body, "certificate", cert);
	json_put_str(body, "clientsCertificate", clients);
	if (ca_bundle(c, &bundle, NULL) == 0)
		json_put_str(body, "ca", buf_str(&bundle));
	if (row->voter) {
		keyring_print(c->ring, &ring);
		json_put_str(body, "keyring", buf_str(&ring));
		crypto_wipe(ring.p, ring.n);
	}
	put_members(c, body, row->id);
	log_info("node \"%.*s\" was admitted as %s, number %" PRIu64, STR_ARGS(row->name),
		 row->voter ? "voter" : "worker", row->id);
	reply_json(call, body);
}

static void admitted(struct api_call *call, const struct msg_proposed *result)
{
	const struct arm_join_ask *ask = &call->outcome.join;
	struct control *c = api_control(call->api);
	const struct node_row *row = result->code == 0 ? state_node(c->state, result->id) : NULL;
	CLEANUP_BUF struct buf cert = {0}, clients = {0};
	struct err err = {0};

	if (result->code != 0) {
		refuse_command(call, result);
		return;
	}
	if (row == NULL) {
		tell_refused(call, 403, "JoinTokenUsed", STR("the node of this token was removed meanwhile"));
		return;
	}
	int r = issue(c, row, AUTHORITY_PEER, ask->csr, &cert, &err);

	if (r == 0)
		r = issue(c, row, AUTHORITY_CLIENTS, ask->clients_csr, &clients, &err);
	if (r < 0)
		tell_refused(call, r == -EINVAL ? 400 : 503, "CertificateNotIssued", str_of(err.message));
	else
		welcome(call, row, buf_str(&cert), buf_str(&clients));
}

/* now: when the request came; it may have waited for the tables since. */
static int check_clock(struct control *c, uint64_t clock_ms, uint64_t now, struct err *err)
{
	uint64_t apart = clock_ms > now ? clock_ms - now : now - clock_ms;

	if (apart <= SKEW_MS_MAX)
		return 0;
	return err_set(err, -EINVAL,
		       "the machine's clock is %" PRIu64
		       " ms %s that of node %.*s; %d ms are allowed: set it, best by "
		       "NTP on all nodes",
		       apart, clock_ms > now ? "ahead of" : "behind", STR_ARGS(c->config.node_name),
		       SKEW_MS_MAX);
}

/* What is wrong with addresses would be noticed late: the log takes dotted quads alone. */
static int check_addresses(const struct arm_join_ask *ask, struct err *err)
{
	const struct {
		const char *name;
		struct str value;
	} fields[] = {{"raftAddress", ask->raft_address},
		      {"controlAddress", ask->control_address},
		      {"forwardAddress", ask->peer_address}};
	struct sockaddr_storage socket;

	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		if (fields[i].value.n > 0 && mesh_address(fields[i].value, &socket, err) < 0)
			return err_wrap(err, "%s", fields[i].name);
	}
	return 0;
}

void joining_run(struct api_call *call)
{
	const struct arm_join_ask *ask = &call->outcome.join;
	struct control *c = api_control(call->api);
	char hash[HASH_SIZE], key[HASH_SIZE];
	struct err err = {0};

	if (keys_ca_key(c->keys).n == 0 || c->ring == NULL) {
		refuse(call, 409, "NotAVoter", STR("This node cannot admit others: ask a voter."));
		return;
	}
	hash_of(ask->secret, hash);
	hash_of(ask->csr, key);
	/* These tables are the latest: strangers write nothing into the log. */
	if (state_join_token(c->state, str_of(hash)) == NULL) {
		tell_refused(call, 403, "JoinTokenUnknown",
			     STR("token: this cluster has no such join token"));
		return;
	}
	if (ask->feature_level < state_cluster(c->state)->feature_level) {
		tell_refused(call, 409, "VersionTooOld",
			     STR("the machine's version is older than what the cluster uses: "
				 "install " BERTH_VERSION));
		return;
	}
	if (check_clock(c, ask->clock_ms, call->question.now_ms, &err) < 0) {
		tell_refused(call, 409, "ClockSkew", str_of(err.message));
		return;
	}
	if (check_addresses(ask, &err) < 0) {
		tell_refused(call, 400, "InvalidRequestContent", str_of(err.message));
		return;
	}
	api_propose(call, COMMAND_NODE_ADMIT,
		    &(struct cmd_node_admit){.hash = str_of(hash),
					     .key = str_of(key),
					     .name = ask->name,
					     .raft_address = ask->raft_address,
					     .control_address = ask->control_address,
					     .peer_address = ask->peer_address,
					     .api_address = ask->api_address,
					     .version = ask->version},
		    admitted);
}

/* -- Leaving ---------------------------------------------------------------------------------------------------- */

static void leaves(struct api_call *call, const struct msg_proposed *result)
{
	const struct arm_leave_ask *ask = &call->outcome.leave;
	json_t *body;

	if (result->code != 0) {
		refuse(call,
		       result->code == -ENOENT        ? 404
		       : result->code == -EINPROGRESS ? 503
						      : 409,
		       result->code == -EBUSY   ? "NodeHasSessions"
		       : result->code == -EPERM ? "QuorumWouldBeLost"
						: "NodeNotRemoved",
		       result->message.n > 0 ? result->message : STR("the cluster did not answer in time"));
		return;
	}
	body = json_new_object();
	json_put_u64(body, "id", ask->node);
	json_put_str(body, "name", ask->name);
	json_put_cstr(body, "state", "leaving");
	reply_json(call, body);
}

void joining_leave_run(struct api_call *call)
{
	const struct arm_leave_ask *ask = &call->outcome.leave;

	api_propose(call, COMMAND_NODE_LEAVE, &(struct cmd_node_leave){ask->node, ask->force}, leaves);
}
