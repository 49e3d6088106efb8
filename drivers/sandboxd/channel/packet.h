/* packet.h -- packets of wire/sandboxd.h in and out: decoded and checked as far as that needs no state. */
#ifndef SANDBOXD_PACKET_H
#define SANDBOXD_PACKET_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/err.h"
#include "wire/sandboxd.h"

union packet_body {
	struct sandboxd_hello hello;
	struct sandboxd_start start;
	struct sandboxd_stop stop;
	struct sandboxd_dial dial;
	struct sandboxd_image image;
	struct sandboxd_images images;
	struct sandboxd_log log;
	struct sandboxd_fence fence;
	struct sandboxd_egress egress;
	struct sandboxd_park park;
	struct sandboxd_save save;
};

struct packet {
	enum sandboxd_type type;
	uint64_t correlation;
	union packet_body body;
};

/* Strings live in the arena. -EBADMSG: not a request of ours. */
int packet_decode(const void *p, size_t n, struct arena *arena, struct packet *ret, struct err *err);
/* -EMSGSIZE: longer than one packet; `to` is of no use then. */
int packet_encode(struct buf *to, enum sandboxd_type type, uint64_t correlation, const void *body);

/* What a start may ask for: -EINVAL names the field and what is allowed. */
int packet_check_start(const struct sandboxd_start *s, struct err *err);

#endif
