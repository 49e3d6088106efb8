#include "stage.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/fd.h"

struct outside stage_world;
struct egress *stage_egress;
int stage_host = -1;

void stage_open_egress(void)
{
	const struct egress_options o = {.hash = 0x00abcd,
					 .base = STAGE_BASE,
					 .resolvers = "198.51.100.53",
					 .denied = "",
					 .limits = {1000, 1000, 100000, 1u << 30}};
	struct err err = {0};

	if (egress_new(&o, &stage_egress, &err) < 0)
		fail_msg("%s", err.message);
}

int stage_host_service(uint16_t port)
{
	const struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(s >= 0 && bind(s, (const struct sockaddr *)&a, sizeof a) == 0);
	return s;
}

bool stage_host_got(int s, const char *text, int ms)
{
	char got[64] = "";

	while (poll(&(struct pollfd){s, POLLIN, 0}, 1, ms) == 1 && recv(s, got, sizeof got - 1, 0) > 0)
		if (strncmp(got, text, strlen(text)) == 0)
			return true;
	return false;
}

void stage_host_says(uint32_t to, uint16_t port, const char *text)
{
	const struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(to)};
	CLEANUP_FD int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(sendto(s, text, strlen(text), 0, (const struct sockaddr *)&a, sizeof a),
			 strlen(text));
}

const char *stage_lacks(void)
{
	if (geteuid() != 0)
		return "needs root";
	if (access("/dev/net/tun", R_OK | W_OK) != 0)
		return "needs /dev/net/tun";
	if (outside_shell("{ nft --version && ip -V && command -v bash nsenter; } >/dev/null 2>&1") != 0)
		return "needs nft, ip, nsenter and bash";
	return NULL;
}

int stage_open(void **state)
{
	(void)state;
	if (outside_open(&stage_world) < 0)
		return -1;
	stage_host = stage_host_service(STAGE_HOST_PORT);
	stage_open_egress();
	return 0;
}

int stage_close(void **state)
{
	(void)state;
	egress_free(stage_egress);
	fd_close(&stage_host);
	outside_close(&stage_world);
	return 0;
}

void stage_detach(struct guest *g)
{
	struct err err = {0};

	guest_close(g);
	if (egress_detach(stage_egress, g->slot, &err) < 0)
		fail_msg("%s", err.message);
}

bool stage_reaches(struct guest *g, uint32_t to, uint16_t port, const char *text)
{
	struct guest_sent s = guest_honest(g, to, port);

	guest_udp(g, &s, text);
	return outside_saw(&stage_world, text, STAGE_HEARD_MS) && guest_hears(g, text, STAGE_HEARD_MS);
}

void stage_settled(void)
{
	struct err err = {0};
	int r = egress_tend(stage_egress, &err);

	if (r != 0)
		fail_msg("%s", r == 1 ? "there was something to restore" : err.message);
}

void stage_restored(const char *after)
{
	struct err err = {0};

	if (egress_tend(stage_egress, &err) != 1)
		fail_msg("not restored after: %s %s", after, err.message);
	stage_settled();
}

static const struct {
	uint32_t to;
	uint16_t port;
	const char *text;
	bool machine; /* itself, not the outside */
} never[] = {
	{OUTSIDE_PRIVATE, OUTSIDE_PORT, "private", false},
	{OUTSIDE_METADATA, OUTSIDE_PORT, "metadata", false},
	{OUTSIDE_PUBLIC, 53, "other-dns", false},
	{OUTSIDE_RESOLVER, 853, "tls-dns", false},
	{OUTSIDE_OF_HOST, STAGE_HOST_PORT, "host", true},
	{0x0a090901, STAGE_HOST_PORT, "hosts-private", true},
	{STAGE_BASE, STAGE_HOST_PORT, "own-host-end", true},
	{STAGE_BASE + 2, STAGE_HOST_PORT, "anothers-host-end", true},
	{0x7f000001, STAGE_HOST_PORT, "loopback", true},
	{0xffffffff, STAGE_HOST_PORT, "broadcast", true},
	{0xe0000001, STAGE_HOST_PORT, "multicast", true},
};

void stage_never_reaches(struct guest *g)
{
	for (size_t n = 0; n < sizeof never / sizeof *never; n++) {
		struct guest_sent s = guest_honest(g, never[n].to, never[n].port);

		guest_udp(g, &s, never[n].text);
	}
	assert_false(outside_saw(&stage_world, "-", STAGE_SILENT_MS)); /* all would have been seen by now */
	assert_false(guest_hears(g, "", 0));
	assert_false(stage_host_got(stage_host, "", 0));
}

void stage_nothing_is_left(void **state)
{
	(void)state;
	assert_int_not_equal(outside_shell("ip rule | grep -q '^98:'"), 0);
	assert_int_not_equal(outside_shell("ip route show table all | grep -q 100.64"), 0);
	assert_int_not_equal(outside_shell("ip neigh | grep -q 100.64"), 0);
	assert_int_not_equal(outside_shell("grep -s zone-orig /proc/net/nf_conntrack"), 0); /* theirs */
	assert_int_not_equal(outside_shell("ip -o link | grep -q ': bth'"), 0);
	assert_int_not_equal(outside_shell("nft list tables | grep -q berth_"), 0);
	assert_int_equal(outside_shell("test $(cat /proc/sys/net/ipv4/ip_forward) = 0"), 0);
}
