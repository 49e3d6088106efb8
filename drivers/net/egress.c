#include "egress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conntrack.h"
#include "core/buf.h"
#include "core/fd.h"
#include "core/must.h"
#include "nft.h"
#include "ranges.h"
#include "routing.h"
#include "rtnetlink.h"
#include "tap.h"

#define BATCH_BYTES_MAX (1u << 20)
#define ADDRESSES       (1u << (32 - RANGES_OWN_BITS)) /* of one node */
#define INSIDE          "eth0"

struct egress {
	pthread_mutex_t lock;
	struct rules rules;
	struct routing routing;
	char resolvers[512]; /* of the rules, and these */
	struct buf allowed;
	struct egress_slot slots[EGRESS_SLOTS_MAX];
	unsigned n_attached;
	bool limits;  /* their table is written */
	bool refused; /* the last change was */
	/* What egress_tend() knows: the kernel's count after our last change, and at its last look; the tables' content. */
	uint32_t applied, looked;
	uint64_t content; /* 0: changed by us since the last look */
};

/* -- Rules ----------------------------------------------------------------------------------------------------- */

/* Takes the whole table away and puts it back, in one transaction: no packet sees it missing. */
static int apply(struct egress *e, struct err *err)
{
	CLEANUP_BUF struct buf b = BUF_MAX(BATCH_BYTES_MAX);
	bool limits = e->n_attached > 0;
	int r;

	if (e->n_attached == 0)
		rules_remove(&e->rules, &b);
	else
		rules_table(&e->rules, e->slots, &b);
	if (limits && !e->limits)
		rules_limits(&e->rules, &b);
	if (buf_failed(&b))
		r = err_set(err, -E2BIG, "rules: too many");
	else
		r = nft_apply(buf_str(&b), err);
	if (r == 0)
		e->limits = limits;
	e->refused = r < 0;
	e->content = 0;
	if (r == 0 && nft_generation(&e->applied) < 0)
		e->applied = 0;
	return r;
}

/* -- Devices ---------------------------------------------------------------------------------------------------- */

/* Known at both ends from the beginning, so that nobody has to ask: no address resolution, which would need a route. */
const uint8_t egress_gateway_mac[EGRESS_MAC] = {0x02, 'b', 't', 'h', 0, 0};

static uint32_t outer_address(const struct egress *e, uint32_t slot)
{
	return e->rules.base + 2 * slot;
}

static int configure_inside(const struct egress *e, uint32_t slot, int netns)
{
	const struct rtnetlink_route out = {.gateway = outer_address(e, slot)};
	int r;

	if (setns(netns, CLONE_NEWNET) != 0)
		return -errno;
	r = routing_no_ipv6(INSIDE);
	if (r == 0)
		r = rtnetlink_address(INSIDE, outer_address(e, slot) + 1, 31);
	if (r == 0)
		r = rtnetlink_up(INSIDE);
	if (r == 0)
		r = rtnetlink_neighbour(INSIDE, outer_address(e, slot), egress_gateway_mac);
	if (r == 0)
		r = rtnetlink_route(&out, true);
	must(setns(e->routing.netns, CLONE_NEWNET) == 0);
	return r;
}

static int configure_outside(const struct egress *e, uint32_t slot, const char *name)
{
	uint8_t mac[RTNETLINK_MAC];
	int r = rtnetlink_address(name, outer_address(e, slot), 32);

	rules_mac(&e->rules, slot, mac);
	if (r == 0)
		r = rtnetlink_up(name);
	if (r == 0)
		r = rtnetlink_neighbour(name, outer_address(e, slot) + 1, mac);
	if (r == 0)
		r = routing_to(&e->routing, name, outer_address(e, slot) + 1);
	return r;
}

static int make_link(const struct egress *e, uint32_t slot, const char *name, int netns)
{
	uint8_t mac[RTNETLINK_MAC];

	rules_mac(&e->rules, slot, mac);
	return e->slots[slot].tap ? tap_make(name, egress_gateway_mac)
				  : rtnetlink_veth(name, egress_gateway_mac, INSIDE, mac, netns);
}

/* `netns` -1: of a machine. */
static int make_device(const struct egress *e, uint32_t slot, int netns, struct err *err)
{
	char name[IF_NAMESIZE];
	int r;

	rules_interface(&e->rules, slot, name);
	r = make_link(e, slot, name, netns);
	if (r == -EEXIST) { /* of a sandbox that is gone: the slot is ours now */
		(void)rtnetlink_delete(name);
		r = make_link(e, slot, name, netns);
	}
	if (r < 0)
		return err_system(err, r, "make the interface %s", name);
	r = routing_guard(name, err);
	if (r == 0 && (r = configure_outside(e, slot, name)) < 0)
		err_system(err, r, "set up the interface %s", name);
	if (r == 0 && netns >= 0 && (r = configure_inside(e, slot, netns)) < 0)
		err_system(err, r, "set up the interface %s of %s", INSIDE, name);
	if (r < 0)
		(void)rtnetlink_delete(name);
	return r;
}

static void set_slot(struct egress *e, uint32_t slot, struct egress_slot to)
{
	if (to.attached != e->slots[slot].attached)
		e->n_attached += to.attached ? 1u : -1u;
	e->slots[slot] = to;
}

static void end_if_last(struct egress *e)
{
	if (e->n_attached == 0)
		routing_end(&e->routing);
}

/* -- Calls ------------------------------------------------------------------------------------------------------ */

int egress_new(const struct egress_options *o, struct egress **ret, struct err *err)
{
	struct egress *e = calloc(1, sizeof *e);
	int r = 0;

	if (e == NULL)
		return err_set(err, -ENOMEM, "egress: no memory");
	snprintf(e->resolvers, sizeof e->resolvers, "%s", o->resolvers);
	e->rules = (struct rules){
		.node = o->hash & 0xffffff, .base = o->base, .resolvers = e->resolvers, .limits = o->limits};
	if (o->base % ADDRESSES != 0)
		r = err_set(err, -EINVAL, "egress_base: has to be the first address of a /20");
	else if (ranges_allowed(o->denied, o->base, &e->allowed) < 0)
		r = err_set(err, -EINVAL, "egress_denied: at most %u addresses or ranges", RANGES_MAX / 2);
	if (r == 0)
		r = routing_open(&e->routing, rules_mark(&e->rules), o->base, err);
	if (r < 0) {
		buf_done(&e->allowed);
		free(e);
		return r;
	}
	e->rules.allowed = buf_cstr(&e->allowed);
	pthread_mutex_init(&e->lock, NULL);
	*ret = e;
	return 0;
}

void egress_free(struct egress *e)
{
	pthread_mutex_destroy(&e->lock);
	routing_close(&e->routing);
	buf_done(&e->allowed);
	free(e);
}

static int attach(struct egress *e, uint32_t slot, struct egress_slot as, int netns, struct err *err)
{
	int r;

	if (slot >= EGRESS_SLOTS_MAX)
		return err_set(err, -ERANGE, "egress: slot %u, at most %u have one", slot, EGRESS_SLOTS_MAX);
	pthread_mutex_lock(&e->lock);
	set_slot(e, slot, as);
	routing_lock(&e->routing);
	r = apply(e, err);
	if (r == 0)
		r = routing_begin(&e->routing, err);
	if (r == 0 && e->n_attached == 1 &&
	    !e->routing.forward_ours) /* another node's, or the machine's own */
		routing_adopt(&e->routing);
	if (r == 0)
		r = make_device(e, slot, netns, err);
	routing_unlock(&e->routing);
	if (r < 0) {
		bool refused = e->refused;

		set_slot(e, slot, (struct egress_slot){0});
		(void)apply(e, NULL);
		e->refused = refused;
		end_if_last(e);
	}
	pthread_mutex_unlock(&e->lock);
	return r < 0 ? err_wrap(err, "egress") : 0;
}

int egress_attach(struct egress *e, uint32_t slot, int netns, struct err *err)
{
	return attach(e, slot, (struct egress_slot){.attached = true, .on = true}, netns, err);
}

int egress_attach_tap(struct egress *e, uint32_t slot, bool on, char ret_name[16], struct err *err)
{
	int r = attach(e, slot, (struct egress_slot){.attached = true, .on = on, .tap = true}, -1, err);

	if (r == 0)
		rules_interface(&e->rules, slot, ret_name);
	return r;
}

/* What is not on any more has no connections either. */
static void end_connections(struct egress *e, uint32_t slot)
{
	(void)conntrack_flush(rules_connection_mark(&e->rules, slot));
}

int egress_switch(struct egress *e, uint32_t slot, bool on, struct err *err)
{
	int r = 0;

	must(slot < EGRESS_SLOTS_MAX);
	pthread_mutex_lock(&e->lock);
	if (!e->slots[slot].attached) {
		r = on ? err_set(err, -ENOTSUP, "it has no interface") : 0;
	} else if (e->slots[slot].on != on) {
		e->slots[slot].on = on;
		r = apply(e, err);
		if (r < 0)
			e->slots[slot].on = !on;
		else if (!on)
			end_connections(e, slot);
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
	if (e->slots[slot].attached) {
		rules_interface(&e->rules, slot, name);
		r = rtnetlink_delete(name);
		r = r == -ENODEV || r == 0 ? 0 : err_system(err, r, "remove the interface %s", name);
		if (r == 0) {
			set_slot(e, slot, (struct egress_slot){0});
			r = apply(e, err);
			end_connections(e, slot);
			end_if_last(e);
		}
	}
	pthread_mutex_unlock(&e->lock);
	return r;
}

void egress_adopt(struct egress *e, uint32_t slot, bool on)
{
	if (slot < EGRESS_SLOTS_MAX)
		set_slot(e, slot, (struct egress_slot){.attached = true, .on = on});
}

void egress_adopt_tap(struct egress *e, uint32_t slot, bool on)
{
	if (slot < EGRESS_SLOTS_MAX)
		set_slot(e, slot, (struct egress_slot){.attached = true, .on = on, .tap = true});
}

static unsigned remove_strays(struct egress *e)
{
	struct if_nameindex *all = if_nameindex();
	char prefix[IF_NAMESIZE];
	unsigned n = 0;

	snprintf(prefix, sizeof prefix, "bth%06xn", e->rules.node);
	for (struct if_nameindex *i = all; i != NULL && i->if_name != NULL; i++) {
		unsigned long slot;

		if (strncmp(i->if_name, prefix, strlen(prefix)) != 0)
			continue;
		slot = strtoul(i->if_name + strlen(prefix), NULL, 10);
		if (slot < EGRESS_SLOTS_MAX && e->slots[slot].attached)
			continue;
		(void)rtnetlink_delete(i->if_name);
		n++;
	}
	if_freenameindex(all);
	return n;
}

int egress_settle(struct egress *e, struct err *err)
{
	char table[RULES_NAME_MAX];
	unsigned strays = remove_strays(e);
	int r = 0;

	rules_table_name(&e->rules, table);
	if (e->n_attached + strays == 0 && !nft_has_table(table))
		return 0;
	r = apply(e, err);
	if (e->n_attached == 0) {
		routing_end(&e->routing);
	} else if (r == 0) {
		bool routes;

		routing_adopt(&e->routing);
		r = routing_tend(&e->routing, true, &routes, err);
	}
	return r < 0 ? r : 0;
}

/* Are the tables what we made them? -EAGAIN: somebody changed rules and we had not looked at ours since we did. */
static int check_tables(struct egress *e, uint32_t generation)
{
	char table[RULES_NAME_MAX], arp[RULES_NAME_MAX], limits[RULES_NAME_MAX];
	uint64_t content, asks, bounds;

	rules_table_name(&e->rules, table);
	rules_arp_name(&e->rules, arp);
	rules_limits_name(&e->rules, limits);
	content = nft_fingerprint(table, true);
	asks = nft_fingerprint(arp, true);
	bounds = nft_fingerprint(limits, false);
	e->limits = bounds != 0;
	if (content == 0 || asks == 0 || bounds == 0)
		return -ENOENT;
	content = (content ^ bounds << 1 ^ asks << 2) | 1;
	if (e->content != 0 && e->content != content) {
		e->limits = false; /* whichever it was */
		return -ENOENT;
	}
	if (e->content == 0 && e->applied != generation)
		return -EAGAIN;
	e->content = content;
	return 0;
}

static int tend_tables(struct egress *e, uint32_t generation, struct err *err)
{
	int found = check_tables(e, generation), r = 0;

	if (found < 0) {
		r = apply(e, err);
		if (r == 0) /* at once: on a busy machine others change theirs all the time */
			(void)check_tables(e, e->applied);
	}
	e->looked = generation;
	return r < 0 ? r : found == -ENOENT;
}

/* The ways to all sandboxes, when somebody removed some. */
static void restore_routes(const struct egress *e)
{
	for (uint32_t slot = 0; slot < EGRESS_SLOTS_MAX; slot++) {
		char name[IF_NAMESIZE];

		rules_interface(&e->rules, slot, name);
		if (e->slots[slot].attached)
			(void)routing_to(&e->routing, name, outer_address(e, slot) + 1);
	}
}

static int tend(struct egress *e, struct err *err)
{
	uint32_t generation = 0;
	bool routes = false, changed;
	int r = nft_generation(&generation), tables = 0;

	if (r < 0)
		return err_system(err, r, "the kernel's generation of rules");
	changed = generation != e->looked || e->content == 0 || e->refused;
	if (changed)
		tables = tend_tables(e, generation, err);
	if (tables < 0)
		return tables;
	r = routing_tend(&e->routing, changed, &routes, err);
	if (routes)
		restore_routes(e);
	return r < 0 ? r : r > 0 || tables > 0;
}

/* A change was refused, and there is nothing to look after: can rules be written again? */
static int retry(struct egress *e, struct err *err)
{
	int r;

	e->n_attached = 1; /* of nobody, but the tables as they would be */
	r = apply(e, err);
	e->n_attached = 0;
	return r == 0 ? apply(e, err) : r;
}

int egress_tend(struct egress *e, struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&e->lock);
	if (e->n_attached > 0)
		r = tend(e, err);
	else if (e->refused)
		r = retry(e, err);
	pthread_mutex_unlock(&e->lock);
	return r < 0 ? err_wrap(err, "egress") : r;
}

/* -- Machines ---------------------------------------------------------------------------------------------------- */

void egress_addresses(const struct egress *e, uint32_t slot, uint32_t *ret_guest, uint32_t *ret_gateway)
{
	*ret_gateway = outer_address(e, slot);
	*ret_guest = outer_address(e, slot) + 1;
}

void egress_mac(const struct egress *e, uint32_t slot, uint8_t ret[EGRESS_MAC])
{
	rules_mac(&e->rules, slot, ret);
}

static int set_dialled(const struct egress *e, uint32_t slot, int s)
{
	const uint32_t mark = rules_mark(&e->rules);
	const int linger_s = 120;
	char name[IF_NAMESIZE];

	rules_interface(&e->rules, slot, name);
	/* Of this tap, not of a later one by that name: an old connection never comes to speak with the slot's next machine. */
	if (setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, name, sizeof name) != 0 ||
	    setsockopt(s, SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0)
		return -errno;
	/* The kernel keeps it whole after our end closed, so that the guest's end is still an answer to it (rules.h); with
	 * the usual minute it would be reduced at once. */
	return setsockopt(s, IPPROTO_TCP, TCP_LINGER2, &linger_s, sizeof linger_s) != 0 ? -errno : 0;
}

/* Reads what never changes: no lock, which a run of nft may hold. */
int egress_dial(const struct egress *e, uint32_t slot, uint16_t port, int *ret_fd, struct err *err)
{
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_port = htons(port),
				       .sin_addr.s_addr = htonl(outer_address(e, slot) + 1)};
	CLEANUP_FD int s = -1;
	int r;

	if (slot >= EGRESS_SLOTS_MAX)
		return err_set(err, -ERANGE, "slot %u has no machine", slot);
	s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	r = s < 0 ? -errno : set_dialled(e, slot, s);
	if (r < 0)
		return err_system(err, r, "socket to the machine at slot %u", slot);
	if (connect(s, (const struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
		return err_system(err, -errno, "connect to port %u of the machine at slot %u", port, slot);
	*ret_fd = fd_take(&s);
	return 0;
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
