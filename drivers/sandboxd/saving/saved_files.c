#include "sandboxd/saving/saved_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"

#define NAME_SIZE 64

static void name_of(uint64_t sandbox, uint64_t save, bool whole, char ret[NAME_SIZE])
{
	snprintf(ret, NAME_SIZE, "%" PRIu64 ".%" PRIu64 "%s", sandbox, save, whole ? "" : ".part");
}

/* False: it is no file of ours. */
static bool parse(const char *name, struct saved_file *ret, bool *ret_whole)
{
	char again[NAME_SIZE];

	if (sscanf(name, "%" SCNu64 ".%" SCNu64, &ret->sandbox, &ret->save) != 2)
		return false;
	name_of(ret->sandbox, ret->save, true, again);
	*ret_whole = strcmp(name, again) == 0;
	name_of(ret->sandbox, ret->save, false, again);
	return *ret_whole || strcmp(name, again) == 0;
}

/* Its own position: others may walk meanwhile. */
static DIR *walk(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (d == NULL && fd >= 0)
		close(fd);
	return d;
}

static int remove_where(int dir, uint64_t sandbox, bool parts)
{
	struct saved_file f;
	DIR *d = walk(dir);
	bool whole;
	int r = d == NULL ? -errno : 0;

	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		if (!parse(e->d_name, &f, &whole) || (parts ? whole : f.sandbox != sandbox))
			continue;
		if (unlinkat(dir, e->d_name, 0) != 0 && errno != ENOENT)
			r = -errno;
	}
	if (d != NULL)
		closedir(d);
	return r;
}

int saved_files_open(const char *state_dir, int *ret_dir, struct err *err)
{
	CLEANUP_FD int parent = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), dir = -1;

	if (parent < 0 || (mkdirat(parent, "saved", 0700) != 0 && errno != EEXIST) ||
	    (dir = openat(parent, "saved", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return err_system(err, -errno, "%s/saved", state_dir);
	(void)remove_where(dir, 0, true);
	*ret_dir = fd_take(&dir);
	return 0;
}

uint32_t saved_files_list(int dir, struct saved_file *ret, uint32_t max)
{
	DIR *d = walk(dir);
	struct stat st;
	uint32_t n = 0;
	bool whole;

	for (struct dirent *e; d != NULL && n < max && (e = readdir(d)) != NULL;) {
		if (!parse(e->d_name, &ret[n], &whole) || !whole ||
		    fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		ret[n++].bytes = (uint64_t)st.st_size;
	}
	if (d != NULL)
		closedir(d);
	return n;
}

bool saved_files_find(int dir, uint64_t sandbox, struct saved_file *ret)
{
	DIR *d = walk(dir);
	struct saved_file f = {0};
	bool found = false, whole;
	struct stat st;

	for (struct dirent *e; d != NULL && !found && (e = readdir(d)) != NULL;) {
		found = parse(e->d_name, &f, &whole) && whole && f.sandbox == sandbox &&
			fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	}
	if (d != NULL)
		closedir(d);
	if (found) {
		f.bytes = (uint64_t)st.st_size;
		*ret = f;
	}
	return found;
}

int saved_files_create(int dir, uint64_t sandbox, uint64_t save, uint64_t bytes, int *ret_fd, struct err *err)
{
	char name[NAME_SIZE];
	CLEANUP_FD int fd = -1;
	int r = remove_where(dir, sandbox, false);

	name_of(sandbox, save, false, name);
	if (r == 0 && (fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0)
		r = -errno;
	if (r == 0 && bytes > 0)
		r = -posix_fallocate(fd, 0, (off_t)bytes);
	if (r < 0) {
		if (fd >= 0)
			unlinkat(dir, name, 0);
		return err_system(err, r, "saved/%s", name);
	}
	*ret_fd = fd_take(&fd);
	return 0;
}

int saved_files_finish(int dir, uint64_t sandbox, uint64_t save, uint64_t bytes, struct saved_file *ret,
		       struct err *err)
{
	char part[NAME_SIZE], whole[NAME_SIZE];
	struct stat st;

	name_of(sandbox, save, false, part);
	name_of(sandbox, save, true, whole);
	if (fstatat(dir, part, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return err_system(err, -errno, "saved/%s", part);
	if (st.st_size == 0 || (bytes != 0 && (uint64_t)st.st_size != bytes))
		return err_set(err, -EINVAL, "saved/%s: %lld bytes, not %" PRIu64, part,
			       (long long)st.st_size, bytes);
	if (renameat(dir, part, dir, whole) != 0)
		return err_system(err, -errno, "saved/%s", part);
	*ret = (struct saved_file){sandbox, save, (uint64_t)st.st_size};
	return 0;
}

int saved_files_read(int dir, uint64_t sandbox, uint64_t save, int *ret_fd, uint64_t *ret_bytes,
		     struct err *err)
{
	char name[NAME_SIZE];
	CLEANUP_FD int fd = -1;
	struct stat st;

	name_of(sandbox, save, true, name);
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		return err_system(err, -errno, "saved/%s", name);
	*ret_bytes = (uint64_t)st.st_size;
	*ret_fd = fd_take(&fd);
	return 0;
}

int saved_files_remove(int dir, uint64_t sandbox)
{
	return remove_where(dir, sandbox, false);
}
