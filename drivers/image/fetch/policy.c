#include "image_fetch/policy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static bool matches(struct str pattern, struct str host)
{
	struct str name, port;

	if (str_eq_nocase(pattern, host))
		return true;
	if (!str_starts(pattern, STR("*.")))
		return false;
	/* Below a domain on the standard port, or on the pattern's own port. */
	struct str suffix = str_slice(pattern, 1, pattern.n);

	if (str_find(suffix, ':') < suffix.n)
		return host.n > suffix.n && str_ends(host, suffix);
	return !str_cut(host, ':', &name, &port) && host.n > suffix.n && str_ends(host, suffix);
}

static bool listed(const struct str *list, uint32_t n, const char *host)
{
	for (uint32_t i = 0; i < n; i++) {
		if (matches(list[i], str_of(host)))
			return true;
	}
	return false;
}

bool policy_insecure(const struct image_fetch_request *q, const char *host)
{
	return listed(q->insecure, q->n_insecure, host);
}

bool policy_named(const struct image_fetch_request *q, const char *host)
{
	return listed(q->registries, q->n_registries, host) || policy_insecure(q, host) ||
	       listed(q->token_hosts, q->n_token_hosts, host);
}

static bool is_mirror(const struct image_fetch_request *q, const char *host)
{
	struct str of, mirror;

	for (uint32_t i = 0; i < q->n_mirrors; i++) {
		if (str_cut(q->mirrors[i], ' ', &of, &mirror) && str_eq(mirror, str_of(host)))
			return true;
	}
	return false;
}

static bool listed_in_full(const struct str *list, uint32_t n, const char *host)
{
	for (uint32_t i = 0; i < n; i++) {
		if (str_eq_nocase(list[i], str_of(host)))
			return true;
	}
	return false;
}

bool policy_private(const struct image_fetch_request *q, const char *host)
{
	return listed_in_full(q->registries, q->n_registries, host) ||
	       listed_in_full(q->insecure, q->n_insecure, host) ||
	       listed_in_full(q->token_hosts, q->n_token_hosts, host) || is_mirror(q, host);
}

bool policy_registry(const struct image_fetch_request *q, const char *host)
{
	return q->n_registries == 0 || listed(q->registries, q->n_registries, host) ||
	       policy_insecure(q, host);
}

/* The domain that a registry's host belongs to: the host without its first label, if what is left is no public
 * suffix. Two labels with a short second-level one ("co.uk", "com.au") are taken for a public suffix. */
static struct str parent_domain(struct str host)
{
	struct str first, parent, label, top;

	if (str_find(host, ':') < host.n || !str_cut(host, '.', &first, &parent) ||
	    !str_cut(parent, '.', &label, &top))
		return STR_NONE;
	if (str_find(top, '.') == top.n && label.n <= 3)
		return STR_NONE;
	for (size_t i = 0; i < top.n; i++) {
		if (top.p[i] >= '0' && top.p[i] <= '9' && i == 0)
			return STR_NONE; /* an IPv4 address has no domain */
	}
	return parent;
}

static bool related(const char *registry, const char *other)
{
	struct str host = str_of(other), parent = parent_domain(str_of(registry));

	if (strcmp(registry, other) == 0)
		return true;
	if (parent.n == 0)
		return false;
	return str_eq(host, parent) ||
	       (host.n > parent.n + 1 && str_ends(host, parent) && host.p[host.n - parent.n - 1] == '.');
}

bool policy_redirect(const struct image_fetch_request *q, const char *registry, const char *host, bool tls)
{
	if (!tls && !policy_insecure(q, host))
		return false;
	return q->n_registries == 0 || related(registry, host) || policy_named(q, host);
}

bool policy_token(const struct image_fetch_request *q, const char *registry, const char *host, bool tls)
{
	if (!tls && !policy_insecure(q, host))
		return false;
	return related(registry, host) || listed(q->token_hosts, q->n_token_hosts, host);
}

static bool public_v4(uint32_t a)
{
	static const struct {
		uint32_t net, bits;
	} special[] = {
		{0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
		{0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16},
		{0xc6120000, 15}, {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 3},
	};

	for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
		if (a >> (32 - special[i].bits) == special[i].net >> (32 - special[i].bits))
			return false;
	}
	return true;
}

bool policy_address_public(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return public_v4(ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr));
	if (address->sa_family != AF_INET6)
		return false;
	const uint8_t *b = ((const struct sockaddr_in6 *)(const void *)address)->sin6_addr.s6_addr;

	/* 2000::/3 is what is assigned; in it Teredo, documentation, ORCHID and 6to4 lead elsewhere. */
	if ((b[0] & 0xe0) != 0x20)
		return false;
	if (b[0] == 0x20 && b[1] == 0x01 && (b[2] < 0x02 || (b[2] == 0x0d && b[3] == 0xb8)))
		return false;
	return !(b[0] == 0x20 && b[1] == 0x02);
}
