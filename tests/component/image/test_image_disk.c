/* An image as one file for machines: the same files, owners and times as its root, made once, by a child that can reach nothing else;
 * a full disk and a killed child leave nothing. Needs what test_image_store.c needs, and erofs-utils. */
#include "stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fd.h"
#include "image_child/lockdown.h"
#include "image_pack/view.h"

static const struct image *import(struct image_store *s)
{
	char path[256], digest[IMAGE_DIGEST_SIZE];
	const struct image *image = NULL;
	struct err err = {0};

	snprintf(path, sizeof path, "%s/oci.tar", base);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	expect(image_import(s, fd, STR("imported"), digest, &err), 0, "", &err);
	expect(image_acquire(s, str_of(digest), &image, &err), 0, "", &err);
	return image;
}

static const char *disk_of(struct image_store *s, const struct image *image)
{
	const char *path = NULL;
	struct err err = {0};

	expect(image_disk(s, image, &path, &err), 0, "", &err);
	return path;
}

static uint64_t listed_bytes(struct image_store *s, const struct image *image)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct image_state *list = NULL;
	size_t n = 0;

	assert_int_equal(image_list(s, &arena, &list, &n), 0);
	for (size_t i = 0; i < n; i++) {
		if (str_eq(list[i].digest, str_of(image->digest)))
			return list[i].bytes;
	}
	fail_msg("not listed");
	return 0;
}

static bool work_is_empty(const char *store)
{
	return shell("test -z \"$(ls -A %s/%s/work)\"", base, store) == 0;
}

#define LIST "find . -mindepth 1 -printf '%%P|%%y|%%m|%%U|%%G|%%n|%%l|%%T@\\n' | sort"

static void holds_the_root(void **state)
{
	struct image_store *s = open_store("disks", (struct hosts){0});
	const struct image *image = import(s);
	uint64_t before = listed_bytes(s, image);
	struct stat st, again;
	struct err err = {0};
	char path[PATH_MAX];

	(void)state;
	/* What the image does not have: a file that is nobody's to read, a time long ago, owners up to the highest. */
	assert_int_equal(
		shell("cd %s && echo secret >srv/closed && chmod 0000 srv/closed && touch -d @86400 "
		      "srv/closed && "
		      "mkdir -m 0700 srv/deep && echo x >srv/deep/x && chown -R 65535:65534 srv/deep && "
		      "touch -d 2001-02-03T04:05:06 srv/deep && mkfifo srv/pipe && truncate -s 9000 srv/hole",
		      image->root),
		0);
	strcpy(path, disk_of(s, image));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0444);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(listed_bytes(s, image), before + (uint64_t)st.st_blocks * 512);
	assert_true(work_is_empty("disks"));
	assert_int_equal(shell("mkdir %s/out && mount -t erofs -o loop,ro %s %s/out", base, path, base), 0);
	int differs = shell("(cd %s && " LIST ") >%s/list.root && (cd %s/out && " LIST ") >%s/list.disk && "
			    "diff %s/list.root %s/list.disk && diff -r --no-dereference -x pipe %s %s/out",
			    image->root, base, base, base, base, base, image->root, base);

	assert_int_equal(shell("umount %s/out", base), 0);
	assert_int_equal(differs, 0);
	/* Made once, found again, gone with its image. */
	assert_string_equal(disk_of(s, image), path);
	image_release(s, image);
	image_store_close(s);
	s = open_store("disks", (struct hosts){0});
	image = import(s);
	assert_string_equal(disk_of(s, image), path);
	assert_int_equal(stat(path, &again), 0);
	assert_int_equal(st.st_ino, again.st_ino);
	assert_int_equal(listed_bytes(s, image), before + (uint64_t)st.st_blocks * 512);
	char digest[IMAGE_DIGEST_SIZE];

	strcpy(digest, image->digest);
	image_release(s, image);
	expect(image_forget(s, str_of(digest), &err), 0, "", &err);
	assert_int_equal(stat(path, &st), -1);
	image_store_close(s);
}

/* -- One making for all ------------------------------------------------------------------------------------- */

struct caller {
	struct image_store *store;
	const struct image *image;
	const char *path;
	int code;
	struct err err;
	pthread_t thread;
};

static void *call(void *context)
{
	struct caller *c = context;

	c->code = image_disk(c->store, c->image, &c->path, &c->err);
	return NULL;
}

static void begin(struct caller *c, struct image_store *s, const struct image *image)
{
	*c = (struct caller){.store = s, .image = image};
	assert_int_equal(pthread_create(&c->thread, NULL, call, c), 0);
}

/* The first child of any of this process' threads; 0: there is none. */
static pid_t first_child(void)
{
	DIR *threads = opendir("/proc/self/task");
	struct dirent *thread;
	char path[PATH_MAX];
	long pid = 0;

	while (pid == 0 && (thread = readdir(threads)) != NULL) {
		snprintf(path, sizeof path, "/proc/self/task/%s/children", thread->d_name);
		FILE *f = fopen(path, "r");

		if (f != NULL && fscanf(f, "%ld", &pid) != 1)
			pid = 0;
		if (f != NULL)
			fclose(f);
	}
	closedir(threads);
	return (pid_t)pid;
}

static bool is_maker(pid_t pid)
{
	CLEANUP_BUF struct buf name = {0};
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	return fd_read_file(path, 64, &name, NULL) == 0 && strcmp(buf_cstr(&name), "mkfs.erofs\n") == 0;
}

/* Waits until the child has become mkfs.erofs, and stops it. */
static pid_t stop_maker(void)
{
	for (int i = 0; i < 3000000; i++) {
		pid_t pid = first_child();

		if (pid != 0 && is_maker(pid) && kill(pid, SIGSTOP) == 0)
			return pid;
	}
	fail_msg("mkfs.erofs was not seen");
	return 0;
}

/* Many files: mkfs.erofs is at it for a while. */
static const struct image *import_slow(struct image_store *s)
{
	const struct image *image = import(s);

	assert_int_equal(shell("mkdir %s/srv/many && cd %s/srv/many && seq 20000 | xargs touch", image->root,
			       image->root),
			 0);
	return image;
}

static void callers_share_one(void **state)
{
	struct image_store *s = open_store("shared", (struct hosts){0});
	const struct image *image = import_slow(s);
	struct caller callers[4];
	struct stat first, st;

	(void)state;
	begin(&callers[0], s, image);
	pid_t maker = stop_maker();

	for (int i = 1; i < 4; i++)
		begin(&callers[i], s, image);
	usleep(100000);
	assert_int_equal(shell("test $(ls %s/shared/work | wc -l) = 1", base), 0);
	assert_int_equal(kill(maker, SIGCONT), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(callers[i].thread, NULL);
		expect(callers[i].code, 0, "", &callers[i].err);
		assert_int_equal(stat(callers[i].path, &st), 0);
		if (i == 0)
			first = st;
		assert_int_equal(st.st_ino, first.st_ino);
	}
	image_release(s, image);
	image_store_close(s);
}

/* -- What the child may do ---------------------------------------------------------------------------------- */

static void maker_has_little(void **state)
{
	struct image_store *s = open_store("little", (struct hosts){0});
	const struct image *image = import_slow(s);
	struct caller c;

	(void)state;
	begin(&c, s, image);
	pid_t maker = stop_maker();
	int bad = shell(
		"cd /proc/%d && "
		"grep -qx 'Uid:\t%d\t%d\t%d\t%d' status && grep -qx 'Gid:\t%d\t%d\t%d\t%d' status && "
		"grep -q '^Groups:[[:space:]]*$' status && grep -qx 'CapEff:\t0000000000000004' status && "
		"grep -qx 'CapPrm:\t0000000000000004' status && "
		"grep -qx 'NoNewPrivs:\t1' status && grep -qx 'Seccomp:\t2' status && "
		"test \"$(ls root | tr '\\n' ' ')\" = 'disk image lib lib64 usr ' && "
		"test $(wc -l <mountinfo) = 4 && test $(ls fd | wc -l) -le 5 && "
		"test $(readlink ns/net) != $(readlink /proc/self/ns/net)",
		(int)maker, UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED,
		UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED);

	if (bad)
		shell("cat /proc/%d/status /proc/%d/mountinfo; ls -la /proc/%d/fd /proc/%d/root/", (int)maker,
		      (int)maker, (int)maker, (int)maker);
	assert_int_equal(kill(maker, SIGCONT), 0);
	pthread_join(c.thread, NULL);
	assert_int_equal(bad, 0);
	expect(c.code, 0, "", &c.err);
	image_release(s, image);
	image_store_close(s);
}

/* In a child of the test, as whoever took mkfs.erofs over. The number of the first attempt that came through. */
static int attempt(int root, int file, int outside)
{
	struct file_handle *handle = calloc(1, sizeof *handle + MAX_HANDLE_SZ);
	struct err err = {0};
	int mount_id;

	handle->handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(outside, "", handle, &mount_id, AT_EMPTY_PATH) < 0)
		handle->handle_bytes = 0; /* a file system without handles */
	if (view_enter(root, file, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	int there = open("/image", O_RDONLY | O_DIRECTORY);

	if (open("/image/usr/bin/busybox", O_RDONLY) < 0)
		return 2;
	/* With all of root's capabilities the handle would do: else the refusal below shows nothing. */
	if (handle->handle_bytes > 0 && open_by_handle_at(there, handle, O_RDONLY) < 0)
		fprintf(stderr, "open_by_handle_at as root: %s\n", strerror(errno));
	if (lockdown_pack(UNPRIVILEGED, UNPRIVILEGED, 1 << 20, &err) < 0)
		return 3;
	if (open("/image/srv/closed", O_RDONLY) < 0 || open("/disk", O_WRONLY) < 0)
		return 4;
	if (open("/etc/passwd", O_RDONLY) >= 0 || open("/image/../etc/passwd", O_RDONLY) >= 0 ||
	    open("/proc/self/status", O_RDONLY) >= 0)
		return 5;
	if (open("/image/srv/one", O_WRONLY) >= 0 || open("/image/new", O_WRONLY | O_CREAT, 0600) >= 0 ||
	    open("/usr/new", O_WRONLY | O_CREAT, 0600) >= 0 || open("/new", O_WRONLY | O_CREAT, 0600) >= 0)
		return 6;
	if (open_by_handle_at(there, handle, O_RDONLY) >= 0 || errno != EPERM)
		return 7;
	if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || socket(AF_UNIX, SOCK_STREAM, 0) >= 0)
		return 8;
	if (setuid(0) == 0 || chroot("/image") == 0)
		return 9;
	return 0;
}

static void reaches_nothing_else(void **state)
{
	struct image_store *s = open_store("reach", (struct hosts){0});
	const struct image *image = import(s);
	char path[PATH_MAX];
	int status = 0;

	(void)state;
	assert_int_equal(
		shell("echo secret >%s/srv/closed && chmod 0 %s/srv/closed && : >%s/made && chown %d %s/made",
		      image->root, image->root, base, UNPRIVILEGED, base),
		0);
	snprintf(path, sizeof path, "%s/made", base);
	CLEANUP_FD int root = open(image->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int file = open(path, O_RDWR | O_CLOEXEC);

	snprintf(path, sizeof path, "%s/ca.key", base);
	CLEANUP_FD int outside = open(path, O_RDONLY | O_CLOEXEC);
	pid_t pid = fork();

	if (pid == 0)
		_exit(attempt(root, file, outside));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	image_release(s, image);
	image_store_close(s);
}

/* -- What goes wrong ---------------------------------------------------------------------------------------- */

static void killed_leaves_nothing(void **state)
{
	struct image_store *s = open_store("killed", (struct hosts){0});
	const struct image *image = import_slow(s);
	struct caller c, waiting;

	(void)state;
	begin(&c, s, image);
	pid_t maker = stop_maker();

	begin(&waiting, s, image);
	usleep(100000);
	assert_int_equal(kill(maker, SIGKILL), 0);
	pthread_join(c.thread, NULL);
	pthread_join(waiting.thread, NULL);
	expect(c.code, -EIO, "killed by signal 9", &c.err);
	expect(waiting.code, -EIO, "killed by signal 9", &waiting.err);
	assert_true(work_is_empty("killed"));
	assert_int_equal(shell("test ! -e %s/killed/images/*/disk", base), 0);
	(void)disk_of(s, image);
	/* Half of a file that a crash of ours left is gone with the next open. */
	image_release(s, image);
	image_store_close(s);
	assert_int_equal(shell("echo half >%s/killed/work/7", base), 0);
	s = open_store("killed", (struct hosts){0});
	assert_true(work_is_empty("killed"));
	image_store_close(s);
}

static void full_disk_leaves_nothing(void **state)
{
	struct image_store *s;
	const struct image *image;
	const char *path;
	struct err err = {0};

	(void)state;
	assert_int_equal(shell("mkdir %s/full && mount -t tmpfs -o size=32m berth-test %s/full", base, base),
			 0);
	s = open_store("full/store", (struct hosts){.disk_max = 1u << 30});
	image = import(s);
	assert_int_equal(
		shell("head -c 64m /dev/zero >%s/full/ballast 2>/dev/null; truncate -s -100k %s/full/ballast",
		      base, base),
		0);
	int code = image_disk(s, image, &path, &err);
	bool clean = work_is_empty("full/store") && shell("test ! -e %s/full/store/images/*/disk", base) == 0;
	int removed = shell("rm %s/full/ballast", base);
	int again = image_disk(s, image, &path, NULL);

	image_release(s, image);
	image_store_close(s);
	assert_int_equal(shell("umount %s/full", base), 0);
	expect(code, -ENOSPC, "full", &err);
	assert_true(clean);
	assert_int_equal(removed, 0);
	assert_int_equal(again, 0);
}

/* The bound of the store counts disks: none is made beyond it. */
static void room_is_bounded(void **state)
{
	struct image_store *s = open_store("bounded", (struct hosts){.disk_max = 7u << 20});
	const struct image *image = import(s);
	const char *path;
	struct err err = {0};

	(void)state;
	expect(image_disk(s, image, &path, &err), -ENOSPC, "in use", &err);
	assert_true(work_is_empty("bounded"));
	image_release(s, image);
	image_store_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds_the_root),        cmocka_unit_test(callers_share_one),
		cmocka_unit_test(maker_has_little),      cmocka_unit_test(reaches_nothing_else),
		cmocka_unit_test(killed_leaves_nothing), cmocka_unit_test(full_disk_leaves_nothing),
		cmocka_unit_test(room_is_bounded),
	};
	int missing = stage_missing();

	if (missing == 0 && shell("command -v mkfs.erofs >/dev/null && (grep -q erofs /proc/filesystems || "
				  "modprobe erofs)") != 0) {
		fprintf(stderr, "skipped: needs erofs-utils, and a kernel that mounts erofs\n");
		missing = 77;
	}
	return missing != 0 ? missing : cmocka_run_group_tests(tests, set_up, tear_down);
}
