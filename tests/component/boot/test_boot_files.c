/* What guests boot, from the kernel package of this machine: made once, published whole, compared with what `lz4` and `cpio` say. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "libvirt_boot/boot_files.h"

static char top[64], dir[96], guest[96];

static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *format, ...)
{
	char command[8192];
	va_list args;

	va_start(args, format);
	assert_in_range(vsnprintf(command, sizeof command, format, args), 1, sizeof command - 1);
	va_end(args);
	return system(command);
}

static void write_guest(const char *text)
{
	struct err err = {0};

	if (fd_write_file(guest, 0755, text, strlen(text), &err) < 0)
		fail_msg("%s", err.message);
}

static int make_place(void **state)
{
	(void)state;
	snprintf(top, sizeof top, "/tmp/boot.%d", (int)getpid());
	snprintf(dir, sizeof dir, "%s/files", top);
	snprintf(guest, sizeof guest, "%s/guest", top);
	if (mkdir(top, 0755) < 0)
		return -1;
	write_guest("a guest's first program\n");
	return 0;
}

static int remove_place(void **state)
{
	(void)state;
	return run("rm -rf %s", top);
}

static struct boot_files prepare(void)
{
	struct boot_files f;
	struct err err = {0};

	if (boot_files_prepare(&(struct boot_options){.dir = dir, .guest = guest}, &f, &err) < 0)
		fail_msg("%s", err.message);
	return f;
}

static struct stat stat_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return st;
}

static void makes_both_once(void **state)
{
	struct boot_files f = prepare(), again = prepare();
	char path[PATH_MAX];

	(void)state;
	assert_string_equal(f.version, again.version);
	assert_int_equal(stat_of(f.vmlinux).st_mode, S_IFREG | 0444);
	assert_int_equal(stat_of(f.initrd).st_mode, S_IFREG | 0444);
	assert_int_equal(stat_of(dir).st_mode, S_IFDIR | 0711);
	snprintf(path, sizeof path, "%s/%s", dir, f.version);
	assert_int_equal(stat_of(path).st_mode, S_IFDIR | 0711);
	ino_t inode = stat_of(f.vmlinux).st_ino;

	prepare();
	assert_int_equal(stat_of(f.vmlinux).st_ino, inode);
	snprintf(path, sizeof path, "%s/new", dir);
	assert_int_equal(access(path, F_OK), -1);
}

/* The same as the packaged tools make of it. `lz4` complains of the size behind the frame, when all of the kernel is out. */
static void is_what_the_tools_say(void **state)
{
	struct boot_files f = prepare();

	(void)state;
	assert_int_equal(run("k=$(ls -v /boot/vmlinuz-*-cloud-amd64 | tail -n1); "
			     "at=$(LC_ALL=C grep -abom1 \"$(printf '\\002\\041\\114\\030')\" $k | head -n1 | "
			     "cut -d: -f1); "
			     "tail -c +$((at + 1)) $k | lz4 -dc 2>/dev/null | cmp - %s",
			     f.vmlinux),
			 0);
	assert_int_equal(
		run("mkdir %s/x && cd %s/x && cpio -idm --quiet <%s && cmp init %s && test -c dev/console && "
		    "r=$(ls -v /boot/vmlinuz-*-cloud-amd64 | tail -n1) && "
		    "while read -r m; do cmp m/$m $(find /lib/modules/${r#*vmlinuz-} -name $m) || exit 1; "
		    "done <m/list",
		    top, top, f.initrd, guest),
		0);
	/* Each module comes behind what modinfo says that it depends on, and no file is unlisted. */
	assert_int_equal(run("cd %s/x/m && test $(ls | wc -l) = $(($(wc -l <list) + 1)) && seen=, && "
			     "while read -r m; do for d in $(modinfo -F depends ./$m | tr , ' '); do "
			     "case $seen in *,$d,*) ;; *) echo $m before $d; exit 1;; esac; done; "
			     "seen=$seen${m%%.ko},; done <list",
			     top),
			 0);
}

static void another_guest_is_another_version(void **state)
{
	struct boot_files f = prepare(), other;

	(void)state;
	write_guest("another first program\n");
	other = prepare();
	assert_string_not_equal(f.version, other.version);
	assert_int_equal(access(f.initrd, F_OK), 0);
	assert_int_equal(access(other.initrd, F_OK), 0);

	const char *kept[] = {other.version};
	struct err err = {0};

	assert_int_equal(run("mkdir -p %s/new && echo half >%s/new/vmlinux && echo not ours >%s/readme", dir,
			     dir, dir),
			 0);
	if (boot_files_sweep(dir, kept, 1, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(access(f.initrd, F_OK), -1);
	assert_int_equal(access(other.initrd, F_OK), 0);
	assert_int_equal(run("test ! -e %s/new -a -e %s/readme && rm %s/readme", dir, dir, dir), 0);
}

/* A crash left half of it: the next attempt publishes a whole one. */
static void goes_over_what_a_crash_left(void **state)
{
	struct boot_files f;

	(void)state;
	assert_int_equal(
		run("rm -rf %s && mkdir -p %s/new && echo half >%s/new/vmlinux && echo x >%s/new/vmlinux.Ab",
		    dir, dir, dir, dir),
		0);
	f = prepare();
	assert_in_range(stat_of(f.vmlinux).st_size, 10 << 20, 1 << 30);
	assert_int_equal(run("test $(ls %s/%s | wc -l) = 2", dir, f.version), 0);
}

static void a_full_disk_leaves_nothing(void **state)
{
	struct boot_options o = {.guest = guest};
	struct boot_files f;
	struct err err = {0};
	char small[128];

	(void)state;
	snprintf(small, sizeof small, "%s/small", top);
	assert_int_equal(run("mkdir %s && mount -t tmpfs -o size=4m boot-test %s", small, small), 0);
	snprintf(small, sizeof small, "%s/small/files", top);
	o.dir = small;
	int code = boot_files_prepare(&o, &f, &err);
	int left = run("test -z \"$(ls %s | grep -v new)\"", small);

	assert_int_equal(run("umount %s/small", top), 0);
	assert_int_equal(code, -ENOSPC);
	assert_int_equal(left, 0);
}

static void says_what_is_missing(void **state)
{
	struct boot_files f;
	struct err err = {0};

	(void)state;
	assert_int_equal(
		boot_files_prepare(&(struct boot_options){.dir = dir, .guest = guest, .emulator = "/no/qemu"},
				   &f, &err),
		-ENOENT);
	assert_non_null(strstr(err.message, "qemu-system-x86"));
	assert_int_equal(
		boot_files_prepare(&(struct boot_options){.dir = dir, .guest = guest, .kernel = guest}, &f,
				   &err),
		-EBADMSG);
	assert_int_equal(
		boot_files_prepare(&(struct boot_options){.dir = dir, .guest = "/no/guest"}, &f, &err),
		-ENOENT);
	assert_int_equal(
		boot_files_prepare(&(struct boot_options){.dir = dir, .guest = guest, .modules = "/tmp"}, &f,
				   &err),
		-ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_both_once),
		cmocka_unit_test(is_what_the_tools_say),
		cmocka_unit_test(another_guest_is_another_version),
		cmocka_unit_test(goes_over_what_a_crash_left),
		cmocka_unit_test(a_full_disk_leaves_nothing),
		cmocka_unit_test(says_what_is_missing),
	};
	glob_t kernels;

	if (geteuid() != 0 || glob("/boot/vmlinuz-*-cloud-amd64", 0, NULL, &kernels) != 0 ||
	    run("command -v qemu-system-x86_64 lz4 cpio modinfo >/dev/null") != 0) {
		fprintf(stderr, "needs root, and the packages linux-image-cloud-amd64, qemu-system-x86, lz4, "
				"cpio, kmod\n");
		return 77;
	}
	globfree(&kernels);
	return cmocka_run_group_tests(tests, make_place, remove_place);
}
