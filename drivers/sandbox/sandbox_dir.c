#include "sandbox_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"
#include "process.h"
#include "wire/template.h"

#define FILE_BYTES_MAX 8192
#define OPEN_DIRS_MAX  16

void sandbox_dir_path(const char *parent, uint64_t sandbox, char ret[SANDBOX_DIR_MAX])
{
	int n = snprintf(ret, SANDBOX_DIR_MAX, "%s/%016" PRIx64, parent, sandbox);

	must(n < SANDBOX_DIR_MAX);
}

bool sandbox_dir_id(const char *name, uint64_t *ret)
{
	if (strlen(name) != 16 || strspn(name, "0123456789abcdef") != 16)
		return false;
	*ret = strtoull(name, NULL, 16);
	return true;
}

static int write_struct(const char *dir, const char *name, const struct codec_type *type, const void *value,
			struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	char path[SANDBOX_DIR_MAX + 32], temporary[SANDBOX_DIR_MAX + 32];
	int r;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	snprintf(temporary, sizeof temporary, "%s/%s.new", dir, name);
	codec_encode(&b, type, value);
	CLEANUP_FD int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	/* Whole or not at all when sandboxd is killed; no sync, for after a crash of the machine nothing runs. */
	r = fd < 0 ? -errno : fd_write_all(fd, b.p, b.n);
	if (r == 0 && rename(temporary, path) != 0)
		r = -errno;
	return r < 0 ? err_system(err, r, "write %s", path) : 0;
}

static int read_struct(const char *dir, const char *name, const struct codec_type *type, struct arena *arena,
		       void *ret, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	char path[SANDBOX_DIR_MAX + 32];
	int r;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	r = fd_read_file(path, FILE_BYTES_MAX, &b, err);
	if (r == 0 && b.n == 0)
		r = err_set(err, -ENOENT, "%s is empty", path);
	return r < 0 ? r : codec_decode(b.p, b.n, type, arena, ret, err);
}

int sandbox_dir_make(const char *dir, const struct sandbox_meta *meta, struct err *err)
{
	if (mkdir(dir, 0711) != 0)
		return err_system(err, -errno, "mkdir %s", dir);
	if (chmod(dir, 0711) != 0)
		return err_system(err, -errno, "chmod %s", dir);
	return write_struct(dir, "meta", &sandbox_meta_codec, meta, err);
}

int sandbox_dir_write_shim(const char *dir, int64_t pid, uint64_t start, struct err *err)
{
	struct sandbox_running r = {.shim_pid = pid, .shim_start = start};

	return write_struct(dir, "shim", &sandbox_running_codec, &r, err);
}

int sandbox_dir_read_shim(const char *dir, int64_t *ret_pid, uint64_t *ret_start, struct err *err)
{
	CLEANUP_ARENA struct arena a = {0};
	struct sandbox_running r;
	int result = read_struct(dir, "shim", &sandbox_running_codec, &a, &r, err);

	if (result < 0)
		return result;
	*ret_pid = r.shim_pid;
	*ret_start = r.shim_start;
	return 0;
}

int sandbox_dir_write_running(const char *dir, const struct sandbox_running *r, struct err *err)
{
	struct sandbox_running with_boot = *r;
	char boot[CLOCK_BOOT_ID_SIZE];

	clock_boot_id(boot);
	with_boot.boot_id = str_of(boot);
	return write_struct(dir, "running", &sandbox_running_codec, &with_boot, err);
}

int sandbox_dir_read_meta(const char *dir, struct sandbox_meta *ret, char *ret_digest, struct err *err)
{
	CLEANUP_ARENA struct arena a = {0};
	struct sandbox_meta m;
	int r = read_struct(dir, "meta", &sandbox_meta_codec, &a, &m, err);

	if (r < 0)
		return r;
	(void)str_copy(m.digest, ret_digest, DIGEST_MAX + 1);
	m.digest = STR_NONE;
	*ret = m;
	return 0;
}

int sandbox_dir_read_running(const char *dir, struct sandbox_running *ret, struct err *err)
{
	CLEANUP_ARENA struct arena a = {0};
	struct sandbox_running r;
	char boot[CLOCK_BOOT_ID_SIZE];
	int result = read_struct(dir, "running", &sandbox_running_codec, &a, &r, err);

	if (result < 0)
		return result;
	clock_boot_id(boot);
	if (!str_eq(r.boot_id, str_of(boot)))
		result = err_set(err, -ESTALE, "%s: from before the machine was booted", dir);
	r.boot_id = STR_NONE;
	*ret = r;
	return result;
}

bool sandbox_dir_read_exit(const char *dir, struct sandbox_exit *ret)
{
	CLEANUP_ARENA struct arena a = {0};

	return read_struct(dir, "exit", &sandbox_exit_codec, &a, ret, NULL) == 0;
}

static void egress_path(const char *dir, char ret[SANDBOX_DIR_MAX + 32])
{
	snprintf(ret, SANDBOX_DIR_MAX + 32, "%s/egress-off", dir);
}

int sandbox_dir_set_egress(const char *dir, bool on, struct err *err)
{
	char path[SANDBOX_DIR_MAX + 32];
	int fd;

	egress_path(dir, path);
	if (on)
		return unlink(path) == 0 || errno == ENOENT ? 0 : err_system(err, -errno, "remove %s", path);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_system(err, -errno, "write %s", path);
	close(fd);
	return 0;
}

bool sandbox_dir_egress_on(const char *dir)
{
	char path[SANDBOX_DIR_MAX + 32];

	egress_path(dir, path);
	return access(path, F_OK) != 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	(void)!remove(path);
	return 0;
}

int sandbox_dir_remove(const char *dir, struct err *err)
{
	nftw(dir, remove_entry, OPEN_DIRS_MAX, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return access(dir, F_OK) == 0 ? err_set(err, -EBUSY, "%s could not be removed", dir) : 0;
}
