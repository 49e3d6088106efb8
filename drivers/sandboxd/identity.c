/* identity.c -- which cluster and node this state belongs to. The first hello tells; a later sandboxd reads it from
 * <state>/identity and adopts before anybody connects. A hello of another cluster or node is refused: its sandboxes
 * would carry other names, and these would never be found again. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/log.h"
#include "drivers_net/egress.h"
#include "sandboxd/server_state.h"

struct identity {
	struct str cluster;
	uint64_t node;
};

static const struct codec_field identity_fields[] = {
	CODEC_STR(struct identity, cluster, 64),
	CODEC_U64(struct identity, node),
};
static const struct codec_type identity_codec = CODEC_TYPE(struct identity, "identity", identity_fields);

static void path_of(const struct server *s, char ret[SETTINGS_PATH_MAX + 16])
{
	snprintf(ret, SETTINGS_PATH_MAX + 16, "%s/identity", s->o.settings->state_dir);
}

static int open_egress(struct server *s, struct str cluster, uint64_t node, struct err *err)
{
	const struct settings *o = s->o.settings;
	/* 65,536 addresses a node, of the range for carriers' NAT, which is nobody's public address. */
	uint32_t base = (100u << 24) | (64u + (uint32_t)(node % 64)) << 16;
	const struct egress_options egress = {.hash = (uint32_t)str_hash_stable(cluster, node),
					      .base = o->egress_base != 0 ? o->egress_base : base,
					      .resolvers = o->resolvers,
					      .denied = o->denied,
					      .limits = o->egress_limits};

	return s->egress != NULL ? 0 : egress_new(&egress, &s->egress, err);
}

static int begin(struct server *s, struct str cluster, uint64_t node, struct err *err)
{
	int r = open_egress(s, cluster, node, err);

	if (r < 0)
		return r;
	(void)str_copy(cluster, s->cluster, sizeof s->cluster);
	s->node = node;
	log_info("node %" PRIu64 " of cluster %s", node, s->cluster);
	return carriers_open(s, cluster, node, err);
}

int identity_load(struct server *s, struct err *err)
{
	CLEANUP_ARENA struct arena a = {0};
	CLEANUP_BUF struct buf b = {0};
	char path[SETTINGS_PATH_MAX + 16];
	struct identity i;
	int r;

	path_of(s, path);
	if (access(path, F_OK) != 0)
		return 0;
	r = fd_read_file(path, 4096, &b, err);
	if (r == 0)
		r = codec_decode(b.p, b.n, &identity_codec, &a, &i, err);
	return r < 0 ? err_wrap(err, "%s", path) : begin(s, i.cluster, i.node, err);
}

int identity_take(struct server *s, struct str cluster, uint64_t node, struct err *err)
{
	struct identity i = {.cluster = cluster, .node = node};
	CLEANUP_BUF struct buf b = {0};
	char path[SETTINGS_PATH_MAX + 16];
	int r;

	if (cluster.n == 0 || node == 0)
		return err_set(err, -EINVAL, "hello: cluster and node have to be named");
	if (carriers_opened(s)) {
		if (str_eq(cluster, str_of(s->cluster)) && node == s->node)
			return 0;
		return err_set(err, -EPERM, "hello: this state belongs to node %" PRIu64 " of cluster %s",
			       s->node, s->cluster);
	}
	codec_encode(&b, &identity_codec, &i);
	path_of(s, path);
	r = fd_write_file(path, 0600, b.p, b.n, err);
	return r < 0 ? r : begin(s, cluster, node, err);
}
