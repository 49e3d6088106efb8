/* err.h -- one error value: a negative errno code and a message for people.
 * It is made where the cause is known and wrapped on the way up: "start sandbox 42: clone: EPERM".
 * Functions return 0 or the negative code; their outputs (ret_x) are untouched on failure. */
#ifndef CORE_ERR_H
#define CORE_ERR_H

#define ERR_MESSAGE_MAX 384

struct err {
	int code;                      /* 0 or -errno */
	char message[ERR_MESSAGE_MAX]; /* no newline; cut at the end when too long */
};

/* Sets code and message; returns the code. `e` may be NULL: then only the code is returned. */
int err_set(struct err *e, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As err_set, with ": <text of -code>" behind the message. */
int err_system(struct err *e, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "<prefix>: " before the message; returns the code that the error holds. */
int err_wrap(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
