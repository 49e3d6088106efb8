/* nft.h -- runs the nft program with one batch on its standard input. libnftables is GPL and is not linked. */
#ifndef LXC_NFT_H
#define LXC_NFT_H

#include "core/err.h"
#include "core/str.h"

/* Blocks for a few ms. `err` holds the first line that nft complained with. */
int nft_apply(struct str batch, struct err *err);

#endif
