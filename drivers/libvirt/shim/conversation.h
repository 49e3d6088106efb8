/* conversation.h -- what a guest says, byte by byte: frames into lines of the log and steps of its state. The only code on the
 * host that parses what a guest wrote; runs in berth-vmshim, without privileges.
 *
 *   SILENT --HELLO--> IDLE --RUNNING--> RUNNING --EXIT--> OVER
 *      |                |  `--FAILED--> FAILED
 *      `--HELLO of a guest that was started before--> RUNNING
 *   any: a frame that is not on this picture, or does not decode: BROKEN */
#ifndef LIBVIRT_SHIM_CONVERSATION_H
#define LIBVIRT_SHIM_CONVERSATION_H

#include "sandbox/log_writer.h"
#include "sandbox/records.h"
#include "talk.h"

struct conversation {
	uint64_t nonce; /* of our HELLO */
	bool started;   /* START went out */
	struct talk_status status;
	struct sandbox_exit exit; /* without its time; UNKNOWN until OVER or FAILED */
	struct log_writer log;
	struct log_stream out, err;
	uint64_t oom_line_ms;
	size_t skipped; /* of what came before HELLO */
	size_t n;
	char in[4 * GUEST_ANSWER_FRAME_MAX];
};

/* Zeroed, but for nonce and log. */
void conversation_begin(struct conversation *c);

/* Where the next bytes go, and how many fit: never 0. */
char *conversation_room(struct conversation *c, size_t *ret_room);
/* They came. True: the status changed. */
bool conversation_take(struct conversation *c, size_t n);
/* No more will. */
void conversation_end(struct conversation *c);

/* Nothing that could come now would change anything. */
bool conversation_is_over(const struct conversation *c);

#endif
