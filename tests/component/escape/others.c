/* others.c -- other processes, sandboxes and machines: signals, tracing, sockets, addresses. */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attempt.h"

/* Processes 1, this one and its parent; whoever else is seen is not of this sandbox. */
static int others_seen(const struct attempt *a)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	int others = 0;

	(void)a;
	while (d != NULL && (e = readdir(d)) != NULL) {
		int pid = atoi(e->d_name);

		others += isdigit(e->d_name[0]) && pid != 1 && pid != getpid() && pid != getppid();
	}
	return others == 0 ? 0 : -ATTEMPT_NO;
}

static int signal_outside(const struct attempt *a)
{
	return outcome(kill((pid_t)a->n[0], 0));
}

static int trace(const struct attempt *a)
{
	long r;

	if (a->n[0] != 0)
		return outcome(ptrace(PTRACE_ATTACH, (pid_t)a->n[0], NULL, NULL));
	pid_t child = fork();

	if (child == 0) {
		pause();
		_exit(0);
	}
	r = outcome(ptrace(PTRACE_ATTACH, child, NULL, NULL));
	kill(child, SIGKILL);
	return (int)r;
}

static int shared_memory(const struct attempt *a)
{
	int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);

	(void)a;
	return id < 0 ? -errno : outcome(shmctl(id, IPC_RMID, NULL));
}

/* The host's segment, whose key the test says. */
static int host_memory(const struct attempt *a)
{
	(void)a;
	return outcome(shmget((key_t)atoi(told("BERTH_SHM")), 0, 0));
}

static int message_queue(const struct attempt *a)
{
	struct mq_attr attr = {.mq_maxmsg = 8, .mq_msgsize = 64};
	mqd_t q = mq_open("/own", O_CREAT | O_RDWR, 0600, &attr);

	(void)a;
	return (int)q < 0 ? -errno : outcome(mq_unlink("/own"));
}

static const struct attempt processes[] = {
	{"no process of the host or of others in /proc", others_seen, "yes", NULL, {0}},
	{"a signal to process 2 of the host", signal_outside, "ESRCH", NULL, {2}},
	{"a signal to the process that started the sandbox", signal_outside, "ESRCH", NULL, {999999}},
	{"ptrace of a process outside", trace, "ESRCH", NULL, {999999}},
	{"ptrace of an own child", trace, "allowed", NULL, {0}},
	{"the host's shared memory (System V)", host_memory, "ENOENT", NULL, {0}},
	{"own shared memory (System V)", shared_memory, "allowed", NULL, {0}},
	{"an own message queue", message_queue, "allowed", NULL, {0}},
};
const struct group group_processes = {"Other processes", processes, sizeof processes / sizeof *processes};

/* -- Sockets ------------------------------------------------------------------------------------------------------- */

static int make(const struct attempt *a)
{
	return outcome(syscall(SYS_socket, a->n[0], a->n[1], a->n[2]));
}

static int make_pair(const struct attempt *a)
{
	int fds[2];

	return outcome(syscall(SYS_socketpair, a->n[0], a->n[1], 0, fds));
}

static int reach(const struct attempt *a)
{
	struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)(a->n[0] != 0 ? a->n[0] : 80))};
	int six = inet_pton(AF_INET6, a->what, &to6.sin6_addr) == 1;
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

	if (!six && inet_pton(AF_INET, a->what, &to.sin_addr) != 1)
		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (*told("BERTH_PORT") != '\0' && to.sin_addr.s_addr == htonl(INADDR_LOOPBACK))
		to.sin_port = htons((uint16_t)atoi(told("BERTH_PORT")));
	return outcome(connect(fd, six ? (void *)&to6 : (void *)&to, six ? sizeof to6 : sizeof to));
}

static int own_service(const struct attempt *a)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof to;
	int server = socket(AF_INET, SOCK_STREAM, 0);

	(void)a;
	if (bind(server, (void *)&to, sizeof to) != 0 || listen(server, 1) != 0 ||
	    getsockname(server, (void *)&to, &n) != 0)
		return -errno;
	return outcome(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&to, sizeof to));
}

static int abstract(const struct attempt *a)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int n = snprintf(to.sun_path + 1, sizeof to.sun_path - 1, "%s", told("BERTH_ABSTRACT"));

	(void)a;
	return outcome(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&to,
			       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)));
}

/* Asks the kernel for a change or a list, and takes its answer. */
static int route_request(const struct attempt *a)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
	} request = {.h = {.nlmsg_len = sizeof request,
			   .nlmsg_type = (uint16_t)a->n[0],
			   .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | a->n[1])},
		     .i = {.ifi_family = AF_UNSPEC, .ifi_index = 1}};
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	char answer[8192];
	struct nlmsghdr *h = (void *)answer;

	if (fd < 0 || send(fd, &request, sizeof request, 0) < 0 ||
	    recv(fd, answer, sizeof answer, 0) < (ssize_t)sizeof *h)
		return -errno;
	return h->nlmsg_type == NLMSG_ERROR ? ((struct nlmsgerr *)NLMSG_DATA(h))->error : 0;
}

#define ABSENT  "EAFNOSUPPORT ENOSYS"
#define NOWHERE "ENETUNREACH"
static const struct attempt sockets[] = {
	{"AF_ALG (the kernel's ciphers)", make, ABSENT, NULL, {AF_ALG, SOCK_SEQPACKET}},
	{"AF_PACKET", make, ABSENT, NULL, {AF_PACKET, SOCK_RAW}},
	{"AF_VSOCK (the hypervisor)", make, ABSENT, NULL, {AF_VSOCK, SOCK_STREAM}},
	{"AF_KEY", make, ABSENT, NULL, {AF_KEY, SOCK_RAW, 2}},
	{"AF_BLUETOOTH", make, ABSENT, NULL, {AF_BLUETOOTH, SOCK_RAW}},
	{"AF_CAN", make, ABSENT, NULL, {AF_CAN, SOCK_RAW}},
	{"AF_TIPC", make, ABSENT, NULL, {AF_TIPC, SOCK_STREAM}},
	{"AF_RDS", make, ABSENT, NULL, {AF_RDS, SOCK_SEQPACKET}},
	{"AF_SMC", make, ABSENT, NULL, {AF_SMC, SOCK_STREAM}},
	{"AF_XDP", make, ABSENT, NULL, {AF_XDP, SOCK_RAW}},
	{"AF_QIPCRTR", make, ABSENT, NULL, {AF_QIPCRTR, SOCK_DGRAM}},
	{"AF_AX25", make, ABSENT, NULL, {AF_AX25, SOCK_DGRAM}},
	{"AF_PPPOX", make, ABSENT, NULL, {AF_PPPOX, SOCK_STREAM}},
	{"AF_NFC", make, ABSENT, NULL, {AF_NFC, SOCK_RAW}},
	{"a family that no kernel has", make, ABSENT, NULL, {200, SOCK_STREAM}},
	{"a pair of AF_TIPC", make_pair, ABSENT, NULL, {AF_TIPC, SOCK_STREAM}},
	{"a pair of AF_UNIX", make_pair, "allowed", NULL, {AF_UNIX, SOCK_STREAM}},
	{"AF_NETLINK, audit", make, "ENOSYS", NULL, {AF_NETLINK, SOCK_RAW, NETLINK_AUDIT}},
	{"AF_NETLINK, netfilter", make, "ENOSYS", NULL, {AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER}},
	{"AF_NETLINK, generic", make, "ENOSYS", NULL, {AF_NETLINK, SOCK_RAW, NETLINK_GENERIC}},
	{"AF_NETLINK, xfrm", make, "ENOSYS", NULL, {AF_NETLINK, SOCK_RAW, NETLINK_XFRM}},
	{"AF_NETLINK, kernel events", make, "ENOSYS", NULL, {AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT}},
	{"AF_NETLINK, other sockets", make, "ENOSYS", NULL, {AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG}},
	{"AF_NETLINK, route: change an interface", route_request, "EPERM", NULL, {RTM_NEWLINK, NLM_F_ACK}},
	{"AF_NETLINK, route: list interfaces", route_request, "allowed", NULL, {RTM_GETLINK, NLM_F_DUMP}},
	{"a raw socket, ICMP", make, "EPERM", NULL, {AF_INET, SOCK_RAW, IPPROTO_ICMP}},
	{"a raw socket, any protocol", make, "EPERM", NULL, {AF_INET, SOCK_RAW, IPPROTO_RAW}},
	{"a packet socket by its old name", make, "EPERM ENOSYS", NULL, {AF_INET, SOCK_PACKET, 0x0300}},
	{"SCTP", make, "EPROTONOSUPPORT", NULL, {AF_INET, SOCK_STREAM, IPPROTO_SCTP}},
	{"DCCP", make, "EPROTONOSUPPORT", NULL, {AF_INET, SOCK_DCCP, IPPROTO_DCCP}},
	{"L2TP", make, "ENOSYS", NULL, {AF_INET, SOCK_DGRAM, 115}},
	{"TCP", make, "allowed", NULL, {AF_INET, SOCK_STREAM, IPPROTO_TCP}},
	{"UDP", make, "allowed", NULL, {AF_INET, SOCK_DGRAM, 0}},
	{"a socket of the host by its abstract name", abstract, "ECONNREFUSED", NULL, {0}},
	{"a service on the host's loopback", reach, "ECONNREFUSED", NULL, {0}},
	{"a service on the own loopback", own_service, "allowed", NULL, {0}},
	{"169.254.169.254", reach, NOWHERE, NULL, {0}},
	{"168.63.129.16", reach, NOWHERE, NULL, {0}},
	{"100.100.100.200", reach, NOWHERE, NULL, {0}},
	{"fd00:ec2::254", reach, NOWHERE " EADDRNOTAVAIL", NULL, {0}},
	{"10.0.0.1", reach, NOWHERE, NULL, {0}},
	{"172.17.0.1", reach, NOWHERE, NULL, {2375}},
	{"192.168.0.1", reach, NOWHERE, NULL, {0}},
	{"8.8.8.8", reach, NOWHERE, NULL, {53}},
};
const struct group group_sockets = {"Sockets, and addresses without egress", sockets,
				    sizeof sockets / sizeof *sockets};
