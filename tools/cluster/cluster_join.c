/* Happy path: keys and requests in memory; once the cluster answered, a folder like those that init makes, berth.conf last, so that a
 * folder without it is no node. Failure modes: what was written is left for a look; it has to go before another try. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/cluster.h"
#include "cluster/node_files.h"
#include "config/config.h"
#include "core/must.h"
#include "crypto/digest.h"
#include "crypto/pki.h"

#define SLOTS 24 /* of uids, on one machine */

struct joining {
	struct join_plan plan;
	struct node_place place;
	struct buf key, csr, clients_key, clients_csr;
};

static int check_plan(const struct join_plan *p, struct err *err)
{
	struct in_addr address;

	for (const char *x = p->name; *x != '\0'; x++) {
		bool inner = (*x == '-' || *x == '.') && x != p->name && x[1] != '\0';

		if (!inner && !(*x >= 'a' && *x <= 'z') && !(*x >= '0' && *x <= '9'))
			return err_set(err, -EINVAL,
				       "--name: \"%s\": a-z, 0-9 and, inside, '-' and '.' are allowed",
				       p->name);
	}
	if (p->name[0] == '\0' || strlen(p->name) > 63)
		return err_set(err, -EINVAL, "--name: 1 to 63 characters are allowed");
	if (inet_pton(AF_INET, p->host, &address) != 1 || address.s_addr == htonl(INADDR_ANY))
		return err_set(
			err, -EINVAL,
			"--host: \"%s\" is not the IPv4 address that other nodes reach this machine at",
			p->host);
	if (p->base_port < 1024 || p->base_port > 65531)
		return err_set(err, -EINVAL, "--base-port: 1024 to 65531 are allowed");
	return 0;
}

static int make_keys(struct joining *j, struct err *err)
{
	int r = pki_make_key(&j->key, err);

	if (r == 0)
		r = pki_make_csr(buf_str(&j->key), &j->csr, err);
	if (r == 0)
		r = pki_make_key(&j->clients_key, err);
	return r == 0 ? pki_make_csr(buf_str(&j->clients_key), &j->clients_csr, err) : r;
}

int joining_new(const struct join_plan *plan, struct joining **ret, struct err *err)
{
	struct joining *j = calloc(1, sizeof *j);
	char path[PATH_MAX + 72];

	must(j != NULL);
	j->plan = *plan;
	int r = check_plan(plan, err);

	if (r == 0)
		r = node_place_open(&j->place, plan->dir, plan->user, err);
	snprintf(path, sizeof path, "%s/%s", j->place.dir, plan->name);
	if (r == 0 && access(path, F_OK) == 0)
		r = err_set(err, -EEXIST,
			    "%s is there already: end it with: berth node purge, or take another --name",
			    path);
	if (r == 0)
		r = make_keys(j, err);
	if (r < 0) {
		joining_free(j);
		return r;
	}
	*ret = j;
	return 0;
}

void joining_free(struct joining *j)
{
	struct buf *all[] = {&j->key, &j->csr, &j->clients_key, &j->clients_csr};

	for (int i = 0; i < 4; i++) {
		if (all[i]->p != NULL)
			crypto_wipe(all[i]->p, all[i]->n);
		buf_done(all[i]);
	}
	free(j);
}

struct str joining_csr(const struct joining *j, bool clients)
{
	return buf_str(clients ? &j->clients_csr : &j->csr);
}

void joining_address(const struct joining *j, unsigned i, char *to, size_t size)
{
	snprintf(to, size, "%s:%u", j->plan.host, j->plan.base_port + i);
}

/* Uids that no other node below this directory has. */
static uint64_t free_uids(const char *dir)
{
	bool taken[SLOTS] = {0};
	DIR *d = opendir(dir);
	struct dirent *entry;
	unsigned i = 0;

	while (d != NULL && (entry = readdir(d)) != NULL) {
		char path[PATH_MAX + 300];
		struct config config;

		snprintf(path, sizeof path, "%s/%s/berth.conf", dir, entry->d_name);
		if (entry->d_name[0] == '.' || access(path, F_OK) < 0 || config_load(path, &config, NULL) < 0)
			continue;
		uint64_t slot = (config.uid_base - NODE_UID_BASE) / NODE_UID_COUNT;

		if (config.uid_base >= NODE_UID_BASE && slot < SLOTS)
			taken[slot] = true;
		config_done(&config);
	}
	if (d != NULL)
		closedir(d);
	while (i < SLOTS - 1 && taken[i])
		i++;
	return NODE_UID_BASE + (uint64_t)i * NODE_UID_COUNT;
}

static void own_member(const struct joining *j, const struct joined *a, struct buf *to)
{
	const struct join_plan *p = &j->plan;

	buf_printf(to, "member = %" PRIu64 " %s ", a->id, p->name);
	if (a->worker)
		buf_printf(to, "-");
	else
		buf_printf(to, "%s:%u", p->host, p->base_port);
	buf_printf(to, " %s:%u %s:%u\n", p->host, p->base_port + 1, p->host, p->base_port + 2);
	buf_add_str(to, a->members);
}

static int write_config(struct joining *j, const struct joined *a, struct err *err)
{
	CLEANUP_BUF struct buf members = {0};
	struct node_config c = {.id = a->id,
				.name = j->plan.name,
				.worker = a->worker,
				.joined = true,
				.incarnation = a->incarnation,
				.cluster = a->cluster,
				.tenant = a->tenant,
				.audience = a->audience,
				.host = j->plan.host,
				.port = j->plan.base_port,
				.gateway_loops = j->plan.gateway_loops,
				.uid_base = free_uids(j->place.dir),
				.admin_group = j->plan.admin_group,
				.domain = a->domain,
				.environment = a->environment,
				.region = a->region,
				.extra = j->plan.extra};

	own_member(j, a, &members);
	c.members = buf_str(&members);
	return node_config_write(&j->place, &c, err);
}

int joining_write(struct joining *j, const struct joined *a, struct err *err)
{
	const struct {
		const char *name;
		unsigned mode;
		struct str bytes;
	} files[] = {{"ca.pem", 0644, a->ca},
		     {"node.key", 0600, buf_str(&j->key)},
		     {"node.pem", 0644, a->certificate},
		     {"tls.key", 0600, buf_str(&j->clients_key)},
		     {"tls.pem", 0644, a->clients_certificate},
		     {"keyring", 0600, a->keyring}};
	char path[PATH_MAX + 72];
	int r = 0;

	snprintf(path, sizeof path, "%s/%s", j->place.dir, j->plan.name);
	if (mkdir(path, 0755) < 0)
		return err_system(err, -errno, "make %s", path);
	for (size_t i = 0; r == 0 && i < sizeof files / sizeof *files; i++) {
		char name[128];

		if (files[i].bytes.n == 0)
			continue;
		snprintf(name, sizeof name, "%s/%s", j->plan.name, files[i].name);
		r = node_place_put(&j->place, name, files[i].mode, true, files[i].bytes, err);
	}
	return r == 0 ? write_config(j, a, err) : r;
}
