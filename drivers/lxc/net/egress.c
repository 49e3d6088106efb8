#include "egress.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/fd.h"
#include "core/must.h"
#include "nft.h"
#include "rtnetlink.h"

#define BATCH_BYTES_MAX (1u << 20)
#define ADDRESSES       4096u /* of one node */
#define INSIDE          "eth0"
#define ANY_NODES       "bth*" /* interfaces of all nodes on this machine */
#define FORWARD_FILE    "/proc/sys/net/ipv4/ip_forward"

/* RFC 6890's ranges that are not global, and multicast. Those for documentation are left out: they are routed nowhere,
 * and tests play the outside with one. */
#define SPECIAL                                                                                            \
	"0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24, " \
	"192.88.99.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3"

struct egress {
	pthread_mutex_t lock;
	uint32_t hash, base;
	char resolvers[512], denied[1024];
	bool attached[EGRESS_SLOTS_MAX], on[EGRESS_SLOTS_MAX];
	unsigned n_attached;
	/* What egress_tend() knows: the kernel's count after our last change, and at its last look; the table's content. */
	uint32_t applied, looked;
	uint64_t content; /* 0: changed by us since the last look */
	bool forward_ours;
	int netns; /* ours; a lock on it is one among all nodes of this machine */
};

static void pair_name(const struct egress *e, uint32_t slot, char ret[IF_NAMESIZE])
{
	snprintf(ret, IF_NAMESIZE, "bth%06xn%u", e->hash & 0xffffff, slot % EGRESS_SLOTS_MAX);
}

static void add_address(struct buf *b, uint32_t a)
{
	buf_printf(b, "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
}

/* -- Rules ----------------------------------------------------------------------------------------------------- */

/* "a b" to "a, b" */
static void add_list(struct buf *b, const char *words)
{
	for (; *words != '\0'; words++)
		buf_add(b, *words == ' ' ? ", " : words, *words == ' ' ? 2 : 1);
}

static void add_sets(const struct egress *e, struct buf *b)
{
	bool first = true;

	buf_printf(b, "set on { typeof iifname . ip saddr; ");
	for (uint32_t slot = 0; slot < EGRESS_SLOTS_MAX; slot++) {
		char name[IF_NAMESIZE];

		if (!e->attached[slot] || !e->on[slot])
			continue;
		pair_name(e, slot, name);
		buf_printf(b, "%s\"%s\" . ", first ? "elements = { " : ", ", name);
		add_address(b, e->base + 2 * slot + 1);
		first = false;
	}
	buf_printf(b, first ? "}\n" : " } }\n");
	buf_printf(b, "set denied { type ipv4_addr; flags interval; auto-merge; elements = { " SPECIAL "%s",
		   e->denied[0] != '\0' ? ", " : "");
	add_list(b, e->denied);
	buf_printf(b, " } }\nset resolvers { type ipv4_addr; flags interval; auto-merge; ");
	if (e->resolvers[0] != '\0') {
		buf_printf(b, "elements = { ");
		add_list(b, e->resolvers);
		buf_printf(b, " } ");
	}
	buf_printf(b, "}\n");
}

static void add_chains(const struct egress *e, struct buf *b)
{
	unsigned node = e->hash & 0xffffff;

	buf_printf(
		b,
		"chain input { type filter hook input priority filter - 5; iifname \"bth%06xn*\" drop; }\n",
		node);
	buf_printf(b, "chain out { meta nfproto != ipv4 drop; iifname . ip saddr != @on drop; "
		      "oifname \"" ANY_NODES "\" drop; ip daddr @resolvers udp dport 53 accept; "
		      "ip daddr @resolvers tcp dport 53 accept; meta l4proto { tcp, udp } th dport { 53, 853 "
		      "} drop; "
		      "ip daddr @denied drop; accept; }\n");
	buf_printf(b, "chain back { meta nfproto != ipv4 drop; oifname . ip daddr != @on drop; "
		      "ct state established,related accept; drop; }\n");
	buf_printf(b,
		   "chain forward { type filter hook forward priority filter - 5; iifname \"bth%06xn*\" jump "
		   "out; "
		   "oifname \"bth%06xn*\" jump back; ",
		   node, node);
	buf_printf(b, "}\nchain post { type nat hook postrouting priority srcnat; ip saddr ");
	add_address(b, e->base);
	buf_printf(b, "/20 oifname != \"" ANY_NODES "\" masquerade; }\n");
}

/* Takes the whole table away and puts it back, in one transaction: no packet sees it missing. */
static int apply(struct egress *e, struct err *err)
{
	CLEANUP_BUF struct buf b = BUF_MAX(BATCH_BYTES_MAX);
	unsigned node = e->hash & 0xffffff;

	buf_printf(&b, "add table inet berth_%06x\ndelete table inet berth_%06x\n", node, node);
	if (e->n_attached > 0) {
		buf_printf(&b, "table inet berth_%06x {\n", node);
		add_sets(e, &b);
		add_chains(e, &b);
		buf_printf(&b, "}\n");
	}
	int r = buf_failed(&b) ? err_set(err, -E2BIG, "egress rules: too many") : nft_apply(buf_str(&b), err);

	e->content = 0;
	if (r == 0 && nft_generation(&e->applied) < 0)
		e->applied = 0;
	return r;
}

/* -- Forwarding ------------------------------------------------------------------------------------------------- */

/* A machine that did not forward shall not become everybody's router: while the switch is ours, a table of its own drops
 * what comes from no sandbox and goes to none. The table also remembers, for all nodes on this machine and beyond their
 * daemons, that the switch has to go back. Attaching holds the lock shared, so that nobody switches back meanwhile. */
#define FORWARD_TABLE "inet berth_forward"
static const char forward_batch[] = "add table " FORWARD_TABLE "\ndelete table " FORWARD_TABLE
				    "\ntable " FORWARD_TABLE " { chain forward { "
				    "type filter hook forward priority filter - 5; iifname != \"" ANY_NODES
				    "\" oifname != \"" ANY_NODES "\" drop; }\n}\n";

static void lock_machine(const struct egress *e, int how)
{
	while (flock(e->netns, how) != 0 && errno == EINTR)
		;
}

static int write_forwarding(const char *value, struct err *err)
{
	CLEANUP_FD int fd = open(FORWARD_FILE, O_WRONLY | O_CLOEXEC);

	return fd < 0 || fd_write_all(fd, value, 1) < 0 ? err_system(err, -errno, "write %s", FORWARD_FILE)
							: 0;
}

static int forwards(bool *ret, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	int r = fd_read_file(FORWARD_FILE, 16, &b, err);

	*ret = r == 0 && buf_cstr(&b)[0] == '1';
	return r;
}

/* Under the shared lock, which it keeps. */
static int allow_forwarding(struct egress *e, struct err *err)
{
	bool on;
	int r = forwards(&on, err);

	if (r < 0 || on)
		return r;
	lock_machine(e, LOCK_EX);
	r = forwards(&on, err);
	if (r == 0 && !on)
		r = nft_apply(str_of(forward_batch), err);
	if (r == 0 && !on)
		r = write_forwarding("1", err);
	e->forward_ours = e->forward_ours || (r == 0 && !on);
	lock_machine(e, LOCK_SH);
	return r;
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
static void restore_forwarding(struct egress *e)
{
	if (e->n_attached > 0)
		return;
	e->forward_ours = false;
	if (any_pairs())
		return;
	lock_machine(e, LOCK_EX);
	if (!any_pairs() && nft_has_table(FORWARD_TABLE) && write_forwarding("0", NULL) == 0)
		(void)nft_apply(STR("delete table " FORWARD_TABLE "\n"), NULL);
	lock_machine(e, LOCK_UN);
}

/* -- Pairs ------------------------------------------------------------------------------------------------------ */

static int configure_inside(const struct egress *e, uint32_t slot, int netns)
{
	int r;

	if (setns(netns, CLONE_NEWNET) != 0)
		return -errno;
	r = rtnetlink_address(INSIDE, e->base + 2 * slot + 1, 31);
	if (r == 0)
		r = rtnetlink_up(INSIDE);
	if (r == 0)
		r = rtnetlink_default_route(e->base + 2 * slot);
	must(setns(e->netns, CLONE_NEWNET) == 0);
	return r;
}

static int make_pair(const struct egress *e, uint32_t slot, int netns, struct err *err)
{
	char name[IF_NAMESIZE];
	int r;

	pair_name(e, slot, name);
	r = rtnetlink_veth(name, INSIDE, netns);
	if (r == -EEXIST) { /* of a sandbox that is gone: the slot is ours now */
		(void)rtnetlink_delete(name);
		r = rtnetlink_veth(name, INSIDE, netns);
	}
	if (r < 0)
		return err_system(err, r, "make the interfaces %s and %s", name, INSIDE);
	r = rtnetlink_address(name, e->base + 2 * slot, 31);
	if (r == 0)
		r = rtnetlink_up(name);
	if (r == 0)
		r = configure_inside(e, slot, netns);
	if (r < 0) {
		(void)rtnetlink_delete(name);
		return err_system(err, r, "set up the interface %s", name);
	}
	return 0;
}

static void set_slot(struct egress *e, uint32_t slot, bool attached, bool on)
{
	if (attached != e->attached[slot])
		e->n_attached += attached ? 1u : -1u;
	e->attached[slot] = attached;
	e->on[slot] = on;
}

/* -- Calls ------------------------------------------------------------------------------------------------------ */

int egress_new(const struct egress_options *o, struct egress **ret, struct err *err)
{
	struct egress *e = calloc(1, sizeof *e);

	if (e == NULL)
		return err_set(err, -ENOMEM, "egress: no memory");
	if (o->base % ADDRESSES != 0) {
		free(e);
		return err_set(err, -EINVAL, "egress_base: has to be the first address of a /20");
	}
	e->netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (e->netns < 0) {
		free(e);
		return err_system(err, -errno, "egress: network namespace");
	}
	e->hash = o->hash;
	e->base = o->base;
	snprintf(e->resolvers, sizeof e->resolvers, "%s", o->resolvers);
	snprintf(e->denied, sizeof e->denied, "%s", o->denied);
	pthread_mutex_init(&e->lock, NULL);
	*ret = e;
	return 0;
}

void egress_free(struct egress *e)
{
	pthread_mutex_destroy(&e->lock);
	close(e->netns);
	free(e);
}

int egress_attach(struct egress *e, uint32_t slot, int netns, struct err *err)
{
	int r;

	if (slot >= EGRESS_SLOTS_MAX)
		return err_set(err, -ERANGE, "egress: slot %u, at most %u have one", slot, EGRESS_SLOTS_MAX);
	pthread_mutex_lock(&e->lock);
	set_slot(e, slot, true, true);
	lock_machine(e, LOCK_SH);
	r = apply(e, err);
	if (r == 0)
		r = allow_forwarding(e, err);
	if (r == 0 && e->n_attached == 1 && !e->forward_ours) /* another node's, or the machine's own */
		e->forward_ours = nft_has_table(FORWARD_TABLE);
	if (r == 0)
		r = make_pair(e, slot, netns, err);
	lock_machine(e, LOCK_UN);
	if (r < 0) {
		set_slot(e, slot, false, false);
		(void)apply(e, NULL);
		restore_forwarding(e);
	}
	pthread_mutex_unlock(&e->lock);
	return r < 0 ? err_wrap(err, "egress") : 0;
}

int egress_switch(struct egress *e, uint32_t slot, bool on, struct err *err)
{
	int r = 0;

	must(slot < EGRESS_SLOTS_MAX);
	pthread_mutex_lock(&e->lock);
	if (!e->attached[slot]) {
		r = on ? err_set(err, -ENOTSUP, "it has no interface") : 0;
	} else if (e->on[slot] != on) {
		e->on[slot] = on;
		r = apply(e, err);
		if (r < 0)
			e->on[slot] = !on;
	}
	pthread_mutex_unlock(&e->lock);
	return r < 0 ? err_wrap(err, "egress") : 0;
}

int egress_detach(struct egress *e, uint32_t slot, struct err *err)
{
	char name[IF_NAMESIZE];
	int r = 0;

	if (slot >= EGRESS_SLOTS_MAX)
		return 0;
	pthread_mutex_lock(&e->lock);
	if (e->attached[slot]) {
		pair_name(e, slot, name);
		r = rtnetlink_delete(name);
		r = r == -ENODEV || r == 0 ? 0 : err_system(err, r, "remove the interface %s", name);
		if (r == 0) {
			set_slot(e, slot, false, false);
			r = apply(e, err);
			restore_forwarding(e);
		}
	}
	pthread_mutex_unlock(&e->lock);
	return r;
}

void egress_adopt(struct egress *e, uint32_t slot, bool on)
{
	if (slot < EGRESS_SLOTS_MAX)
		set_slot(e, slot, true, on);
}

int egress_settle(struct egress *e, struct err *err)
{
	struct if_nameindex *all = if_nameindex();
	char prefix[IF_NAMESIZE], table[32];
	unsigned strays = 0;
	int r = 0;

	snprintf(prefix, sizeof prefix, "bth%06xn", e->hash & 0xffffff);
	for (struct if_nameindex *i = all; i != NULL && i->if_name != NULL; i++) {
		unsigned long slot;

		if (strncmp(i->if_name, prefix, strlen(prefix)) != 0)
			continue;
		slot = strtoul(i->if_name + strlen(prefix), NULL, 10);
		if (slot < EGRESS_SLOTS_MAX && e->attached[slot])
			continue;
		(void)rtnetlink_delete(i->if_name);
		strays++;
	}
	if_freenameindex(all);
	snprintf(table, sizeof table, "inet berth_%06x", e->hash & 0xffffff);
	e->forward_ours = e->n_attached > 0 && nft_has_table(FORWARD_TABLE);
	if (e->n_attached + strays > 0 || nft_has_table(table)) {
		r = apply(e, err);
		restore_forwarding(e);
	}
	return r;
}

/* Is the table what we made it? -EAGAIN: somebody changed rules and we had not looked at ours since we did. */
static int check_table(struct egress *e, uint32_t generation)
{
	char table[32];
	uint64_t content;

	snprintf(table, sizeof table, "inet berth_%06x", e->hash & 0xffffff);
	content = nft_fingerprint(table);
	if (content == 0 || (e->content != 0 && e->content != content))
		return -ENOENT;
	if (e->content == 0 && e->applied != generation)
		return -EAGAIN;
	e->content = content;
	return 0;
}

static int tend(struct egress *e, struct err *err)
{
	uint32_t generation = 0;
	int r = nft_generation(&generation), found, restored = 0;
	bool on;

	if (r < 0)
		return err_system(err, r, "the kernel's generation of rules");
	if (generation != e->looked || e->content == 0) {
		found = check_table(e, generation);
		if (e->forward_ours && !nft_has_table(FORWARD_TABLE)) {
			r = nft_apply(str_of(forward_batch), err);
			restored = 1;
		}
		if (r == 0 && found < 0)
			r = apply(e, err);
		if (r == 0 && found < 0)
			(void)check_table(
				e,
				e->applied); /* at once: on a busy machine others change theirs all the time */
		restored = restored || found == -ENOENT;
		e->looked = generation;
	}
	if (r == 0 && forwards(&on, NULL) == 0 && !on) {
		lock_machine(e, LOCK_SH);
		r = allow_forwarding(e, err);
		lock_machine(e, LOCK_UN);
		restored = 1;
	}
	return r < 0 ? r : restored;
}

int egress_tend(struct egress *e, struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&e->lock);
	if (e->n_attached > 0)
		r = tend(e, err);
	pthread_mutex_unlock(&e->lock);
	return r < 0 ? err_wrap(err, "egress") : r;
}

void egress_resolv_conf(const struct egress *e, char *ret, size_t size)
{
	const char *at = e->resolvers;
	size_t used = 0;

	*ret = '\0';
	while (*at != '\0' && used < size) {
		int n = (int)strcspn(at, " ");

		used += (size_t)snprintf(ret + used, size - used, "nameserver %.*s\n", n, at);
		at += n;
		at += strspn(at, " ");
	}
}
