#include "cluster/node_files.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"

int node_place_open(struct node_place *p, const char *dir, const char *user_name, struct err *err)
{
	struct passwd *user = getpwnam(user_name);

	if (user == NULL)
		return err_set(err, -ENOENT,
			       "--user: there is no user \"%s\"; make one: useradd --system --shell "
			       "/usr/sbin/nologin %s",
			       user_name, user_name);
	if (user->pw_uid == 0)
		return err_set(err, -EINVAL, "--user: berthd must not run as root");
	p->user = user_name;
	p->uid = user->pw_uid;
	p->gid = user->pw_gid;
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return err_system(err, -errno, "make %s", dir);
	if (realpath(dir, p->dir) == NULL)
		return err_system(err, -errno, "%s", dir);
	return 0;
}

int node_place_put(const struct node_place *p, const char *name, unsigned mode, bool daemons,
		   struct str bytes, struct err *err)
{
	char path[PATH_MAX + 192];

	snprintf(path, sizeof path, "%s/%s", p->dir, name);
	int r = fd_write_file(path, mode, bytes.p, bytes.n, err);

	if (r == 0 && daemons && chown(path, p->uid, p->gid) < 0)
		r = err_system(err, -errno, "%s: give it to %s", path, p->user);
	return r;
}

static void option(struct buf *to, const char *name, const char *value)
{
	if (value != NULL && value[0] != '\0')
		buf_printf(to, "%s = %s\n", name, value);
}

int node_config_write(const struct node_place *p, const struct node_config *c, struct err *err)
{
	CLEANUP_BUF struct buf text = {0};
	char d[PATH_MAX + 72], name[128];

	snprintf(d, sizeof d, "%s/%s", p->dir, c->name);
	buf_printf(&text,
		   "# One node of a Berth cluster. Every option: berthd --config-reference\n"
		   "node_id = %" PRIu64 "\nnode_name = %s\nrole = %s\n",
		   c->id, c->name, c->worker ? "worker" : "voter");
	if (c->incarnation > 1)
		buf_printf(&text, "incarnation = %" PRIu64 "\n", c->incarnation);
	if (c->joined)
		buf_printf(&text, "joined = 1\n");
	buf_add_str(&text, c->members);
	buf_printf(&text, "cluster_id = %s\ntenant = %s\n", c->cluster, c->tenant);
	buf_printf(&text, "state_dir = %s/state\nrun_dir = %s/run\n", d, d);
	buf_printf(&text, "listen = %s:%u\nlisten_tls = %s:%u\n", c->host, c->port + 3, c->host, c->port + 4);
	buf_printf(&text, "api_url = https://%s:%u\naudience = %s\n", c->host, c->port + 4, c->audience);
	buf_printf(&text, "tls_cert = %s/tls.pem\ntls_key = %s/tls.key\n", d, d);
	buf_printf(&text, "ca_cert = %s/ca.pem\nnode_cert = %s/node.pem\nnode_key = %s/node.key\n", d, d, d);
	if (c->first_keys)
		buf_printf(&text, "first_keys = %s/first-keys\n", d);
	if (!c->worker)
		buf_printf(&text, "keyring = %s/keyring\n", d);
	buf_printf(&text, "sandboxd_socket = %s/run/sandboxd/socket\nadmin_socket = %s/run/admin/socket\n", d,
		   d);
	buf_printf(&text, "user = %s\ngateway_loops = %u\n", p->user, c->gateway_loops);
	/* Nodes that share a machine must not share uids. */
	buf_printf(&text, "uid_base = %" PRIu64 "\nuid_count = %u\n", c->uid_base, NODE_UID_COUNT);
	option(&text, "admin_group", c->admin_group);
	option(&text, "domain", c->domain);
	option(&text, "environment", c->environment);
	option(&text, "region", c->region);
	option(&text, "isolation", c->isolation);
	if (c->extra != NULL)
		buf_printf(&text, "%s", c->extra);
	snprintf(name, sizeof name, "%s/berth.conf", c->name);
	return node_place_put(p, name, 0644, false, buf_str(&text), err);
}
