/* protocol.h -- what berth-vmshim on the host and berth-guest in the machine say to each other through the
 * virtio-serial port GUEST_PORT.
 *
 * A frame: "B" "G", the version, the type, then the length of the body as four bytes, the lowest first, then the
 * body: one struct below in msgpack (core/codec.h); types without a struct have an empty body.
 *
 *   host                                    guest
 *   HELLO nonce                       ->
 *                                     <-    HELLO the same nonce, release of its kernel, what it does
 *   START program, identity, seed     ->    at most once in the life of a machine
 *                                     <-    RUNNING, or FAILED with a line that names the program
 *   SIGNAL, CLOCK                     ->    at any time after HELLO
 *   NETWORK                           ->    to a machine that was restored, and has other addresses where it is now
 *                                     <-    OUTPUT, OOM, at any time after RUNNING
 *                                     <-    EXIT after the last OUTPUT
 *   BYE                               ->    EXIT or FAILED has arrived: the guest powers off (or does so after a while)
 *
 * The host speaks first, also to a machine that was restored from a snapshot or a file: its guest answers again. What the
 * guest had half sent when it was saved comes before the answer, and the nonce tells where that ends.
 * Either side takes the other for hostile: a frame that is out of bounds or does not decode ends the conversation. */
#ifndef LIBVIRT_GUEST_PROTOCOL_H
#define LIBVIRT_GUEST_PROTOCOL_H

#include "core/codec.h"

#define GUEST_PORT             "org.berth.agent.0"
#define GUEST_PROTOCOL         1
#define GUEST_FRAME_HEAD       8
#define GUEST_FRAME_MAX        (GUEST_FRAME_HEAD + CODEC_BYTES_MAX) /* to the guest */
#define GUEST_OUTPUT_BYTES     8192
#define GUEST_ANSWER_FRAME_MAX (GUEST_FRAME_HEAD + GUEST_OUTPUT_BYTES + 64) /* to the host */
#define GUEST_MESSAGE_BYTES    512
#define GUEST_RELEASE_BYTES    96
#define GUEST_SEED_BYTES       64
#define GUEST_MAC_BYTES        6

enum guest_frame_type {
	GUEST_HELLO,
	/* To the guest. */
	GUEST_START,
	GUEST_SIGNAL,
	GUEST_CLOCK,
	GUEST_BYE,
	/* To the host. */
	GUEST_RUNNING,
	GUEST_FAILED,
	GUEST_OUTPUT,
	GUEST_OOM, /* a process of the image was killed for want of memory */
	GUEST_EXIT,
	/* To the guest. */
	GUEST_NETWORK,
	GUEST_FRAME_TYPES
};

enum guest_state {
	GUEST_IDLE, /* no process of the image has run */
	GUEST_RAN,  /* START has arrived: its program runs, or is over */
	GUEST_STATES
};

struct guest_hello { /* host -> guest */
	uint64_t nonce;
};

struct guest_hello_answer {
	uint64_t nonce;
	struct str release; /* of the guest's kernel */
	uint8_t state;      /* enum guest_state */
};

struct guest_start {
	struct str *argv;
	uint32_t n_argv;
	struct str *env; /* NAME=VALUE */
	uint32_t n_env;
	struct str user, working_dir; /* as the image says, see driver.h */
	struct str hostname, resolv_conf;
	struct str seed;        /* for the kernel's random numbers */
	uint64_t wall_ns;       /* of the epoch */
	struct str mac;         /* empty: no network but lo */
	struct str gateway_mac; /* a permanent neighbour */
	uint32_t address;       /* as a number: 10.0.0.1 is 0x0a000001 */
	uint32_t gateway;       /* and default route */
	uint8_t prefix;         /* bits of the network's mask */
	uint32_t pids_max;      /* processes and threads of the image */
	uint64_t disk_bytes;    /* of the writable layer */
};

struct guest_signal { /* to the program */
	uint8_t signal;
};

struct guest_clock {
	uint64_t wall_ns;
};

struct guest_network {
	struct str mac;         /* empty: no network but lo */
	struct str gateway_mac; /* a permanent neighbour */
	uint32_t address;       /* as a number: 10.0.0.1 is 0x0a000001 */
	uint32_t gateway;       /* and default route */
	uint8_t prefix;         /* bits of the network's mask */
};

struct guest_failed {
	uint8_t status; /* 127: no such program; 126: it cannot be run; 125: the machine itself failed */
	struct str message;
};

struct guest_output {
	uint8_t stream; /* 1 stdout, 2 stderr */
	struct str bytes;
};

struct guest_exit {
	bool signalled;
	uint8_t value; /* code or signal */
	bool oom; /* of those that were killed for want of memory a moment ago was it, or a child of it */
};

/* Of the bodies; NULL for an empty one. HELLO has two, by direction: guest_hello_codec is the host's. */
extern const struct codec_type *const guest_body_codec[GUEST_FRAME_TYPES];
extern const struct codec_type guest_hello_codec, guest_hello_answer_codec, guest_start_codec;

struct guest_frame {
	uint8_t type;    /* enum guest_frame_type */
	struct str body; /* borrowed */
};

/* Appends a frame. -E2BIG: the body is longer than it may be (nothing usable is in `to`). */
int guest_frame_write(struct buf *to, enum guest_frame_type type, const struct codec_type *body,
		      const void *value);

/* The frame at p, if all of it is there: *ret_size bytes; 0 bytes: it is not there yet. `max`: of a whole frame.
 * -EPROTONOSUPPORT: another version; -EBADMSG. */
int guest_frame_read(const void *p, size_t n, size_t max, struct guest_frame *ret, size_t *ret_size,
		     struct err *err);

/* Decodes it strictly; type NULL: the body has to be empty. */
int guest_frame_body(const struct guest_frame *f, const struct codec_type *type, struct arena *arena,
		     void *ret, struct err *err);

int guest_network_check(const struct guest_network *n, struct err *err);

/* Of a struct guest_start beyond what its codec checks: what a kernel would refuse or silently cut. */
int guest_start_check(const struct guest_start *s, struct err *err);

#endif
