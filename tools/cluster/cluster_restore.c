/* `cluster backup-key`, `cluster backup --check` and `cluster restore`.
 *
 * Happy path of a restore: the backup is read whole and checked; its tables begin a new incarnation with one new node; that
 * node's folder is made as by `cluster init`, with the cluster's own keys; its log begins with the tables as a snapshot.
 * Failure modes: nothing is made unless the backup is whole; what a failure leaves behind has no log yet, remove it. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backup/backup.h"
#include "cluster/founding.h"
#include "cluster/recovery.h"
#include "core/clock.h"
#include "core/fd.h"
#include "crypto/digest.h"
#include "keys/keys.h"
#include "state/state.h"

/* -- Keys of operators ----------------------------------------------------------------------------------------------- */

int backup_key_new(const char *path, cluster_progress *say, void *context, struct err *err)
{
	uint8_t public[PARCEL_KEY_BYTES];
	char text[PARCEL_KEY_TEXT];
	CLEANUP_BUF struct buf identity = {0};

	if (access(path, F_OK) == 0)
		return err_set(err, -EEXIST, "%s: it exists already", path);
	parcel_key_make(public, &identity);
	parcel_key_text(public, text);
	int r = fd_write_file(path, 0600, identity.p, identity.n, err);

	crypto_wipe(identity.p, identity.n);
	if (r == 0)
		say(context, text);
	return r;
}

/* -- What a backup holds ----------------------------------------------------------------------------------------------- */

struct content {
	struct backup backup;
	struct keyring *ring;
	struct state *state;
	struct keys *keys;
};

static void content_done(struct content *c)
{
	keys_free(c->keys);
	keyring_free(c->ring);
	state_free(c->state);
	backup_done(&c->backup);
}

#define CLEANUP_CONTENT __attribute__((cleanup(content_done)))

/* Everything is checked that can be: the tables against their sums and invariants, the keys in them against the ring. */
static int open_content(const char *path, const char *identity, struct content *ret, struct err *err)
{
	int r = backup_read(path, identity, &ret->backup, err);

	if (r == 0)
		r = keyring_parse("in the backup", buf_str(&ret->backup.ring), &ret->ring, err);
	if (r < 0)
		return r;
	ret->state = state_new();
	ret->keys = keys_new(ret->ring);
	r = state_restore(ret->state, ret->backup.tables.p, ret->backup.tables.n, err);
	if (r == 0 && (!str_eq(state_cluster(ret->state)->id, ret->backup.manifest.cluster) ||
		       state_cluster(ret->state)->incarnation != ret->backup.manifest.incarnation))
		r = err_set(err, -EBADMSG, "its tables are not those that its manifest tells of");
	if (r == 0)
		r = keys_refresh(ret->keys, ret->state, err);
	return r < 0 ? err_wrap(err, "%s", path) : 0;
}

static void tell(const struct content *c, cluster_progress *say, void *context)
{
	const struct backup_manifest *m = &c->backup.manifest;
	char line[512], taken[CLOCK_TEXT_SIZE];
	unsigned pools = 0, secrets = 0, sessions = 0;

	for (const struct pool_row *pool = NULL; (pool = state_next_pool(c->state, pool)) != NULL; pools++) {
		const struct secret_row *secret = NULL;
		struct pool_counts n = state_pool_counts(c->state, pool->uid);

		while ((secret = state_next_secret(c->state, pool->uid, secret)) != NULL)
			secrets++;
		sessions += n.live + n.closing;
	}
	snprintf(line, sizeof line,
		 "backup of cluster %.*s, incarnation %" PRIu64 ", made %s by node %" PRIu64
		 " (version %.*s): "
		 "index %" PRIu64 ", %u pools, %u secrets, %u sessions",
		 STR_ARGS(m->cluster), m->incarnation, clock_text(m->taken_ms, taken), m->node,
		 STR_ARGS(m->version), m->index, pools, secrets, sessions);
	say(context, line);
}

int backup_check(const char *path, const char *identity, cluster_progress *say, void *context,
		 struct err *err)
{
	CLEANUP_CONTENT struct content c = {0};
	int r = open_content(path, identity, &c, err);

	if (r == 0)
		tell(&c, say, context);
	return r;
}

/* -- Restore ---------------------------------------------------------------------------------------------------------- */

static const char *text_of(struct str s, const char *given, char *to, size_t size)
{
	if (given != NULL)
		return given;
	return s.n > 0 && str_copy(s, to, size) == 0 ? to : NULL;
}

struct names {
	char raft[64], control[64], peer[64], api[96], domain[256], environment[256], region[256];
};

static struct node_row founder_of(const struct cluster_plan *plan, struct names *n)
{
	unsigned port = plan->base_port;

	snprintf(n->raft, sizeof n->raft, "%s:%u", plan->host, port);
	snprintf(n->control, sizeof n->control, "%s:%u", plan->host, port + 1);
	snprintf(n->peer, sizeof n->peer, "%s:%u", plan->host, port + 2);
	snprintf(n->api, sizeof n->api, "https://%s:%u", plan->host, port + 4);
	return (struct node_row){.name = STR("node1"),
				 .raft_address = str_of(n->raft),
				 .control_address = str_of(n->control),
				 .peer_address = str_of(n->peer),
				 .api_address = str_of(n->api)};
}

static int make_folder(const struct content *c, const struct cluster_plan *plan, uint64_t node,
		       struct names *names, cluster_progress *say, void *context, struct err *err)
{
	const struct cluster_row *cluster = state_cluster(c->state);
	struct cluster_plan mine = *plan;
	struct cluster_given given = {.cluster = cluster->id,
				      .tenant = cluster->settings.tenant,
				      .ring = buf_str(&c->backup.ring),
				      .ca_cert = keys_ca_cert(c->keys),
				      .ca_key = keys_ca_key(c->keys),
				      .ca_file = keys_ca_bundle(c->keys),
				      .node = node,
				      .incarnation = cluster->incarnation};

	if (given.ca_key.n == 0)
		return err_set(err, -ENOKEY, "the backup holds no CA key");
	mine.given = &given;
	mine.nodes = 1;
	mine.workers = 0;
	mine.domain = text_of(cluster->settings.domain, plan->domain, names->domain, sizeof names->domain);
	mine.environment = text_of(cluster->settings.environment, plan->environment, names->environment,
				   sizeof names->environment);
	mine.region = text_of(cluster->settings.region, plan->region, names->region, sizeof names->region);
	return cluster_init(&mine, say, context, err);
}

int cluster_restore(const struct cluster_plan *plan, const char *path, const char *identity,
		    cluster_progress *say, void *context, struct err *err)
{
	CLEANUP_CONTENT struct content c = {0};
	struct names names;
	struct node_row founder = founder_of(plan, &names);
	struct reincarnation next = {.founder = &founder};
	char line[PATH_MAX + 256], dir[PATH_MAX];
	int r = open_content(path, identity, &c, err);

	if (r < 0)
		return r;
	tell(&c, say, context);
	founding_numbers(c.state, &next);
	r = state_reincarnate(c.state, &next, err);
	if (r == 0)
		r = make_folder(&c, plan, next.ret_founder, &names, say, context, err);
	snprintf(dir, sizeof dir, "%s/node1", plan->dir);
	if (r == 0)
		r = founding_log(dir, c.state, 2, state_index(c.state), err);
	if (r < 0)
		return r;
	snprintf(line, sizeof line,
		 "the cluster's new incarnation is %" PRIu64 ", its first node %" PRIu64
		 "; start it with: berth cluster start --dir %s; then others join",
		 next.incarnation, next.ret_founder, plan->dir);
	say(context, line);
	return 0;
}
