#include "identity.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "core/fd.h"
#include "network.h"
#include "program/program.h"

static int seed_random(struct str seed, struct err *err)
{
	union {
		struct rand_pool_info head; /* its bytes follow it */
		char bytes[sizeof(struct rand_pool_info) + GUEST_SEED_BYTES];
	} entropy = {.head = {.entropy_count = GUEST_SEED_BYTES * 8, .buf_size = GUEST_SEED_BYTES}};
	CLEANUP_FD int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	int r = 0;

	memcpy(entropy.bytes + sizeof entropy.head, seed.p, GUEST_SEED_BYTES);
	/* The second one makes each processor's generator forget what it had in the template. */
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &entropy) != 0 || ioctl(fd, RNDRESEEDCRNG) != 0)
		r = err_system(err, -errno, "seed the kernel's random numbers");
	explicit_bzero(&entropy, sizeof entropy);
	return r;
}

int identity_set_clock(uint64_t wall_ns, struct err *err)
{
	struct timespec t = {(time_t)(wall_ns / 1000000000u), (long)(wall_ns % 1000000000u)};

	return clock_settime(CLOCK_REALTIME, &t) == 0 ? 0 : err_system(err, -errno, "set the clock");
}

int identity_apply(const struct guest_start *s, struct err *err)
{
	int r = seed_random(s->seed, err);

	if (r == 0)
		r = identity_set_clock(s->wall_ns, err);
	if (r == 0 && sethostname(s->hostname.p, s->hostname.n) != 0)
		r = err_system(err, -errno, "set the hostname");
	const struct guest_network n = {s->mac, s->gateway_mac, s->address, s->gateway, s->prefix};

	return r == 0 ? network_apply(&n, err) : r;
}

void identity_write_machine_id(void)
{
	unsigned char id[16];
	char text[34];

	if (getrandom(id, sizeof id, 0) != (ssize_t)sizeof id)
		return;
	id[6] = (unsigned char)((id[6] & 0x0f) | 0x40);
	id[8] = (unsigned char)((id[8] & 0x3f) | 0x80);
	for (size_t i = 0; i < sizeof id; i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	strcat(text, "\n");
	program_replace_file("/etc/machine-id", text);
}
