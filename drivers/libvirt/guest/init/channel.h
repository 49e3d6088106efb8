/* channel.h -- the guest's end of the agent's channel. Never blocks; whoever reads the image's outputs asks channel_full
 * first, so that a host that does not read stops the program, not this process. */
#ifndef GUEST_INIT_CHANNEL_H
#define GUEST_INIT_CHANNEL_H

#include "libvirt_guest/protocol.h"

struct channel {
	int fd;
	struct buf in, out;
	size_t taken; /* of `in`, by the last channel_next */
};

/* Waits until the port is there. -ENODEV: it does not come. */
int channel_open(struct channel *c, int timeout_ms, struct err *err);

void channel_send(struct channel *c, enum guest_frame_type type, const struct codec_type *body,
		  const void *value);
bool channel_full(const struct channel *c);
/* Hands the port what it takes. */
void channel_flush(struct channel *c);

/* Takes what has come. False: no host is at the other end now. */
bool channel_fill(struct channel *c);
/* The next whole frame, borrowed until the next call; 0: there is none yet. -EBADMSG, -EPROTONOSUPPORT. */
int channel_next(struct channel *c, struct guest_frame *ret, struct err *err);

#endif
