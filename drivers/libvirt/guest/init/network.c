#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/fd.h"

#define INTERFACE "eth0"

static void put_address(struct sockaddr *to, uint32_t address)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};

	memcpy(to, &in, sizeof in);
}

static struct ifreq request_for(const char *interface)
{
	struct ifreq q = {0};

	strcpy(q.ifr_name, interface);
	return q;
}

static int bring_up(int sock, const char *interface, struct err *err)
{
	struct ifreq q = request_for(interface);

	if (ioctl(sock, SIOCGIFFLAGS, &q) == 0) {
		q.ifr_flags |= IFF_UP;
		if (ioctl(sock, SIOCSIFFLAGS, &q) == 0)
			return 0;
	}
	return err_system(err, -errno, "bring up %s", interface);
}

int network_loopback(struct err *err)
{
	CLEANUP_FD int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return bring_up(sock, "lo", err);
}

static int set_mac(int sock, struct str mac, struct err *err)
{
	struct ifreq q = request_for(INTERFACE);

	q.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(q.ifr_hwaddr.sa_data, mac.p, GUEST_MAC_BYTES);
	return ioctl(sock, SIOCSIFHWADDR, &q) == 0 ? 0 : err_system(err, -errno, "MAC of " INTERFACE);
}

static int set_address(int sock, uint32_t address, uint32_t mask, struct err *err)
{
	struct ifreq q = request_for(INTERFACE);

	put_address(&q.ifr_addr, address);
	if (ioctl(sock, SIOCSIFADDR, &q) != 0)
		return err_system(err, -errno, "address of " INTERFACE);
	put_address(&q.ifr_netmask, mask);
	return ioctl(sock, SIOCSIFNETMASK, &q) == 0 ? 0 : err_system(err, -errno, "mask of " INTERFACE);
}

static int set_neighbour(int sock, uint32_t address, struct str mac, struct err *err)
{
	struct arpreq q = {.arp_flags = ATF_PERM | ATF_COM, .arp_dev = INTERFACE};

	put_address(&q.arp_pa, address);
	q.arp_ha.sa_family = ARPHRD_ETHER;
	memcpy(q.arp_ha.sa_data, mac.p, GUEST_MAC_BYTES);
	return ioctl(sock, SIOCSARP, &q) == 0 ? 0 : err_system(err, -errno, "neighbour of " INTERFACE);
}

static int set_route(int sock, uint32_t gateway, struct err *err)
{
	char device[] = INTERFACE;
	struct rtentry q = {.rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = device};

	put_address(&q.rt_dst, 0);
	put_address(&q.rt_genmask, 0);
	put_address(&q.rt_gateway, gateway);
	/* A machine that was restored where it had been has it still. */
	return ioctl(sock, SIOCADDRT, &q) == 0 || errno == EEXIST ? 0
								  : err_system(err, -errno, "default route");
}

int network_apply(const struct guest_network *n, struct err *err)
{
	CLEANUP_FD int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (n->mac.n == 0)
		return 0;
	r = set_mac(sock, n->mac, err);
	if (r == 0)
		r = set_address(sock, n->address, ~0u << (32 - n->prefix), err);
	if (r == 0)
		r = bring_up(sock, INTERFACE, err);
	if (r == 0)
		r = set_neighbour(sock, n->gateway, n->gateway_mac, err);
	return r == 0 ? set_route(sock, n->gateway, err) : r;
}
