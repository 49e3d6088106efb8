/* Happy path: read the kernel and the few files of the initrd, hash them with the emulator; if <dir>/<version> is there, that is
 * all. Else write both files into <dir>/new, and rename that. A crash leaves at most <dir>/new, which the next attempt begins by
 * removing. What is published was on the disk before its name was. */
#include "libvirt_boot/boot_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "crypto/digest.h"
#include "libvirt_boot/initrd.h"
#include "libvirt_boot/kernel.h"
#include "libvirt_boot/modules.h"

#define KERNELS      "/boot"
#define MODULES      "/lib/modules"
#define EMULATOR     "/usr/bin/qemu-system-x86_64"
#define LISTING_MAX  (4u << 20)
#define MODULE_MAX   (16u << 20)
#define GUEST_MAX    (64u << 20)
#define EMULATOR_MAX (256u << 20)
#define INITRD_MAX   (128u << 20)

/* The machine has its devices behind virtio-mmio, the image on erofs below a tmpfs. */
static const char *const wanted_modules[] = {"virtio_mmio", "virtio_blk", "virtio_net", "virtio_console",
					     "erofs",       "overlay",    NULL};

static const char *or_default(const char *given, const char *otherwise)
{
	return given != NULL && given[0] != '\0' ? given : otherwise;
}

/* "<directory>/<name>" */
static int join(const char *directory, const char *name, char ret[PATH_MAX], struct err *err)
{
	return snprintf(ret, PATH_MAX, "%s/%s", directory, name) < PATH_MAX
		       ? 0
		       : err_set(err, -ENAMETOOLONG, "%s: the path is too long", directory);
}

static int read_in(const char *directory, const char *name, size_t max, struct buf *ret, struct err *err)
{
	char path[PATH_MAX];
	int r = join(directory, name, path, err);

	return r < 0 ? r : fd_read_file(path, max, ret, err);
}

/* -- The initrd --------------------------------------------------------------------------------------------- */

static int add_module(struct buf *b, const char *directory, struct str path, struct buf *list,
		      struct err *err)
{
	CLEANUP_BUF struct buf contents = {0};
	char from[PATH_MAX], to[NAME_MAX + 8];
	struct str file = modules_file(path);
	int r = 0;

	if (path.n >= sizeof from || file.n > NAME_MAX)
		return err_set(err, -ENAMETOOLONG, "a module's path is too long");
	snprintf(from, sizeof from, "%.*s", STR_ARGS(path));
	r = read_in(directory, from, MODULE_MAX, &contents, err);
	if (r < 0)
		return r;
	snprintf(to, sizeof to, "m/%.*s", STR_ARGS(file));
	initrd_file(b, to, 0444, buf_str(&contents));
	buf_printf(list, "%.*s\n", STR_ARGS(file));
	return 0;
}

static int add_modules(struct buf *b, const char *directory, struct err *err)
{
	CLEANUP_BUF struct buf dep = {0}, builtin = {0}, list = BUF_MAX(LISTING_MAX);
	struct modules modules;
	int r = read_in(directory, "modules.dep", LISTING_MAX, &dep, err);

	if (r == 0)
		r = read_in(directory, "modules.builtin", LISTING_MAX, &builtin, err);
	if (r == 0)
		r = modules_order(buf_str(&dep), buf_str(&builtin), wanted_modules, &modules, err);
	for (size_t i = 0; r == 0 && i < modules.n; i++)
		r = add_module(b, directory, modules.paths[i], &list, err);
	if (r < 0)
		return r;
	initrd_file(b, "m/list", 0444, buf_str(&list));
	return buf_failed(&list) ? err_set(err, -ENOMEM, "no memory for an initrd") : 0;
}

static int make_initrd(const char *program, const char *modules, struct buf *ret, struct err *err)
{
	CLEANUP_BUF struct buf guest = {0};
	struct buf b = BUF_MAX(INITRD_MAX);
	int r = fd_read_file(program, GUEST_MAX, &guest, err);

	if (r < 0)
		return r;
	initrd_directory(&b, "dev", 0755);
	initrd_device(&b, "dev/console", 0600, 5, 1); /* the kernel gives it to /init as 0, 1 and 2 */
	initrd_directory(&b, "m", 0755);
	initrd_file(&b, "init", 0555, buf_str(&guest));
	r = add_modules(&b, modules, err);
	initrd_end(&b);
	if (r == 0 && buf_failed(&b))
		r = err_set(err, -ENOMEM, "no memory for an initrd");
	if (r < 0)
		buf_done(&b);
	else
		*ret = b;
	return r;
}

/* -- The version -------------------------------------------------------------------------------------------- */

/* Of the files themselves, not of what they call themselves: two builds of one version differ in what they save. */
static int name_version(struct str kernel, struct str initrd, const char *emulator,
			char ret[BOOT_VERSION_SIZE], struct err *err)
{
	CLEANUP_BUF struct buf program = {0};
	uint8_t all[3][SHA256_BYTES], hash[SHA256_BYTES];
	int r = fd_read_file(emulator, EMULATOR_MAX, &program, err);

	if (r == -ENOENT)
		return err_set(err, r, "no %s: install the package qemu-system-x86", emulator);
	if (r < 0)
		return r;
	crypto_sha256(kernel, all[0]);
	crypto_sha256(initrd, all[1]);
	crypto_sha256(buf_str(&program), all[2]);
	crypto_sha256((struct str){(const char *)all, sizeof all}, hash);
	crypto_hex(hash, sizeof hash, ret);
	return 0;
}

static bool is_version(const char *name)
{
	return strlen(name) == BOOT_VERSION_SIZE - 1 &&
	       strspn(name, "0123456789abcdef") == BOOT_VERSION_SIZE - 1;
}

/* -- On the disk -------------------------------------------------------------------------------------------- */

/* A version's directory holds these two files, or what fd_write_file left beside them. */
static int remove_version(const char *path, struct err *err)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (d == NULL)
		return errno == ENOENT ? 0 : err_system(err, -errno, "open %s", path);
	while ((e = readdir(d)) != NULL)
		(void)unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	return rmdir(path) < 0 ? err_system(err, -errno, "remove %s", path) : 0;
}

static int write_in(const char *directory, const char *name, struct str contents, struct err *err)
{
	char path[PATH_MAX];
	int r = join(directory, name, path, err);

	return r < 0 ? r : fd_write_file(path, 0444, contents.p, contents.n, err);
}

static int sync_directory(const char *path, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? err_system(err, -errno, "write %s to the disk", path) : 0;
}

static int publish(const char *dir, const char *version_path, struct str kernel, struct str initrd,
		   struct err *err)
{
	CLEANUP_BUF struct buf vmlinux = {0};
	char new[PATH_MAX];
	int r = kernel_unpack(kernel, &vmlinux, err);

	if (r == 0)
		r = join(dir, "new", new, err);
	if (r == 0)
		r = remove_version(new, err);
	if (r == 0)
		r = fd_make_directory(new, 0711, err);
	if (r == 0)
		r = write_in(new, "vmlinux", buf_str(&vmlinux), err);
	if (r == 0)
		r = write_in(new, "initrd", initrd, err);
	if (r == 0 && rename(new, version_path) < 0)
		r = err_system(err, -errno, "publish %s", version_path);
	return r < 0 ? r : sync_directory(dir, err);
}

static int find_kernel(const struct boot_options *o, struct buf *ret_kernel, char ret_modules[PATH_MAX],
		       struct err *err)
{
	char found[PATH_MAX], release[KERNEL_RELEASE_SIZE];
	const char *path = or_default(o->kernel, NULL);
	int r = path != NULL ? 0 : kernel_find(KERNELS, found, err);

	if (r == 0)
		r = fd_read_file(path != NULL ? path : found, KERNEL_FILE_MAX, ret_kernel, err);
	if (r == 0)
		r = kernel_release(buf_str(ret_kernel), release, err);
	return r < 0 ? r : join(MODULES, release, ret_modules, err);
}

int boot_files_prepare(const struct boot_options *o, struct boot_files *ret, struct err *err)
{
	CLEANUP_BUF struct buf kernel = {0}, initrd = {0};
	char modules[PATH_MAX], path[PATH_MAX];
	struct boot_files files = {0};
	int r = find_kernel(o, &kernel, modules, err);

	if (r == 0)
		r = make_initrd(o->guest, or_default(o->modules, modules), &initrd, err);
	if (r == 0)
		r = name_version(buf_str(&kernel), buf_str(&initrd), or_default(o->emulator, EMULATOR),
				 files.version, err);
	if (r == 0)
		r = fd_make_directory(o->dir, 0711, err);
	if (r == 0)
		r = join(o->dir, files.version, path, err);
	if (r == 0 && access(path, F_OK) < 0)
		r = publish(o->dir, path, buf_str(&kernel), buf_str(&initrd), err);
	if (r == 0)
		r = join(path, "vmlinux", files.vmlinux, err);
	if (r == 0)
		r = join(path, "initrd", files.initrd, err);
	if (r == 0)
		*ret = files;
	return r;
}

static bool is_kept(const char *name, const char *const *versions, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(name, versions[i]) == 0)
			return true;
	}
	return false;
}

int boot_files_sweep(const char *dir, const char *const *versions, size_t n, struct err *err)
{
	char path[PATH_MAX];
	struct dirent *e;
	DIR *d = opendir(dir);
	int r = 0;

	if (d == NULL)
		return errno == ENOENT ? 0 : err_system(err, -errno, "open %s", dir);
	while (r == 0 && (e = readdir(d)) != NULL) {
		bool old = is_version(e->d_name) ? !is_kept(e->d_name, versions, n)
						 : strcmp(e->d_name, "new") == 0;

		if (old)
			r = join(dir, e->d_name, path, err);
		if (old && r == 0)
			r = remove_version(path, err);
	}
	closedir(d);
	return r;
}
