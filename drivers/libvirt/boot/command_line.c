#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "libvirt_boot/boot_files.h"

#define MEASURED_NS 50000000
#define TRIES       5
#define HZ_OF_GUEST 250 /* CONFIG_HZ of Debian's kernels */

/* An emulated processor's time stamp counter is this one's. */
static uint64_t counter(void)
{
	return __builtin_ia32_rdtsc();
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The clock and the counter at one moment: of some tries the one that took least time, for the others were interrupted. */
static void sample(uint64_t *ret_ns, uint64_t *ret_counter)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		uint64_t before = counter(), ns = now_ns(), after = counter();

		if (after - before < best) {
			best = after - before;
			*ret_ns = ns;
			*ret_counter = before + (after - before) / 2;
		}
	}
}

static uint64_t counter_khz(void)
{
	uint64_t ns[2] = {0}, ticks[2] = {0};

	sample(&ns[0], &ticks[0]);
	clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = MEASURED_NS}, NULL);
	sample(&ns[1], &ticks[1]);
	return (ticks[1] - ticks[0]) * 1000000 / (ns[1] - ns[0]);
}

void boot_command_line(bool emulated, char ret[BOOT_COMMAND_LINE_SIZE])
{
	int n = snprintf(
		ret, BOOT_COMMAND_LINE_SIZE,
		"console=ttyS0 quiet loglevel=0 panic=-1 oops=panic nokaslr audit=0 init_on_alloc=0 "
		"8250.nr_uarts=1 i8042.noaux i8042.nokbd i8042.nopnp cryptomgr.notests raid=noautodetect "
		"rcupdate.rcu_expedited=1 random.trust_cpu=on "
		/* A guest stands still for days, and then it is not its fault. */
		"nowatchdog rcupdate.rcu_cpu_stall_suppress=1");
	uint64_t khz = emulated ? counter_khz() : 0;

	/* An emulated guest measures its counter against timers that come late, and sometimes never ends to. */
	if (emulated)
		snprintf(ret + n, BOOT_COMMAND_LINE_SIZE - (size_t)n,
			 " mitigations=off no_timer_check tsc=reliable tsc_early_khz=%llu lpj=%llu",
			 (unsigned long long)khz, (unsigned long long)khz * 1000 / HZ_OF_GUEST);
}
