/* What proves KVM: a real canary with QEMU. On a machine whose /dev/kvm pretends both proofs find it out; emulated, the canary says
 * hello. Needs root and the packages of tools/packages/vm.txt. */
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
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "libvirt_boot/accel.h"
#include "libvirt_boot/canary.h"

#define UID      61234
#define EMULATOR "/usr/bin/qemu-system-x86_64"

static char top[64];
static struct boot_files files;

static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *format, ...)
{
	char command[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	return system(command);
}

static struct boot_files prepare(const char *guest, const char *folder)
{
	char dir[128];
	struct boot_files f;
	struct err err = {0};

	snprintf(dir, sizeof dir, "%s/%s", top, folder);
	if (boot_files_prepare(&(struct boot_options){.dir = dir, .guest = guest}, &f, &err) < 0)
		fail_msg("%s", err.message);
	return f;
}

static int make_place(void **state)
{
	(void)state;
	snprintf(top, sizeof top, "/tmp/boot.%d", (int)getpid());
	if (mkdir(top, 0711) < 0)
		return -1;
	files = prepare(GUEST, "files");
	return 0;
}

static int remove_place(void **state)
{
	(void)state;
	return run("rm -rf %s", top);
}

/* QEMU is a child of its own starter, and may start nothing. */
static bool none_left(void)
{
	return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
}

static struct accel prove(uint32_t uid, bool emulation, bool any_processor)
{
	struct accel a;
	uint64_t before = clock_boot_ms();

	accel_prove(
		&(struct accel_options){
			.files = &files, .uid = uid, .emulation = emulation, .any_processor = any_processor},
		&a);
	printf("kind %d after %u ms, hello after %u ms: %s\n", a.kind, (unsigned)(clock_boot_ms() - before),
	       a.hello_ms, a.reason);
	assert_true(none_left());
	return a;
}

static bool machine_has_kvm(void)
{
	return access("/dev/kvm", F_OK) == 0 && run("grep -qwE 'vmx|svm' /proc/cpuinfo") == 0;
}

static void without_flags_no_kvm(void **state)
{
	(void)state;
	if (machine_has_kvm())
		skip();
	struct accel a = prove(UID, false, false);

	assert_int_equal(a.kind, ACCEL_NONE);
	assert_non_null(
		strstr(a.reason, access("/dev/kvm", F_OK) == 0 ? "neither vmx nor svm" : "no /dev/kvm"));
}

/* The flags are not asked; whoever may open /dev/kvm is found out by the guest that never comes up. */
static void canary_finds_it_out(void **state)
{
	struct stat st;
	uint64_t before = clock_boot_ms();

	(void)state;
	if (machine_has_kvm() || stat("/dev/kvm", &st) < 0)
		skip();
	/* Who has the group of /dev/kvm may open it. */
	struct accel a = prove(st.st_gid, false, true);

	assert_int_equal(a.kind, ACCEL_NONE);
	assert_non_null(strstr(a.reason, "did not boot"));
	assert_null(strstr(a.reason, "0666"));
	assert_in_range(clock_boot_ms() - before, 0, 13000);
	/* Nobody may open it: said as such. */
	if ((st.st_mode & 0006) == 0)
		assert_non_null(strstr(prove(UID, false, true).reason, "mode must be 0666"));
}

static void emulated_it_says_hello(void **state)
{
	(void)state;
	struct accel a = prove(UID, true, false);

	assert_int_equal(a.kind, machine_has_kvm() ? ACCEL_KVM : ACCEL_EMULATION);
	assert_in_range(a.hello_ms, 50, ACCEL_EMULATION_MS);
}

static int run_canary(const struct boot_files *f, const char *emulator, uint32_t timeout_ms, struct err *err)
{
	uint32_t ms = 0;
	int r = canary_run(
		&(struct canary){.files = f, .emulator = emulator, .uid = UID, .timeout_ms = timeout_ms}, &ms,
		err);

	if (!none_left())
		fail_msg("a QEMU is left");
	return r;
}

static void tells_what_went_wrong(void **state)
{
	/* A guest whose first program is a text, and ends; one that is silent; no QEMU; one that only talks. */
	struct boot_files broken = prepare("/etc/passwd", "broken"), other = files;
	char script[128];
	struct err err = {0};

	(void)state;
	assert_int_equal(run_canary(&broken, EMULATOR, 120000, &err), -EIO);
	assert_non_null(strstr(err.message, "QEMU ended"));
	assert_int_equal(run_canary(&files, EMULATOR, 20, &err), -ETIMEDOUT);
	assert_int_equal(run_canary(&files, "/no/qemu", 5000, &err), -EIO);
	strcpy(other.vmlinux, "/no/vmlinux");
	assert_int_equal(run_canary(&other, EMULATOR, 30000, &err), -EIO);
	assert_non_null(strstr(err.message, "/no/vmlinux"));
	snprintf(script, sizeof script, "%s/flood", top);
	assert_int_equal(run("printf '#!/bin/sh\\nexec tr \"\\\\0\" x </dev/zero >&3\\n' >%s && chmod 755 %s",
			     script, script),
			 0);
	assert_int_equal(run_canary(&files, script, 30000, &err), -EBADMSG);
	assert_int_equal(run("printf '#!/bin/sh\\nexec tr \"\\\\0\" x </dev/zero >&2\\n' >%s", script), 0);
	assert_int_equal(run_canary(&files, script, 30000, &err), -EIO);
	assert_in_range(strlen(err.message), 20, 130);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_flags_no_kvm),
		cmocka_unit_test(canary_finds_it_out),
		cmocka_unit_test(emulated_it_says_hello),
		cmocka_unit_test(tells_what_went_wrong),
	};
	glob_t kernels;

	if (geteuid() != 0 || glob("/boot/vmlinuz-*-cloud-amd64", 0, NULL, &kernels) != 0 ||
	    access(EMULATOR, X_OK) < 0) {
		fprintf(stderr, "needs root, and the packages linux-image-cloud-amd64 and qemu-system-x86\n");
		return 77;
	}
	globfree(&kernels);
	return cmocka_run_group_tests(tests, make_place, remove_place);
}
