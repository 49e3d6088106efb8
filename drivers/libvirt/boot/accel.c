#include "libvirt_boot/accel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libvirt_boot/canary.h"

#define EMULATOR "/usr/bin/qemu-system-x86_64"

/* The first processor's line; " vmx " or " svm " as words. */
static bool has_virtualization(void)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[8192];
	bool has = false;

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		if (strncmp(line, "flags", 5) != 0)
			continue;
		line[strcspn(line, "\n")] = ' ';
		has = strstr(line, " vmx ") != NULL || strstr(line, " svm ") != NULL;
		break;
	}
	if (f != NULL)
		fclose(f);
	return has;
}

static int run_canary(const struct accel_options *o, bool kvm, uint32_t *ret_ms, struct err *err)
{
	return canary_run(&(struct canary){.files = o->files,
					   .emulator = o->emulator != NULL ? o->emulator : EMULATOR,
					   .uid = o->uid,
					   .kvm = kvm,
					   .timeout_ms = kvm ? ACCEL_KVM_MS : ACCEL_EMULATION_MS},
			  ret_ms, err);
}

static int prove_kvm(const struct accel_options *o, uint32_t *ret_ms, struct err *err)
{
	int r;

	if (access("/dev/kvm", F_OK) < 0)
		return err_set(err, -ENODEV, "there is no /dev/kvm");
	if (!o->any_processor && !has_virtualization())
		return err_set(
			err, -ENODEV,
			"/dev/kvm is there, but the processor has neither vmx nor svm in /proc/cpuinfo");
	r = run_canary(o, true, ret_ms, err);
	if (r == -ETIMEDOUT)
		return err_set(err, r, "/dev/kvm is there, but a guest started with it did not boot in %d s",
			       ACCEL_KVM_MS / 1000);
	if (r < 0 && strstr(err->message, strerror(EACCES)) != NULL)
		return err_set(err, r,
			       "machines run as users who cannot open /dev/kvm: its mode must be 0666");
	return r < 0 ? err_wrap(err, "/dev/kvm is there, but a guest started with it did not boot") : 0;
}

void accel_prove(const struct accel_options *o, struct accel *ret)
{
	struct err kvm = {0}, emulation = {0};

	*ret = (struct accel){.kind = ACCEL_NONE};
	if (prove_kvm(o, &ret->hello_ms, &kvm) == 0) {
		ret->kind = ACCEL_KVM;
		return;
	}
	err_wrap(&kvm, "no KVM");
	if (o->emulation && run_canary(o, false, &ret->hello_ms, &emulation) == 0)
		ret->kind = ACCEL_EMULATION;
	else if (o->emulation)
		err_set(&kvm, -ENODEV, "neither KVM nor emulation starts a guest; emulated: %s",
			emulation.message);
	strcpy(ret->reason, kvm.message);
}
