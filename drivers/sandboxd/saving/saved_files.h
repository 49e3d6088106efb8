/* saved_files.h -- the memory of sandboxes that sleep or move: <state_dir>/saved/<sandbox>.<save>, one file each; with ".part" behind
 * the name it is not whole, and goes when sandboxd starts. Nothing here is synced: what a machine loses when it falls, its sessions
 * lose too. Thread: any; not two of them about one sandbox. */
#ifndef SANDBOXD_SAVED_FILES_H
#define SANDBOXD_SAVED_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

struct saved_file {
	uint64_t sandbox, save, bytes;
};

/* Of the directory, made if need be. */
int saved_files_open(const char *state_dir, int *ret_dir, struct err *err);
/* The whole file of the sandbox; false: there is none. */
bool saved_files_find(int dir, uint64_t sandbox, struct saved_file *ret);
/* The first `max` whole ones; their number. */
uint32_t saved_files_list(int dir, struct saved_file *ret, uint32_t max);
/* For writing; whatever else is there of the sandbox goes. bytes > 0: that much room is taken at once, -ENOSPC. */
int saved_files_create(int dir, uint64_t sandbox, uint64_t save, uint64_t bytes, int *ret_fd,
		       struct err *err);
/* What was created is whole. bytes > 0: -EINVAL if it is not that long. */
int saved_files_finish(int dir, uint64_t sandbox, uint64_t save, uint64_t bytes, struct saved_file *ret,
		       struct err *err);
/* For reading. -ENOENT. */
int saved_files_read(int dir, uint64_t sandbox, uint64_t save, int *ret_fd, uint64_t *ret_bytes,
		     struct err *err);
/* All that is there of the sandbox. 0 if nothing is left. */
int saved_files_remove(int dir, uint64_t sandbox);

#endif
