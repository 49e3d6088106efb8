/* nft.h -- runs the nft program with one batch on its standard input. libnftables is GPL and is not linked. */
#ifndef LXC_NFT_H
#define LXC_NFT_H

#include <stdbool.h>

#include "core/err.h"
#include "core/str.h"

/* Blocks for a few ms. `err` holds the first line that nft complained with. */
int nft_apply(struct str batch, struct err *err);

/* "inet name": false also when nft cannot be run. */
bool nft_has_table(const char *table);

#endif
