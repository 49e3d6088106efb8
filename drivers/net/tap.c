#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/fd.h"

/* Until it is persistent it goes with the descriptor, so a failure leaves nothing. */
int tap_make(const char *name, const uint8_t mac[RTNETLINK_MAC])
{
	struct ifreq q = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (short)IFF_TUN_EXCL};
	CLEANUP_FD int fd = -1;

	if (if_nametoindex(name) != 0) /* also what is no tap */
		return -EEXIST;
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	snprintf(q.ifr_name, sizeof q.ifr_name, "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &q) != 0 || ioctl(fd, TUNSETOWNER, 0) != 0)
		return errno == EBUSY ? -EEXIST : -errno;
	q.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(q.ifr_hwaddr.sa_data, mac, RTNETLINK_MAC);
	if (ioctl(fd, SIOCSIFHWADDR, &q) != 0 || ioctl(fd, TUNSETPERSIST, 1) != 0)
		return -errno;
	return 0;
}
