#include "guest.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"

#define ETHERNET 14u
#define IP       20u
#define IPV4     0x0800
#define ARP      0x0806
#define VNET     sizeof(struct virtio_net_hdr)

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) << 16 | get16(p + 2);
}

/* RFC 1071. */
static uint32_t sum(const uint8_t *p, unsigned n, uint32_t with)
{
	for (unsigned i = 0; i < n; i++)
		with += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
	while (with > 0xffff)
		with = (with & 0xffff) + (with >> 16);
	return with;
}

/* -- The device ------------------------------------------------------------------------------------------------ */

void guest_open(struct guest *g, const struct egress *e, uint32_t slot, const char *name)
{
	struct ifreq q = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	CLEANUP_FD int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(q.ifr_name, sizeof q.ifr_name, "%s", name);
	*g = (struct guest){.slot = slot, .tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC)};
	snprintf(g->name, sizeof g->name, "%s", q.ifr_name);
	must(g->tap >= 0 && if_nametoindex(q.ifr_name) != 0 && ioctl(g->tap, TUNSETIFF, &q) == 0);
	egress_addresses(e, slot, &g->ip, &g->gateway);
	egress_mac(e, slot, g->mac);
	must(ioctl(s, SIOCGIFHWADDR, &q) == 0);
	memcpy(g->gateway_mac, q.ifr_hwaddr.sa_data, EGRESS_MAC);
}

void guest_begin(struct guest *g, struct egress *e, uint32_t slot, bool on)
{
	char name[16];
	struct err err = {0};

	if (egress_attach_tap(e, slot, on, name, &err) < 0)
		must_fail(__FILE__, __LINE__, err.message);
	guest_open(g, e, slot, name);
}

void guest_close(struct guest *g)
{
	fd_close(&g->tap);
}

static void write_frame(struct guest *g, const uint8_t *p, unsigned n)
{
	struct virtio_net_hdr head = {0};
	struct iovec parts[] = {{&head, sizeof head}, {(void *)(uintptr_t)p, n}};

	must(writev(g->tap, parts, 2) == (ssize_t)(n + sizeof head));
}

unsigned guest_read(struct guest *g, uint8_t frame[GUEST_FRAME], int ms)
{
	uint8_t all[VNET + GUEST_FRAME];
	ssize_t n;

	if (poll(&(struct pollfd){g->tap, POLLIN, 0}, 1, ms) != 1)
		return 0;
	n = read(g->tap, all, sizeof all);
	must(n > (ssize_t)VNET);
	memset(frame, 0, GUEST_FRAME);
	memcpy(frame, all + VNET, (size_t)n - VNET);
	return (unsigned)n - (unsigned)VNET;
}

/* -- Writing --------------------------------------------------------------------------------------------------- */

void guest_frame(struct guest *g, const uint8_t to[EGRESS_MAC], uint16_t type, const void *p, unsigned n)
{
	uint8_t f[GUEST_FRAME] = {0};

	must(n <= sizeof f - ETHERNET);
	memcpy(f, to, EGRESS_MAC);
	memcpy(f + 6, g->mac, EGRESS_MAC);
	put16(f + 12, type);
	memcpy(f + ETHERNET, p, n);
	write_frame(g, f, ETHERNET + n);
}

struct guest_sent guest_honest(const struct guest *g, uint32_t to, uint16_t port)
{
	struct guest_sent s = {.from = g->ip, .to = to, .from_port = 4000, .to_port = port};

	memcpy(s.mac, g->mac, EGRESS_MAC);
	memcpy(s.to_mac, g->gateway_mac, EGRESS_MAC);
	return s;
}

/* The ethernet and IP headers before n bytes; `offset`: of a fragment in bytes, `more` follow. */
static void put_heads(uint8_t *f, const struct guest_sent *s, uint8_t protocol, unsigned n, unsigned offset,
		      bool more)
{
	uint8_t *ip = f + ETHERNET;

	memcpy(f, s->to_mac, EGRESS_MAC);
	memcpy(f + 6, s->mac, EGRESS_MAC);
	put16(f + 12, IPV4);
	ip[0] = 0x45;
	put16(ip + 2, IP + n);
	put16(ip + 4, 0x4242);
	put16(ip + 6, (more ? 0x2000u : 0) | offset / 8);
	ip[8] = 64;
	ip[9] = protocol;
	put32(ip + 12, s->from);
	put32(ip + 16, s->to);
	put16(ip + 10, ~sum(ip, IP, 0));
}

static unsigned put_udp(uint8_t *p, const struct guest_sent *s, const char *text)
{
	unsigned n = 8 + (unsigned)strlen(text);

	put16(p, s->from_port);
	put16(p + 2, s->to_port);
	put16(p + 4, n); /* without a checksum, which may be */
	memcpy(p + 8, text, n - 8);
	return n;
}

void guest_udp(struct guest *g, const struct guest_sent *s, const char *text)
{
	uint8_t f[GUEST_FRAME] = {0};
	unsigned n = put_udp(f + ETHERNET + IP, s, text);

	put_heads(f, s, IPPROTO_UDP, n, 0, false);
	write_frame(g, f, ETHERNET + IP + n);
}

void guest_udp_fragments(struct guest *g, const struct guest_sent *s, const char *text)
{
	uint8_t whole[GUEST_FRAME] = {0}, f[GUEST_FRAME];
	unsigned n = put_udp(whole, s, text);

	for (unsigned at = 0; at < n; at += 8) {
		unsigned part = n - at < 8 ? n - at : 8;

		memset(f, 0, sizeof f);
		memcpy(f + ETHERNET + IP, whole + at, part);
		put_heads(f, s, IPPROTO_UDP, part, at, at + part < n);
		write_frame(g, f, ETHERNET + IP + part);
	}
}

void guest_tcp(struct guest *g, const struct guest_sent *s, const struct guest_segment *t)
{
	uint8_t f[GUEST_FRAME] = {0}, *tcp = f + ETHERNET + IP;
	unsigned n = 20 + (unsigned)strlen(t->text);

	put16(tcp, s->from_port);
	put16(tcp + 2, s->to_port);
	put32(tcp + 4, t->seq);
	put32(tcp + 8, t->ack);
	tcp[12] = 5 << 4;
	tcp[13] = t->flags;
	put16(tcp + 14, 60000);
	memcpy(tcp + 20, t->text, n - 20);
	put_heads(f, s, IPPROTO_TCP, n, 0, false);
	put16(tcp + 16, ~sum(tcp, n, sum(f + ETHERNET + 12, 8, IPPROTO_TCP + n)));
	write_frame(g, f, ETHERNET + IP + n);
}

/* RFC 826. */
void guest_arp(struct guest *g, bool answer, const uint8_t mac[EGRESS_MAC], uint32_t from, uint32_t to)
{
	static const uint8_t all[EGRESS_MAC] = {255, 255, 255, 255, 255, 255};
	uint8_t p[28] = {0, 1, 8, 0, 6, 4, 0, answer ? 2 : 1};

	memcpy(p + 8, mac, EGRESS_MAC);
	put32(p + 14, from);
	put32(p + 24, to);
	guest_frame(g, all, ARP, p, sizeof p);
}

/* -- Reading --------------------------------------------------------------------------------------------------- */

static bool next(struct guest *g, uint8_t f[GUEST_FRAME], uint64_t end, unsigned type, unsigned *ret_n)
{
	for (;;) {
		uint64_t now = clock_boot_ms();

		*ret_n = guest_read(g, f, now < end ? (int)(end - now) : 0);
		if (*ret_n == 0)
			return false;
		if (get16(f + 12) == type)
			return true;
	}
}

bool guest_hears(struct guest *g, const char *text, int ms)
{
	uint64_t end = clock_boot_ms() + (uint64_t)ms;
	uint8_t f[GUEST_FRAME];
	unsigned n;

	while (next(g, f, end, IPV4, &n)) {
		if (f[ETHERNET + 9] == IPPROTO_UDP &&
		    strncmp((char *)f + ETHERNET + IP + 8, text, strlen(text)) == 0)
			return true;
	}
	return false;
}

bool guest_hears_arp(struct guest *g, uint32_t from, int ms)
{
	uint64_t end = clock_boot_ms() + (uint64_t)ms;
	uint8_t f[GUEST_FRAME];
	unsigned n;

	while (next(g, f, end, ARP, &n)) {
		const uint8_t *p = f + ETHERNET;

		if (p[7] == 2 && get32(p + 14) == from && memcmp(p + 8, g->gateway_mac, EGRESS_MAC) == 0)
			return true;
	}
	return false;
}

bool guest_reads_tcp(struct guest *g, struct guest_segment *ret, int ms)
{
	uint64_t end = clock_boot_ms() + (uint64_t)ms;
	uint8_t f[GUEST_FRAME];
	unsigned n;

	while (next(g, f, end, IPV4, &n)) {
		const uint8_t *ip = f + ETHERNET, *tcp = ip + IP;
		unsigned head = (unsigned)(tcp[12] >> 4) * 4, length = get16(ip + 2) - IP - head;

		if (ip[9] != IPPROTO_TCP)
			continue;
		*ret = (struct guest_segment){.flags = tcp[13],
					      .seq = get32(tcp + 4),
					      .ack = get32(tcp + 8),
					      .from = get32(ip + 12),
					      .to = get32(ip + 16),
					      .from_port = (uint16_t)get16(tcp),
					      .to_port = (uint16_t)get16(tcp + 2)};
		memcpy(ret->text, tcp + head, length < sizeof ret->text ? length : sizeof ret->text - 1);
		return true;
	}
	return false;
}

bool guest_hears_nothing(struct guest *g, int ms)
{
	uint8_t f[GUEST_FRAME];

	return guest_read(g, f, ms) == 0;
}
