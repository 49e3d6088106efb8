/* names.h -- what operators call their imports: a name given to `berth image import` stands for that image on this node,
 * and no registry is asked for it. <dir>/names/<SHA-256 of the name, hex> holds the digest. Any thread. */
#ifndef IMAGE_NAMES_H
#define IMAGE_NAMES_H

#include "image/store.h"

/* Marks the images that names stand for, and removes names whose image is gone. */
int names_load(struct image_store *s, struct err *err);
/* Replaces what the name stood for before. */
int names_set(struct image_store *s, struct str name, const char *digest, struct err *err);
/* -ENOENT: no import of that name, or its image is gone. */
int names_get(struct image_store *s, struct str name, char ret_digest[IMAGE_DIGEST_SIZE]);

#endif
