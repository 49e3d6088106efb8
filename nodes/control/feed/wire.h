/* wire.h -- what a worker and the voter that feeds it say to each other.
 *
 * A worker asks with a number of its own choice, again and again: the first ask of a number begins a feed, later ones
 * say how much of it was taken. A voter that does not know the number (it was started anew, the connection broke) begins the
 * feed behind `index`. Pieces of another number than the last asked are dropped. */
#ifndef CONTROL_FEED_WIRE_H
#define CONTROL_FEED_WIRE_H

#include "core/codec.h"

#define FEED_BYTES_MAX    (CODEC_BYTES_MAX - 256)
#define FEED_WINDOW_BYTES (1u << 20)   /* of pieces under way to one worker */
#define FEED_ACK_BYTES    (256u << 10) /* taken, before a worker says so */
#define FEED_BEAT_MS      250          /* either side speaks that often at least */

/* Worker to voter. */
struct feed_ask {
	uint64_t number;
	uint64_t incarnation, index; /* of the worker's tables; incarnation 0: it has none */
	uint64_t taken;              /* bytes of pieces of this number */
};

enum feed_kind {
	FEED_POSITION, /* who leads; bytes: key of identifiers' tags */
	FEED_SNAPSHOT, /* bytes of a snapshot; index: where in it they begin */
	FEED_RESTORE,  /* the snapshot is whole; index: its length */
	FEED_ENTRY,    /* an entry of the log; behind `after` there is none before it */
	FEED_KINDS
};

/* Voter to worker. */
struct feed_piece {
	uint64_t number;
	uint8_t kind;
	uint64_t index, after;
	uint64_t leader, term; /* as the voter knows them now; leader 0: none */
	struct str bytes;
};

extern const struct codec_type feed_ask_codec, feed_piece_codec;

#endif
