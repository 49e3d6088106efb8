/* websocket.c -- RFC 6455: the handshake's key (section 4.2.2, SHA-1 and base64), then frames (section 5.2).
 * Fragments are echoed as they come, with their flags; a frame above FRAME_MAX or an unmasked one ends the tunnel. */
#include "websocket.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reply.h"

#define FRAME_MAX (1u << 20)

static uint32_t rotate(uint32_t x, unsigned bits)
{
	return x << bits | x >> (32 - bits);
}

static void sha1_block(uint32_t h[5], const uint8_t *p)
{
	uint32_t w[80], v[5];

	for (unsigned i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 |
		       p[4 * i + 3];
	for (unsigned i = 16; i < 80; i++)
		w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	memcpy(v, h, sizeof v);
	for (unsigned i = 0; i < 80; i++) {
		uint32_t b = v[1], c = v[2], d = v[3];
		uint32_t f = i < 20              ? (b & c) | (~b & d)
			     : i < 40 || i >= 60 ? b ^ c ^ d
						 : (b & c) | (b & d) | (c & d);
		uint32_t k = i < 20 ? 0x5a827999u : i < 40 ? 0x6ed9eba1u : i < 60 ? 0x8f1bbcdcu : 0xca62c1d6u;
		uint32_t next = rotate(v[0], 5) + f + v[4] + k + w[i];

		v[4] = d;
		v[3] = c;
		v[2] = rotate(b, 30);
		v[1] = v[0];
		v[0] = next;
	}
	for (unsigned i = 0; i < 5; i++)
		h[i] += v[i];
}

/* FIPS 180-4, for texts below 120 bytes: two blocks are enough for the handshake. */
static void sha1(const char *p, size_t n, uint8_t ret[20])
{
	uint32_t h[5] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
	uint8_t block[128] = {0};
	size_t blocks = n < 56 ? 1 : 2;

	memcpy(block, p, n);
	block[n] = 0x80;
	block[64 * blocks - 2] = (uint8_t)(n * 8 >> 8);
	block[64 * blocks - 1] = (uint8_t)(n * 8);
	for (size_t i = 0; i < blocks; i++)
		sha1_block(h, block + 64 * i);
	for (unsigned i = 0; i < 20; i++)
		ret[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *p, size_t n, char *to)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3) {
		uint32_t x = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0u) |
			     (i + 2 < n ? p[i + 2] : 0u);

		*to++ = digits[x >> 18];
		*to++ = digits[x >> 12 & 63];
		*to++ = i + 1 < n ? digits[x >> 6 & 63] : '=';
		*to++ = i + 2 < n ? digits[x & 63] : '=';
	}
	*to = '\0';
}

static bool shake_hands(struct exchange *x)
{
	const char *key = exchange_header(x, "sec-websocket-key");
	char text[120], accept[32], answer[256];
	uint8_t hash[20];
	int n = snprintf(text, sizeof text, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);

	if (strlen(key) != 24 || n != 60) {
		x->close = true;
		reply_text(x, "400 Bad Request", "Sec-WebSocket-Key: 24 characters expected\n");
		return false;
	}
	sha1(text, (size_t)n, hash);
	base64(hash, sizeof hash, accept);
	n = snprintf(answer, sizeof answer,
		     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		     "Sec-WebSocket-Accept: %s\r\n\r\n",
		     accept);
	return exchange_write(x, answer, (size_t)n);
}

static bool send_frame(struct exchange *x, uint8_t flags, const uint8_t *p, size_t n)
{
	uint8_t head[10] = {flags, (uint8_t)(n < 126 ? n : n < 65536 ? 126 : 127)};
	size_t size = n < 126 ? 2 : n < 65536 ? 4 : 10;

	for (size_t i = 2; i < size; i++)
		head[i] = (uint8_t)((uint64_t)n >> (8 * (size - 1 - i)));
	return exchange_write(x, head, size) && exchange_write(x, p, n);
}

/* Reads one frame and answers it; false ends the tunnel. */
static bool serve_frame(struct exchange *x, uint8_t *payload)
{
	uint8_t head[2], extended[8], mask[4];
	uint64_t n;

	if (!exchange_read(x, head, 2) || (head[1] & 0x80) == 0)
		return false;
	n = head[1] & 0x7f;
	if (n >= 126) {
		size_t width = n == 126 ? 2 : 8;

		if (!exchange_read(x, extended, width))
			return false;
		n = 0;
		for (size_t i = 0; i < width; i++)
			n = n << 8 | extended[i];
	}
	if (n > FRAME_MAX || !exchange_read(x, mask, 4) || !exchange_read(x, payload, (size_t)n))
		return false;
	for (size_t i = 0; i < n; i++)
		payload[i] ^= mask[i & 3];
	switch (head[0] & 0x0f) {
	case 8: /* close */
		send_frame(x, head[0], payload, (size_t)n);
		return false;
	case 9: /* ping */
		return send_frame(x, (uint8_t)((head[0] & 0xf0) | 10), payload, (size_t)n);
	case 10: /* pong */
		return true;
	default:
		return send_frame(x, head[0], payload, (size_t)n);
	}
}

void websocket_echo(struct exchange *x)
{
	uint8_t *payload = malloc(FRAME_MAX);

	x->close = true;
	if (payload != NULL && shake_hands(x)) {
		while (serve_frame(x, payload))
			;
	}
	free(payload);
}
