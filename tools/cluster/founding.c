#include "cluster/founding.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "consensus/disk/founding.h"
#include "core/clock.h"
#include "core/fd.h"

#define COUNTER_MARGIN (1ull << 32)
#define IDS_A_SECOND   20 /* as a power of two: so many ids are never given in a second on average */

/* Both come from the clock: whoever restores one backup twice, or recovers two nodes, makes two incarnations that differ, and
 * ids that nobody was given before. Where the clock is wrong, they at least grow. */
void founding_numbers(const struct state *state, struct reincarnation *to)
{
	const struct cluster_row *cluster = state_cluster(state);
	uint64_t seconds = clock_wall_ms() / 1000;

	to->incarnation = seconds > cluster->incarnation ? seconds : cluster->incarnation + 1;
	to->counter = cluster->counter + COUNTER_MARGIN;
	if (seconds << IDS_A_SECOND > to->counter)
		to->counter = seconds << IDS_A_SECOND;
}

/* -- The log ----------------------------------------------------------------------------------------------------------- */

static int write_snapshot(const void *snapshot, int (*write)(void *to, const void *p, size_t n), void *to)
{
	return state_snapshot_write(snapshot, write, to);
}

static int make_dir(const char *path, const struct passwd *user, struct err *err)
{
	if ((mkdir(path, 0700) < 0 && errno != EEXIST) || chown(path, user->pw_uid, user->pw_gid) < 0)
		return err_system(err, -errno, "make %s", path);
	return 0;
}

static int give_away(const char *dir, const struct passwd *user, struct err *err)
{
	char path[PATH_MAX + 300];
	struct dirent *e;
	int r = 0;
	DIR *d = opendir(dir);

	if (d == NULL || chown(dir, user->pw_uid, user->pw_gid) < 0)
		r = err_system(err, -errno, "%s", dir);
	while (r == 0 && (e = readdir(d)) != NULL) {
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		if (e->d_name[0] != '.' && chown(path, user->pw_uid, user->pw_gid) < 0)
			r = err_system(err, -errno, "%s", path);
	}
	if (d != NULL)
		closedir(d);
	return r;
}

static int set_aside(const char *dir, uint64_t incarnation, struct err *err)
{
	static const char *const parts[] = {"", ".watermark"};
	char from[PATH_MAX + 32], to[PATH_MAX + 64];

	for (size_t i = 0; i < 2; i++) {
		snprintf(from, sizeof from, "%s%s", dir, parts[i]);
		snprintf(to, sizeof to, "%s.before-%" PRIu64 "%s", dir, incarnation, parts[i]);
		if (rename(from, to) < 0 && errno != ENOENT)
			return err_system(err, -errno, "%s", from);
	}
	return 0;
}

/* In a folder beside it, so that a failure leaves the old one. */
static int found(const char *dir, const struct config *config, const char *address, const struct state *state,
		 uint64_t term, uint64_t index, struct err *err)
{
	struct state_snapshot *view = state_snapshot_new((struct state *)(uintptr_t)state);
	struct consensus_founding f = {.dir = dir,
				       .id = config->node_id,
				       .address = address,
				       .index = index,
				       .term = term,
				       .snapshot = view,
				       .snapshot_write = write_snapshot};
	int r = consensus_found(&f, err);

	state_snapshot_free(view);
	return r;
}

static int own_address(const struct config *config, char *ret, size_t size, struct err *err)
{
	for (uint32_t i = 0; i < config->n_members; i++) {
		if (config->members[i].id == config->node_id && config->members[i].raft.n > 0)
			return str_copy(config->members[i].raft, ret, size);
	}
	return err_set(err, -EINVAL, "this node is no voter: it has no Raft address");
}

static int replace_log(const struct config *config, const struct state *state, uint64_t term, uint64_t index,
		       struct err *err)
{
	char user_name[64], base[PATH_MAX], dir[PATH_MAX], fresh[PATH_MAX], address[128], mark[PATH_MAX + 32],
		fresh_mark[PATH_MAX + 32];
	int r = own_address(config, address, sizeof address, err);

	if (r < 0)
		return r;
	snprintf(user_name, sizeof user_name, "%.*s", STR_ARGS(config->user));
	snprintf(base, sizeof base, "%.*s/berthd", STR_ARGS(config->state_dir));
	snprintf(dir, sizeof dir, "%.*s/berthd/raft", STR_ARGS(config->state_dir));
	snprintf(fresh, sizeof fresh, "%.*s/berthd/raft.new", STR_ARGS(config->state_dir));
	snprintf(mark, sizeof mark, "%s.watermark", dir);
	snprintf(fresh_mark, sizeof fresh_mark, "%s.watermark", fresh);
	const struct passwd *user = getpwnam(user_name);

	if (user == NULL)
		return err_set(err, -ENOENT, "user: there is no user \"%s\"", user_name);
	r = make_dir(base, user, err);
	if (r == 0)
		r = found(fresh, config, address, state, term, index, err);
	if (r == 0)
		r = give_away(fresh, user, err);
	if (r == 0 && chown(fresh_mark, user->pw_uid, user->pw_gid) < 0)
		r = err_system(err, -errno, "%s", fresh_mark);
	if (r == 0)
		r = set_aside(dir, state_cluster(state)->incarnation, err);
	if (r == 0 && (rename(fresh_mark, mark) < 0 || rename(fresh, dir) < 0))
		r = err_system(err, -errno, "%s", dir);
	return r;
}

int founding_log(const char *node_dir, const struct state *state, uint64_t term, uint64_t index,
		 struct err *err)
{
	char path[PATH_MAX + 32];
	struct config config;

	snprintf(path, sizeof path, "%s/berth.conf", node_dir);
	int r = config_load(path, &config, err);

	if (r < 0)
		return r;
	snprintf(path, sizeof path, "%.*s", STR_ARGS(config.state_dir));
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		r = err_system(err, -errno, "make %s", path);
	if (r == 0)
		r = replace_log(&config, state, term, index, err);
	config_done(&config);
	return r;
}
