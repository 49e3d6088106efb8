/* image_source.h -- opens the node's image store as the settings say. */
#ifndef SANDBOXD_IMAGE_SOURCE_H
#define SANDBOXD_IMAGE_SOURCE_H

#include "sandboxd/settings.h"

struct image_store;

int image_source_open(const struct settings *s, const char *bin_dir, struct image_store **ret,
		      struct err *err);

#endif
