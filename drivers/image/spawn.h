/* spawn.h -- runs berth-fetch, berth-unpack or berth-pack: one request in, one result out, within a time.
 *
 * The child has the descriptors of protocol.h and stderr, no environment, and nothing else of this process. It is killed when the
 * time is over, and when this process dies. Blocks; any thread. */
#ifndef IMAGE_SPAWN_H
#define IMAGE_SPAWN_H

#include "image/image.h"

struct spawn {
	const char *name;    /* for messages */
	const char *program; /* path */
	uint32_t uid, gid;
	bool as_root;    /* starts as root and gets uid and gid as arguments; else it starts as uid and gid */
	bool no_network; /* in an empty network namespace */
	/* No result type: its exit code says whether it did it, and the result's descriptor has the reason as text. */
	const struct codec_type *request_type, *result_type;
	const void *request;
	int blobs, source; /* borrowed; -1: none */
	uint32_t total_ms;
	image_progress *progress; /* or NULL */
	void *context;
	enum image_stage stage;
};

/* 0 when a result was decoded (which may itself say that it failed); -ETIMEDOUT; -EIO: the child ended without one. */
int spawn_run(const struct spawn *s, struct arena *arena, void *ret_result, struct err *err);

#endif
