/* sealed.h -- the head of what crypto/keyring.h seals: one byte of version, eight of key id (big endian), then nonce,
 * ciphertext and tag. Whoever stores sealed bytes can tell their key without being able to open them. Pure. */
#ifndef WIRE_SEALED_H
#define WIRE_SEALED_H

#include <stdint.h>

#include "core/str.h"

#define SEALED_VERSION 2
#define SEALED_HEAD    9

/* 0: not of this format. */
static inline uint64_t sealed_key(struct str sealed)
{
	const unsigned char *p = (const unsigned char *)sealed.p;
	uint64_t id = 0;

	if (sealed.n < SEALED_HEAD || p[0] != SEALED_VERSION)
		return 0;
	for (int i = 1; i < SEALED_HEAD; i++)
		id = id << 8 | p[i];
	return id;
}

#endif
