/* import.h -- images from files: an OCI layout (directory or archive), or what `docker save` wrote. What has an
 * oci-layout file is a layout; what has a manifest.json is a docker-archive. */
#ifndef IMAGE_FETCH_IMPORT_H
#define IMAGE_FETCH_IMPORT_H

#include "image_fetch/walk.h"

int import_image(int fd, const struct walk_bounds *bounds, struct arena *arena,
		 struct image_fetch_result *ret, struct err *err);

#endif
