#include "str.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <pthread.h>

#include "must.h"

struct str str_of(const char *terminated)
{
	return terminated == NULL ? STR_NONE : (struct str){terminated, strlen(terminated)};
}

struct str str_slice(struct str s, size_t from, size_t to)
{
	must(from <= to && to <= s.n);
	return s.p == NULL ? STR_NONE : (struct str){s.p + from, to - from};
}

bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool str_eq_nocase(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

int str_cmp(struct str a, struct str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int order = n == 0 ? 0 : memcmp(a.p, b.p, n);

	if (order != 0)
		return order;
	return (a.n > b.n) - (a.n < b.n);
}

bool str_starts(struct str s, struct str prefix)
{
	return s.n >= prefix.n && str_eq(str_slice(s, 0, prefix.n), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
	return s.n >= suffix.n && str_eq(str_slice(s, s.n - suffix.n, s.n), suffix);
}

size_t str_find(struct str s, char c)
{
	const char *at = s.n == 0 ? NULL : memchr(s.p, c, s.n);

	return at == NULL ? s.n : (size_t)(at - s.p);
}

bool str_cut(struct str s, char c, struct str *ret_head, struct str *ret_tail)
{
	size_t at = str_find(s, c);

	*ret_head = str_slice(s, 0, at);
	*ret_tail = at == s.n ? STR_NONE : str_slice(s, at + 1, s.n);
	return at != s.n;
}

int str_u64(struct str s, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	if (s.n == 0 || s.n > 20)
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(s.p[i] - '0'), &value))
			return -ERANGE;
	}
	if (value > max)
		return -ERANGE;
	*ret = value;
	return 0;
}

int str_size(struct str s, uint64_t *ret)
{
	static const struct {
		struct str suffix;
		unsigned shift;
	} units[] = {{STR("Ki"), 10}, {STR("Mi"), 20}, {STR("Gi"), 30}, {STR(""), 0}};
	uint64_t n;

	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		if (!str_ends(s, units[i].suffix))
			continue;
		if (str_u64(str_slice(s, 0, s.n - units[i].suffix.n), UINT64_MAX >> units[i].shift, &n) < 0)
			return -EINVAL;
		*ret = n << units[i].shift;
		return 0;
	}
	return -EINVAL;
}

int str_duration(struct str s, uint64_t *ret_ms)
{
	static const struct {
		char suffix;
		uint64_t ms;
	} units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
	uint64_t n;

	for (size_t i = 0; s.n > 0 && i < sizeof units / sizeof *units; i++) {
		if (s.p[s.n - 1] != units[i].suffix)
			continue;
		if (str_u64(str_slice(s, 0, s.n - 1), UINT64_MAX / units[i].ms, &n) < 0)
			return -EINVAL;
		*ret_ms = n * units[i].ms;
		return 0;
	}
	return -EINVAL;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

struct str str_trim(struct str s)
{
	while (s.n > 0 && is_blank(s.p[0]))
		s = str_slice(s, 1, s.n);
	while (s.n > 0 && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

int str_copy(struct str s, char *buffer, size_t size)
{
	if (s.n + 1 > size)
		return -ENAMETOOLONG;
	if (s.n > 0 && memchr(s.p, '\0', s.n) != NULL)
		return -EINVAL;
	if (s.n > 0)
		memcpy(buffer, s.p, s.n);
	buffer[s.n] = '\0';
	return 0;
}

static uint64_t hash_key[2];
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;

static void hash_key_draw(void)
{
	must(getrandom(hash_key, sizeof hash_key, 0) == (ssize_t)sizeof hash_key);
}

static inline uint64_t rotl(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] = rotl(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] = rotl(v[2], 32);
}

uint64_t str_hash(struct str s)
{
	pthread_once(&hash_key_once, hash_key_draw);

	uint64_t v[4] = {hash_key[0] ^ 0x736f6d6570736575u, hash_key[1] ^ 0x646f72616e646f6du,
			 hash_key[0] ^ 0x6c7967656e657261u, hash_key[1] ^ 0x7465646279746573u};
	size_t n = s.n;
	const char *p = s.p;

	for (; n >= 8; n -= 8, p += 8) {
		uint64_t word;

		memcpy(&word, p, 8);
		v[3] ^= word;
		sip_round(v);
		sip_round(v);
		v[0] ^= word;
	}
	uint64_t last = (uint64_t)s.n << 56;

	for (size_t i = 0; i < n; i++)
		last |= (uint64_t)(uint8_t)p[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t str_hash_stable(struct str s, uint64_t seed)
{
	uint64_t hash = 1469598103934665603u ^ seed;

	for (size_t i = 0; i < s.n; i++)
		hash = (hash ^ (uint8_t)s.p[i]) * 1099511628211u;
	return hash;
}
