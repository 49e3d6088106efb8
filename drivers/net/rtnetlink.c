#include "rtnetlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/must.h"

struct request {
	struct nlmsghdr head;
	char bytes[1024];
};

static void *put(struct request *q, const void *p, size_t n)
{
	size_t at = NLMSG_ALIGN(q->head.nlmsg_len);
	char *to = (char *)q + at;

	must(at + n <= sizeof *q);
	if (p != NULL)
		memcpy(to, p, n);
	q->head.nlmsg_len = (uint32_t)(at + n);
	return to;
}

static struct rtattr *attribute(struct request *q, unsigned type, const void *p, size_t n)
{
	struct rtattr head = {.rta_len = (unsigned short)RTA_LENGTH(n), .rta_type = (unsigned short)type};
	struct rtattr *at = put(q, &head, sizeof head);

	if (n > 0)
		put(q, p, n);
	return at;
}

static void end_nest(struct request *q, struct rtattr *nest)
{
	nest->rta_len = (unsigned short)((char *)q + NLMSG_ALIGN(q->head.nlmsg_len) - (char *)nest);
}

static struct request new_request(uint16_t type, uint16_t flags)
{
	return (struct request){.head = {.nlmsg_len = NLMSG_LENGTH(0),
					 .nlmsg_type = type,
					 .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
					 .nlmsg_seq = 1}};
}

static int ask(struct request *q)
{
	CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	union {
		struct nlmsghdr head;
		char bytes[4096];
	} answer;
	const struct nlmsgerr *e = NLMSG_DATA(&answer.head);
	ssize_t n;

	if (fd < 0 || send(fd, q, q->head.nlmsg_len, 0) < 0)
		return -errno;
	n = recv(fd, &answer, sizeof answer, 0);
	if (n < 0)
		return -errno;
	if ((size_t)n < NLMSG_LENGTH(sizeof *e) || answer.head.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return e->error;
}

int rtnetlink_veth(const char *name, const uint8_t mac[RTNETLINK_MAC], const char *peer,
		   const uint8_t peer_mac[RTNETLINK_MAC], int peer_netns)
{
	struct request q = new_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct ifinfomsg link = {.ifi_family = AF_UNSPEC};
	struct rtattr *info, *data, *other;

	put(&q, &link, sizeof link);
	attribute(&q, IFLA_IFNAME, name, strlen(name) + 1);
	attribute(&q, IFLA_ADDRESS, mac, RTNETLINK_MAC);
	info = attribute(&q, IFLA_LINKINFO, NULL, 0);
	attribute(&q, IFLA_INFO_KIND, "veth", 4);
	data = attribute(&q, IFLA_INFO_DATA, NULL, 0);
	other = attribute(&q, VETH_INFO_PEER, NULL, 0);
	put(&q, &link, sizeof link);
	attribute(&q, IFLA_IFNAME, peer, strlen(peer) + 1);
	attribute(&q, IFLA_ADDRESS, peer_mac, RTNETLINK_MAC);
	attribute(&q, IFLA_NET_NS_FD, &peer_netns, sizeof peer_netns);
	end_nest(&q, other);
	end_nest(&q, data);
	end_nest(&q, info);
	return ask(&q);
}

int rtnetlink_delete(const char *name)
{
	struct request q = new_request(RTM_DELLINK, 0);
	struct ifinfomsg link = {.ifi_family = AF_UNSPEC};

	put(&q, &link, sizeof link);
	attribute(&q, IFLA_IFNAME, name, strlen(name) + 1);
	return ask(&q);
}

int rtnetlink_up(const char *name)
{
	struct request q = new_request(RTM_NEWLINK, 0);
	struct ifinfomsg link = {.ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};

	put(&q, &link, sizeof link);
	attribute(&q, IFLA_IFNAME, name, strlen(name) + 1);
	return ask(&q);
}

int rtnetlink_address(const char *name, uint32_t address, uint8_t bits)
{
	struct request q = new_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
	struct ifaddrmsg a = {
		.ifa_family = AF_INET, .ifa_prefixlen = bits, .ifa_index = if_nametoindex(name)};
	uint32_t wire = htonl(address);

	if (a.ifa_index == 0)
		return -ENODEV;
	put(&q, &a, sizeof a);
	attribute(&q, IFA_LOCAL, &wire, sizeof wire);
	attribute(&q, IFA_ADDRESS, &wire, sizeof wire);
	return ask(&q);
}

int rtnetlink_neighbour(const char *device, uint32_t address, const uint8_t mac[RTNETLINK_MAC])
{
	struct request q = new_request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
	struct ndmsg n = {.ndm_family = AF_INET,
			  .ndm_ifindex = (int)if_nametoindex(device),
			  .ndm_state = NUD_PERMANENT};
	uint32_t wire = htonl(address);

	if (n.ndm_ifindex == 0)
		return -ENODEV;
	put(&q, &n, sizeof n);
	attribute(&q, NDA_DST, &wire, sizeof wire);
	attribute(&q, NDA_LLADDR, mac, RTNETLINK_MAC);
	return ask(&q);
}

int rtnetlink_route(const struct rtnetlink_route *r, bool add)
{
	struct request q =
		new_request(add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_EXCL : 0);
	bool nowhere = r->gateway == 0 && r->device == NULL;
	struct rtmsg m = {.rtm_family = AF_INET,
			  .rtm_dst_len = r->bits,
			  .rtm_table = r->table == 0 ? RT_TABLE_MAIN : RT_TABLE_UNSPEC,
			  .rtm_protocol = RTPROT_KERNEL,
			  .rtm_scope = r->gateway != 0 || nowhere ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
			  .rtm_type = nowhere ? RTN_UNREACHABLE : RTN_UNICAST};
	uint32_t to = htonl(r->to), gateway = htonl(r->gateway);

	put(&q, &m, sizeof m);
	if (r->bits > 0)
		attribute(&q, RTA_DST, &to, sizeof to);
	if (r->gateway != 0)
		attribute(&q, RTA_GATEWAY, &gateway, sizeof gateway);
	if (r->device != NULL)
		attribute(&q, RTA_OIF, &(uint32_t){if_nametoindex(r->device)}, sizeof(uint32_t));
	if (r->table != 0)
		attribute(&q, RTA_TABLE, &r->table, sizeof r->table);
	if (r->metric != 0)
		attribute(&q, RTA_PRIORITY, &r->metric, sizeof r->metric);
	return ask(&q);
}

/* As the kernel's own: systemd-networkd removes what belongs to no protocol that it knows. */
int rtnetlink_rule(const struct rtnetlink_rule *r, bool add)
{
	struct request q = new_request(add ? RTM_NEWRULE : RTM_DELRULE, add ? NLM_F_CREATE | NLM_F_EXCL : 0);
	struct fib_rule_hdr h = {
		.family = AF_INET, .dst_len = r->mark == 0 ? r->bits : 0, .action = FR_ACT_TO_TBL};
	uint32_t to = htonl(r->to);

	put(&q, &h, sizeof h);
	attribute(&q, FRA_PRIORITY, &r->preference, sizeof r->preference);
	attribute(&q, FRA_TABLE, &r->table, sizeof r->table);
	attribute(&q, FRA_PROTOCOL, &(uint8_t){RTPROT_KERNEL}, 1);
	if (r->mark != 0) {
		attribute(&q, FRA_FWMARK, &r->mark, sizeof r->mark);
		attribute(&q, FRA_FWMASK, &(uint32_t){UINT32_MAX}, sizeof(uint32_t));
	} else {
		attribute(&q, FRA_DST, &to, sizeof to);
		attribute(&q, FRA_IIFNAME, "lo", 3); /* made here */
		attribute(&q, FRA_IP_PROTO, &(uint8_t){IPPROTO_ICMP}, 1);
	}
	return ask(&q);
}
