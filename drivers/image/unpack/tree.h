/* tree.h -- putting entries of one layer into the tree that the layers below made.
 *
 * The process is chrooted into the tree, so the kernel resolves symbolic links of parent directories inside it ("lib ->
 * usr/lib" works, and none leads out). The last part of a name is never followed: what was there before is replaced,
 * except that a directory over a directory keeps its content. Whiteouts remove only what layers below left: the tree
 * remembers the inodes that the current layer made. */
#ifndef IMAGE_UNPACK_TREE_H
#define IMAGE_UNPACK_TREE_H

#include <sys/types.h>

#include "core/err.h"
#include "image_unpack/names.h"

struct tree;

struct tree_owner {
	uint32_t uid, gid;
	mode_t mode; /* permissions, with set-id and sticky bits */
	struct timespec modified;
};

/* Works in the current directory (the chroot). */
struct tree *tree_new(void);
void tree_free(struct tree *t);
void tree_next_layer(struct tree *t);

int tree_directory(struct tree *t, const struct names *names, const struct tree_owner *owner,
		   struct err *err);
/* An empty file to write to; the caller closes it and calls tree_finish on it first. */
int tree_file(struct tree *t, const struct names *names, int *ret_fd, struct err *err);
int tree_finish(struct tree *t, int fd, const struct tree_owner *owner, struct err *err);
int tree_symlink(struct tree *t, const struct names *names, const char *target,
		 const struct tree_owner *owner, struct err *err);
int tree_hardlink(struct tree *t, const struct names *names, const char *target, struct err *err);
int tree_fifo(struct tree *t, const struct names *names, const struct tree_owner *owner, struct err *err);
int tree_whiteout(struct tree *t, const struct names *names, struct err *err);
int tree_opaque(struct tree *t, const struct names *names, struct err *err);

#endif
