/* nft.h -- runs the nft program with one batch on its standard input. libnftables is GPL and is not linked. */
#ifndef NET_NFT_H
#define NET_NFT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/str.h"

/* Blocks for a few ms. `err` holds the first line that nft complained with. */
int nft_apply(struct str batch, struct err *err);

/* The kernel's count of changes to rules, by whomever. */
int nft_generation(uint32_t *ret);
/* A hash of what the table ("inet name") holds but for counters, with or without the elements of its sets; 0: there is none.
 * Blocks for a few ms. */
uint64_t nft_fingerprint(const char *table, bool elements);
/* "inet name": false also when nft cannot be run. */
bool nft_has_table(const char *table);

#endif
