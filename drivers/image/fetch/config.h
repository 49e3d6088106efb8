/* config.h -- the OCI image configuration (image-spec v1, config.md), as Docker writes it too. Pure. */
#ifndef IMAGE_FETCH_CONFIG_H
#define IMAGE_FETCH_CONFIG_H

#include "core/arena.h"
#include "core/err.h"
#include "image_protocol/protocol.h"

struct config_diffs {
	struct str *hex; /* rootfs.diff_ids without "sha256:" */
	uint32_t n;
};

/* uid, gid and groups stay zero: they need the root's files. Strings live in the arena. -EBADMSG names the field. */
int config_parse(struct str text, struct arena *arena, struct image_config *ret,
		 struct config_diffs *ret_diffs, struct err *err);

/* "SIGTERM", "TERM", "15", "SIGRTMIN+3"; -EINVAL. */
int config_signal(struct str text, uint32_t *ret);

#endif
