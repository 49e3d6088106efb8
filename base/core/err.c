#include "err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *format, ...)
{
	va_list args;

	if (e == NULL)
		return code;
	e->code = code;
	va_start(args, format);
	vsnprintf(e->message, sizeof e->message, format, args);
	va_end(args);
	return code;
}

int err_system(struct err *e, int code, const char *format, ...)
{
	va_list args;
	size_t n;

	if (e == NULL)
		return code;
	e->code = code;
	va_start(args, format);
	vsnprintf(e->message, sizeof e->message, format, args);
	va_end(args);
	n = strlen(e->message);
	snprintf(e->message + n, sizeof e->message - n, ": %s",
		 strerrordesc_np(-code) ? strerrordesc_np(-code) : "unknown error");
	return code;
}

int err_wrap(struct err *e, const char *format, ...)
{
	char prefix[ERR_MESSAGE_MAX], whole[2 * ERR_MESSAGE_MAX + 4];
	va_list args;

	if (e == NULL)
		return -1;
	va_start(args, format);
	vsnprintf(prefix, sizeof prefix, format, args);
	va_end(args);
	snprintf(whole, sizeof whole, "%s: %s", prefix, e->message);
	whole[sizeof e->message - 1] = '\0';
	memcpy(e->message, whole, strlen(whole) + 1);
	return e->code;
}
