/* ending.h -- why a sandbox ended, and the sandbox actor's fields. For the files of this folder. */
#ifndef SANDBOX_ENDING_H
#define SANDBOX_ENDING_H

#include "sandbox/sandbox.h"

#define ENDING_MESSAGE_MAX 384

struct ending {
	bool failed, unserved, out_of_memory;
	uint64_t stopped_ms; /* wall clock; 0: not known yet */
	char message[ENDING_MESSAGE_MAX];
};

/* "exited with code 3", "was killed by signal 9", "ran out of memory (limit 256 MiB)" */
void ending_exit(struct ending *e, const struct sandboxd_exited *exited, const struct sandbox_row *row,
		 const char *when);
void ending_set(struct ending *e, bool failed, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Sandboxd was away, or did not answer: it may have been done or not. */
bool ending_unknown(int32_t code);

/* Its port or startup probe did not answer in time; exposed: the port that the image names, 0: none. */
void ending_silent(struct ending *e, uint16_t port, uint16_t exposed, uint64_t limit_ms, struct str why);

#endif
