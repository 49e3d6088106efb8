/* played_agent.h -- a guest that is played by a test: says and hears frames at its end of the channel. */
#ifndef GUEST_PLAYED_AGENT_H
#define GUEST_PLAYED_AGENT_H

#include "libvirt_guest/protocol.h"

#define WAIT_MS 20000

extern int agent; /* its end of the channel */

void say(const void *p, size_t n);
void say_frame(enum guest_frame_type type, const struct codec_type *codec, const void *body);
void say_output(uint8_t stream, const char *text);

/* The next frame of the host; its body stays until the next call. */
struct guest_frame hear(void);
void forget_heard(void);

/* Hears the host's HELLO, and the answer to it, with this enum guest_state. */
void add_hello(struct buf *to, uint8_t state);
void answer_hello(uint8_t state);

#endif
