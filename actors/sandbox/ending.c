#include "ending.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

void ending_set(struct ending *e, bool failed, const char *format, ...)
{
	va_list args;

	if (e->message[0] != '\0') /* the first cause is the cause */
		return;
	va_start(args, format);
	vsnprintf(e->message, sizeof e->message, format, args);
	va_end(args);
	e->failed = failed;
}

void ending_exit(struct ending *e, const struct sandboxd_exited *exited, const struct sandbox_row *row,
		 const char *when)
{
	bool failed = row != NULL && row->state != SANDBOX_BOUND;

	if (e->stopped_ms == 0)
		e->stopped_ms = exited->wall_ms;
	switch ((enum sandboxd_exit)exited->how) {
	case SANDBOX_EXIT_CODE:
		ending_set(e, failed, "its process exited with code %d%s", (int)exited->value, when);
		break;
	case SANDBOX_EXIT_SIGNAL:
		ending_set(e, failed, "its process was killed by signal %d%s", (int)exited->value, when);
		break;
	case SANDBOX_EXIT_OOM:
		e->out_of_memory = e->message[0] == '\0';
		ending_set(e, failed, "it ran out of memory (limit %llu MiB)%s",
			   row == NULL ? 0ull : (unsigned long long)(row->memory_bytes >> 20), when);
		break;
	case SANDBOX_EXIT_UNKNOWN:
	case SANDBOX_EXITS:
		ending_set(e, failed, "its process is gone%s", when);
		break;
	}
}

bool ending_unknown(int32_t code)
{
	return code == -ENOTCONN || code == -ECONNRESET || code == -EPIPE || code == -EINPROGRESS ||
	       code == -ETIMEDOUT || code == -EAGAIN || code == -ECONNREFUSED;
}

void ending_silent(struct ending *e, uint16_t port, uint16_t exposed, uint64_t limit_ms, struct str why)
{
	char hint[64] = "";

	if (exposed != 0 && exposed != port)
		snprintf(hint, sizeof hint, "; the image exposes port %u", exposed);
	ending_set(e, true, "it never answered on port %u within %llu s: %.*s%s", port,
		   (unsigned long long)limit_ms / 1000, STR_ARGS(why), hint);
}
