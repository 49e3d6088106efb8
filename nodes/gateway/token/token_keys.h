/* token_keys.h -- what the cache needs to know of a set of keys, and nobody else. */
#ifndef GATEWAY_TOKEN_KEYS_H
#define GATEWAY_TOKEN_KEYS_H

#include "gateway/token/token.h"

/* Differs for each set of keys ever made in this process. */
uint64_t token_keys_serial(const struct token_keys *k);

#endif
