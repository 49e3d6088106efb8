#include "gateway/token/base64url.h"

#include <errno.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void base64url_encode(struct buf *to, const void *p, size_t n)
{
	const unsigned char *b = p;

	for (size_t i = 0; i < n; i += 3) {
		size_t have = n - i < 3 ? n - i : 3;
		unsigned bits = (unsigned)b[i] << 16 | (have > 1 ? (unsigned)b[i + 1] << 8 : 0) |
				(have > 2 ? b[i + 2] : 0);
		char four[4];
		for (unsigned k = 0; k < 4; k++)
			four[k] = alphabet[bits >> (18 - 6 * k) & 63];
		buf_add(to, four, have + 1);
	}
}

static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

int base64url_decode(struct str text, struct buf *to)
{
	static const unsigned stray[] = {0, 0, 0xffff, 0xff, 0};

	if (text.n % 4 == 1)
		return -EINVAL;
	for (size_t i = 0; i < text.n; i += 4) {
		size_t have = text.n - i < 4 ? text.n - i : 4;
		unsigned bits = 0;
		for (size_t k = 0; k < have; k++) {
			int v = value_of(text.p[i + k]);
			if (v < 0)
				return -EINVAL;
			bits |= (unsigned)v << (18 - 6 * k);
		}
		if (bits & stray[have]) /* bits that belong to no byte */
			return -EINVAL;
		unsigned char three[3] = {(unsigned char)(bits >> 16), (unsigned char)(bits >> 8),
					  (unsigned char)bits};
		buf_add(to, three, have - 1);
	}
	return buf_failed(to) ? -ENOMEM : 0;
}
