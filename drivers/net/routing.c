#include "routing.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/fd.h"
#include "nft.h"
#include "ranges.h"
#include "rtnetlink.h"

#define ANY_NODES    "bth*" /* interfaces of all nodes on this machine */
#define FORWARD_FILE "/proc/sys/net/ipv4/ip_forward"
#define PREFERENCE   98 /* before main and what administrators add; after the machine's own addresses */

int routing_open(struct routing *r, uint32_t mark, uint32_t base, struct err *err)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_system(err, -errno, "network namespace");
	*r = (struct routing){.netns = fd, .mark = mark, .base = base};
	return 0;
}

void routing_close(struct routing *r)
{
	fd_close(&r->netns);
}

/* -- Forwarding ------------------------------------------------------------------------------------------------- */

/* A machine that did not forward shall not become everybody's router: while the switch is ours, a table of its own drops
 * what comes from no sandbox and goes to none. The table also remembers, for all nodes on this machine and beyond their
 * daemons, that the switch has to go back. */
#define FORWARD_TABLE "inet berth_forward"
static const char forward_batch[] = "add table " FORWARD_TABLE "\ndelete table " FORWARD_TABLE
				    "\ntable " FORWARD_TABLE " { chain forward { "
				    "type filter hook forward priority filter - 5; iifname != \"" ANY_NODES
				    "\" oifname != \"" ANY_NODES "\" drop; }\n}\n";

static void lock_machine(const struct routing *r, int how)
{
	while (flock(r->netns, how) != 0 && errno == EINTR)
		;
}

void routing_lock(const struct routing *r)
{
	lock_machine(r, LOCK_SH);
}

void routing_unlock(const struct routing *r)
{
	lock_machine(r, LOCK_UN);
}

static int write_setting(const char *path, const char *value, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || fd_write_all(fd, value, strlen(value)) < 0
		       ? err_system(err, -errno, "write %s", path)
		       : 0;
}

static int forwards(bool *ret, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	int e = fd_read_file(FORWARD_FILE, 16, &b, err);

	*ret = e == 0 && buf_cstr(&b)[0] == '1';
	return e;
}

static int allow_forwarding(struct routing *r, struct err *err)
{
	bool on;
	int e = forwards(&on, err);

	if (e < 0 || on)
		return e;
	lock_machine(r, LOCK_EX);
	e = forwards(&on, err);
	if (e == 0 && !on)
		e = nft_apply(str_of(forward_batch), err);
	if (e == 0 && !on)
		e = write_setting(FORWARD_FILE, "1", err);
	r->forward_ours = r->forward_ours || (e == 0 && !on);
	lock_machine(r, LOCK_SH);
	return e;
}

static bool any_pairs(void)
{
	struct if_nameindex *all = if_nameindex();
	bool found = false;

	for (struct if_nameindex *i = all; i != NULL && i->if_name != NULL; i++)
		found = found || strncmp(i->if_name, "bth", 3) == 0;
	if_freenameindex(all);
	return found;
}

/* With the last pair on this machine, of whichever node, forwarding goes back to what it was. */
static void restore_forwarding(struct routing *r)
{
	r->forward_ours = false;
	if (any_pairs())
		return;
	lock_machine(r, LOCK_EX);
	if (!any_pairs() && nft_has_table(FORWARD_TABLE) && write_setting(FORWARD_FILE, "0", NULL) == 0)
		(void)nft_apply(STR("delete table " FORWARD_TABLE "\n"), NULL);
	lock_machine(r, LOCK_UN);
}

/* -- Routes ----------------------------------------------------------------------------------------------------- */

/* What the node adds to the machine's routing, beside the ways to its sandboxes. */
struct own {
	struct rtnetlink_rule marked, errors;
	struct rtnetlink_route nowhere;
};

static struct own own_of(const struct routing *r)
{
	return (struct own){
		.marked = {.preference = PREFERENCE, .table = r->mark, .mark = r->mark},
		.errors = {.preference = PREFERENCE,
			   .table = r->mark,
			   .to = r->base,
			   .bits = RANGES_OWN_BITS},
		/* The metric is the node's: another one on this machine may have the same addresses. */
		.nowhere = {.to = r->base, .bits = RANGES_OWN_BITS, .metric = r->mark}};
}

/* How many of the node's were missing; -errno. */
static int add_routes(const struct routing *r, struct err *err)
{
	const struct own own = own_of(r);
	const struct rtnetlink_rule *const rules[] = {&own.marked, &own.errors};
	int added = 0, e = rtnetlink_route(&own.nowhere, true);

	for (size_t i = 0; i < 2 && (e == 0 || e == -EEXIST); i++) {
		added += e == 0;
		e = rtnetlink_rule(rules[i], true);
	}
	if (e != 0 && e != -EEXIST)
		return err_system(err, e, "routes of sandboxes");
	return added + (e == 0);
}

static void remove_routes(const struct routing *r)
{
	const struct own own = own_of(r);

	(void)rtnetlink_rule(&own.marked, false);
	(void)rtnetlink_rule(&own.errors, false);
	(void)rtnetlink_route(&own.nowhere, false);
}

int routing_to(const struct routing *r, const char *device, uint32_t address)
{
	const struct rtnetlink_route route = {.to = address, .bits = 32, .device = device, .table = r->mark};

	return rtnetlink_route(&route, true);
}

static int write_conf(const char *family, const char *device, const char *name, const char *value,
		      struct err *err)
{
	char path[96];

	snprintf(path, sizeof path, "/proc/sys/net/%s/conf/%s/%s", family, device, name);
	return write_setting(path, value, err);
}

int routing_no_ipv6(const char *device)
{
	if (access("/proc/sys/net/ipv6", F_OK) != 0)
		return 0; /* there is none at all */
	int e = write_conf("ipv6", device, "disable_ipv6", "1", NULL);

	/* Somebody who writes conf/all/disable_ipv6 writes all: then there is still no address. */
	return e < 0 ? e : write_conf("ipv6", device, "addr_gen_mode", "1", NULL);
}

int routing_guard(const char *device, struct err *err)
{
	static const char *const settings[][2] = {{"rp_filter", "1"},
						  {"src_valid_mark", "1"},
						  {"forwarding", "1"},
						  {"send_redirects", "0"},
						  {"accept_redirects", "0"}};
	int e = 0;

	for (size_t i = 0; i < sizeof settings / sizeof *settings && e == 0; i++)
		e = write_conf("ipv4", device, settings[i][0], settings[i][1], err);
	if (e == 0 && (e = routing_no_ipv6(device)) < 0)
		err_system(err, e, "turn off IPv6 of %s", device);
	return e;
}

/* -- Calls ------------------------------------------------------------------------------------------------------ */

int routing_begin(struct routing *r, struct err *err)
{
	int e = add_routes(r, err);

	return e < 0 ? e : allow_forwarding(r, err);
}

void routing_adopt(struct routing *r)
{
	r->forward_ours = nft_has_table(FORWARD_TABLE);
}

void routing_end(struct routing *r)
{
	remove_routes(r);
	restore_forwarding(r);
}

int routing_tend(struct routing *r, bool changed, bool *ret_routes, struct err *err)
{
	bool on, restored = false;
	int e = add_routes(r, err);

	*ret_routes = e > 0;
	restored = e > 0;
	if (e >= 0 && changed && r->forward_ours && !nft_has_table(FORWARD_TABLE)) {
		e = nft_apply(str_of(forward_batch), err);
		restored = true;
	}
	if (e >= 0 && forwards(&on, NULL) == 0 && !on) {
		routing_lock(r);
		e = allow_forwarding(r, err);
		routing_unlock(r);
		restored = true;
	}
	return e < 0 ? e : restored;
}
