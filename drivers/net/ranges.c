#include "ranges.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include "core/str.h"

/* IANA's special-purpose registry (RFC 6890 and its updates), multicast, and what clouds serve to their machines. Of the
 * ranges for documentation 198.51.100.0/24 is left out: it is routed nowhere, and tests play the outside with it. */
const struct special_range ranges_special[] = {
	{"0.0.0.0/8", "this network"},
	{"10.0.0.0/8", "private"},
	{"100.64.0.0/10",
	 "carriers' NAT; the sandboxes' own addresses; a cloud's metadata (100.100.100.200)"},
	{"127.0.0.0/8", "loopback"},
	{"168.63.129.16/32", "a cloud's platform address (Azure)"},
	{"169.254.0.0/16", "link-local; metadata of most clouds (169.254.169.254)"},
	{"172.16.0.0/12", "private"},
	{"192.0.0.0/24", "protocol assignments; a cloud's metadata (192.0.0.192)"},
	{"192.0.2.0/24", NULL},
	{"192.31.196.0/24", "AS112 sinks"},
	{"192.52.193.0/24", "multicast tunnels (AMT)"},
	{"192.88.99.0/24", "6to4 relays"},
	{"192.168.0.0/16", "private"},
	{"192.175.48.0/24", "AS112 sinks"},
	{"198.18.0.0/15", "benchmarks"},
	{"203.0.113.0/24", NULL},
	{"224.0.0.0/4", "multicast"},
	{"240.0.0.0/4", "reserved; broadcast (255.255.255.255)"},
	{NULL, NULL},
};

struct span {
	uint32_t first, last;
};

static int parse(struct str word, struct span *ret)
{
	struct str address, bits;
	char text[INET_ADDRSTRLEN];
	struct in_addr a;
	uint64_t n = 32;

	if (str_cut(word, '/', &address, &bits) && str_u64(bits, 32, &n) < 0)
		return -EINVAL;
	if (str_copy(address, text, sizeof text) < 0 || inet_pton(AF_INET, text, &a) != 1)
		return -EINVAL;
	uint32_t mask = n == 0 ? 0 : UINT32_MAX << (32 - n);

	ret->first = ntohl(a.s_addr) & mask;
	ret->last = ret->first | ~mask;
	return 0;
}

static int by_first(const void *a, const void *b)
{
	uint32_t x = ((const struct span *)a)->first, y = ((const struct span *)b)->first;

	return x < y ? -1 : x > y;
}

void ranges_print(struct buf *b, uint32_t address)
{
	buf_printf(b, "%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255);
}

static int collect(const char *denied, uint32_t own, struct span *spans, size_t *ret_n)
{
	struct str rest = str_of(denied);
	size_t n = 0;

	spans[n++] = (struct span){own, own | (UINT32_MAX >> RANGES_OWN_BITS)};
	for (const struct special_range *s = ranges_special; s->range != NULL; s++) {
		if (parse(str_of(s->range), &spans[n++]) < 0)
			return -EINVAL;
	}
	while (rest.n > 0) {
		struct str word;

		str_cut(rest, ' ', &word, &rest);
		if (word.n == 0)
			continue;
		if (n == RANGES_MAX)
			return -E2BIG;
		if (parse(word, &spans[n++]) < 0)
			return -EINVAL;
	}
	qsort(spans, n, sizeof *spans, by_first);
	*ret_n = n;
	return 0;
}

int ranges_allowed(const char *denied, uint32_t own, struct buf *b)
{
	struct span spans[RANGES_MAX];
	uint64_t next = 0; /* the lowest address that nothing so far denies */
	size_t n;
	bool first = true;
	int r = collect(denied, own, spans, &n);

	if (r < 0)
		return r;
	for (size_t i = 0; i <= n && next <= UINT32_MAX; i++) {
		uint64_t end = i < n ? spans[i].first : (uint64_t)UINT32_MAX + 1;

		if (end > next) {
			buf_printf(b, "%s", first ? "" : ", ");
			ranges_print(b, (uint32_t)next);
			if (end - 1 > next) { /* nft takes no range of one */
				buf_printf(b, "-");
				ranges_print(b, (uint32_t)(end - 1));
			}
			first = false;
		}
		if (i < n && (uint64_t)spans[i].last + 1 > next)
			next = (uint64_t)spans[i].last + 1;
	}
	return 0;
}

void ranges_reference(struct buf *b)
{
	buf_printf(b, "| range | what it is |\n| --- | --- |\n");
	for (const struct special_range *s = ranges_special; s->range != NULL; s++)
		if (s->what != NULL)
			buf_printf(b, "| `%s` | %s |\n", s->range, s->what);
}
