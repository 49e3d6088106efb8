#include "conntrack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/fd.h"

struct number {
	struct nlattr head;
	uint32_t value; /* network order */
};

/* IPCTNL_MSG_CT_DELETE without a tuple deletes all that CTA_MARK and CTA_MARK_MASK match (linux, ctnetlink_flush_conntrack). */
int conntrack_flush(uint32_t mark)
{
	struct {
		struct nlmsghdr head;
		struct nfgenmsg family;
		struct number mark, mask;
	} ask = {.head = {.nlmsg_len = sizeof ask,
			  .nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		 .family = {.nfgen_family = AF_INET, .version = NFNETLINK_V0},
		 .mark = {{sizeof(struct number), CTA_MARK}, htonl(mark)},
		 .mask = {{sizeof(struct number), CTA_MARK_MASK}, UINT32_MAX}};
	CLEANUP_FD int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char more[256];
	} answer;
	ssize_t n;

	if (s < 0 || send(s, &ask, sizeof ask, 0) != sizeof ask ||
	    (n = recv(s, &answer, sizeof answer, 0)) < 0)
		return -errno;
	if ((size_t)n < sizeof answer.head + sizeof answer.error || answer.head.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return answer.error.error;
}
