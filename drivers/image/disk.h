/* disk.h -- the store's directories: publishing, removing. As root, below directories that only root can enter. */
#ifndef IMAGE_DISK_H
#define IMAGE_DISK_H

#include "core/err.h"

/* Removes a tree without following links. A missing one is fine. */
int disk_remove(const char *path, struct err *err);
/* Everything in the directory. */
int disk_clear(const char *path, struct err *err);
/* Everything that was written below the path is on the disk; so is which names a directory has. */
int disk_sync(const char *path, struct err *err);
int disk_sync_names(const char *directory, struct err *err);

#endif
