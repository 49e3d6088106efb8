/* store.h -- inside of the image library: the table of images and what pulls share. */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include <limits.h>
#include <pthread.h>

#include "image/image.h"

/* What a file takes on the disk besides its bytes, at most: the rest of a block, a name, an inode. */
#define STORE_ENTRY_BYTES 4096ull

struct image_entry {
	struct image image; /* first: what acquire hands out */
	struct arena arena; /* holds the strings and the configuration */
	struct image_config config;
	char digest[IMAGE_DIGEST_SIZE];
	uint64_t disk_bytes;   /* of its root, about */
	char *packed_path;     /* of its disk; there if packed_bytes says so */
	uint64_t packed_bytes; /* 0: there is none */
	bool packing;          /* somebody makes it; the others wait for the end of this try */
	uint64_t pack_tries;
	struct err pack_err;        /* of the last one */
	struct image_layer *layers; /* in layers/: digest and bytes */
	uint32_t n_layers;
	uint64_t last_used_ms; /* wall time */
	uint64_t came_ms;      /* CLOCK_BOOTTIME; 0: it was there at open */
	uint32_t users;
	bool wanted, named; /* by a pool; by an import */
	struct image_entry *next;
};

/* The digest of an index, and the image that it led to on this machine. */
struct image_alias {
	char digest[IMAGE_DIGEST_SIZE];
	struct image_entry *entry;
	struct image_alias *next;
};

/* A pull under way: callers of the same wait for it. Lives on the puller's stack. */
struct image_flight {
	struct str reference, digest_wanted;
	uint64_t credentials_hash;
	bool done;
	unsigned waiters;
	int code;
	struct err err;
	char digest[IMAGE_DIGEST_SIZE];
	struct image_flight *next;
};

struct image_store {
	struct image_options options; /* strings live in the arena */
	struct arena arena;
	struct str ca_pem;
	int lock_fd;
	pthread_mutex_t mutex;  /* guards everything below */
	pthread_cond_t changed; /* a flight ended, or nobody waits for it any more; a disk was made or not */
	struct image_entry *entries;
	struct image_alias *aliases;
	struct image_flight *flights;
	uint64_t next_work;
	bool wanted_known; /* a sweep said what pools want */
};

/* What the record beside a root says. */
struct image_record {
	struct str reference;
	uint64_t bytes, entries;
	struct image_config config;
	struct image_layer *layers; /* kept ones */
	uint32_t n_layers;
};
extern const struct codec_type image_record_codec;

/* "<dir>/<folder>/<name>[/<file>]" */
int store_path(const struct image_store *s, const char *folder, const char *name, const char *file,
	       char ret[PATH_MAX], struct err *err);
/* The entry by manifest's or index's digest, or NULL. Mutex held. */
struct image_entry *store_find(struct image_store *s, struct str digest);
/* Reads a published image into the table. Mutex held. */
int store_load(struct image_store *s, const char *hex, struct image_entry **ret, struct err *err);
/* Remembers that an index led to the image, on disk and in the table. Mutex held. */
int store_alias(struct image_store *s, struct str digest, struct image_entry *entry, struct err *err);

/* Moves an image that nobody uses to <dir>/work/gone-N (returned) and out of the table. Mutex held. */
int store_take_out(struct image_store *s, struct image_entry *e, char gone[PATH_MAX], struct err *err);
/* What a list shows of it, in the arena. Mutex held. */
struct image_state store_state(const struct image_entry *e, struct arena *arena);

/* sweep.c: takes out unused images until so much more fits. -ENOSPC. Mutex held. */
int sweep_make_room(struct image_store *s, uint64_t bytes, struct err *err);
/* All of them, once it is known what pools want; how many. image_clean removes them from the disk. */
uint32_t sweep_unused(struct image_store *s);

#endif
