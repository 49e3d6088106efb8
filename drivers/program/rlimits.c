#include "program/rlimits.h"

#include <stddef.h>
#include <sys/resource.h>

/* What no cgroup counts. Never above our own: a restricted root may not raise them. */
static const struct {
	__rlimit_resource_t resource;
	rlim_t soft, hard;
} rlimits[] = {
	{RLIMIT_CORE, 0, 0},
	{RLIMIT_NOFILE, 1024, 65536},
	{RLIMIT_MEMLOCK, 64u << 20, 64u << 20}, /* also of what the kernel pins for it */
	{RLIMIT_MSGQUEUE, 819200, 819200},
	{RLIMIT_SIGPENDING, 4096, 4096},
	{RLIMIT_RTPRIO, 0, 0},
	{RLIMIT_NICE, 0, 0},
};

bool rlimits_set(void)
{
	for (size_t i = 0; i < sizeof rlimits / sizeof *rlimits; i++) {
		struct rlimit l, back;

		if (getrlimit(rlimits[i].resource, &l) != 0)
			return false;
		l.rlim_max = l.rlim_max > rlimits[i].hard ? rlimits[i].hard : l.rlim_max;
		l.rlim_cur = l.rlim_max > rlimits[i].soft ? rlimits[i].soft : l.rlim_max;
		if (setrlimit(rlimits[i].resource, &l) != 0 || getrlimit(rlimits[i].resource, &back) != 0 ||
		    back.rlim_cur != l.rlim_cur || back.rlim_max != l.rlim_max)
			return false;
	}
	return true;
}
