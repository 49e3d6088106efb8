/* image.h -- the image store of a node: images become one root directory each, ready to be a container's lower layer.
 *
 * A pull runs berth-fetch (registry, manifests, digests) and berth-unpack (layers into a directory), both unprivileged
 * children; this library, which runs as root, parses nothing that comes from outside: it decodes their typed results.
 * All trees lie below the store's own directory, which is root's and 0700, so that an image's setuid files cannot be
 * run from the host. Owners inside trees are plain ids 0..65535: mount them idmapped.
 *
 *   <dir>/images/<hex of the manifest's digest>/{root/,record}   published by rename after a sync
 *   <dir>/images/<hex of the manifest's digest>/layers/<hex>     its layers as they came: a pull that needs one of them does not
 *                                                                fetch it again. One file, linked by each image that has it
 *   <dir>/images/<hex of the manifest's digest>/disk             its root as one file for machines, once one wanted it
 *   <dir>/images/<hex of an index's digest> -> <hex>             the index that led to it
 *   <dir>/work/...                                               under construction; swept at open
 *
 * Threads: every function may be called from any thread; resolve, pull and import block (for as long as a registry
 * takes: bounded by stall_ms and total_ms). Callers of one image, with the same credentials, share one pull.
 *
 * Codes besides -ENOMEM and the system's: -EINVAL a malformed reference, name or digest; -ENOENT the registry or the
 * store does not know the image; -EACCES it refused the credentials, or wants some; -EPERM the operator's lists do not allow the
 * host; -EHOSTUNREACH no such host, or nobody listens there; -ETIMEDOUT it does not answer; -EKEYREJECTED TLS: not trusted; -EBADMSG
 * what came is not a valid image or has another digest; -E2BIG above a bound; -EBUSY in use. */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include "core/arena.h"
#include "core/err.h"
#include "core/str.h"
#include "image_protocol/protocol.h"

#define IMAGE_DIGEST_SIZE (IMAGE_DIGEST_BYTES + 1)

/* Copied by image_store_open. Zero means the default named here. */
struct image_options {
	const char *dir;            /* made if missing; its parent must exist */
	const char *fetch_program;  /* path of berth-fetch */
	const char *unpack_program; /* path of berth-unpack */
	const char *pack_program;   /* path of berth-pack; NULL: image_disk is refused */
	uint32_t uid, gid;          /* of these children; not 0 */
	const char *ca_file;        /* PEM; NULL: the system's */
	/* host[:port] or *.suffix. None: any host, but only at public addresses. A host that leads to a loopback or
	 * private address must be named here or in `insecure`. */
	const struct str *registries;
	uint32_t n_registries;
	const struct str
		*insecure; /* host[:port] where plain http is spoken; counts as named in `registries` */
	uint32_t n_insecure;
	const struct str *token_hosts; /* where credentials may go besides the registry's own domain */
	uint32_t n_token_hosts;
	const struct str *mirrors; /* "HOST MIRROR", asked in this order before HOST */
	uint32_t n_mirrors;
	uint64_t fetched_bytes_max;    /* of one image's layers as they come: 8 GiB */
	uint64_t layer_bytes_max;      /* of one of them: 4 GiB */
	uint64_t unpacked_bytes_max;   /* of one image's files: 16 GiB */
	uint64_t entries_max;          /* of one image: 1,000,000 */
	uint32_t layers_max;           /* 128 */
	uint32_t depth_max;            /* directories, one in the other: 64 */
	uint32_t parallel;             /* layers at once: 3 */
	uint64_t disk_bytes_max;       /* of all images and their layers: half of the disk */
	uint64_t unused_ms_max;        /* until an image that nothing uses is removed: 30 days */
	uint32_t connect_ms, stall_ms; /* 10 s; 30 s without a byte */
	uint32_t total_ms;             /* of one pull: 30 min */
};

struct image_store;

int image_store_open(const struct image_options *options, struct image_store **ret, struct err *err);
/* No call may be under way. */
void image_store_close(struct image_store *s);

struct image_credentials {
	struct str username, password; /* empty: anonymous */
};

/* Which digest the reference names now: that of an import of this name, else as the registry says. NULL credentials are anonymous. */
int image_resolve(struct image_store *s, struct str reference, const struct image_credentials *credentials,
		  char ret_digest[IMAGE_DIGEST_SIZE], struct err *err);

enum image_stage { IMAGE_STAGE_FETCH, IMAGE_STAGE_UNPACK };
/* Called on the calling thread now and then: bytes are those fetched so far. */
typedef void image_progress(void *context, enum image_stage stage, uint64_t bytes);

/* Makes the image present; at once if it is. `digest` may be empty: then the reference is resolved by this pull.
 * ret_digest (may be NULL) is the manifest's, under which lookups find it, as they do under `digest`. */
int image_pull(struct image_store *s, struct str reference, struct str digest,
	       const struct image_credentials *credentials, image_progress *progress, void *context,
	       char ret_digest[IMAGE_DIGEST_SIZE], struct err *err);

/* From an open docker-archive, oci-archive (tar, also gzip or zstd) or an OCI layout's directory. `name` is what lists
 * show. Borrows fd. The digest is the manifest's; a docker-archive has none, so its configuration's (the image id). */
int image_import(struct image_store *s, int fd, struct str name, char ret_digest[IMAGE_DIGEST_SIZE],
		 struct err *err);

/* An image in use; stays valid and on disk until released. */
struct image {
	const char *digest; /* the manifest's */
	const char *reference;
	const char *root; /* path of the directory: read-only for everybody */
	uint64_t bytes;
	const struct image_config *config;
};

/* -ENOENT: not here. */
int image_acquire(struct image_store *s, struct str digest, const struct image **ret, struct err *err);
void image_release(struct image_store *s, const struct image *image);

/* The same root as a file system (erofs) in one file, for machines: made at the first call, in a child that has a few privileges over
 * this root and none over anything else; callers for one image share one making. Borrowed from the image: on disk while that is
 * acquired. The file's mode is 0444, and nobody but root can come near it by this path: for whoever shall read it, link it (link(2),
 * the same disk) into a directory that only he enters. So who broke out of one machine does not read another's image.
 * -ENOENT: mkfs.erofs is not installed; -ENOSPC. */
int image_disk(struct image_store *s, const struct image *image, const char **ret_path, struct err *err);

/* What disk_bytes_max came to. */
uint64_t image_disk_bytes_max(const struct image_store *s);

/* A list in the arena; reference counts are those of acquire. An index by whose digest an image is found too is listed behind
 * the images, with 0 bytes: revisions name it. */
struct image_state {
	struct str digest, reference;
	uint64_t bytes, last_used_ms; /* wall time */
	uint32_t users;
};
int image_list(struct image_store *s, struct arena *arena, struct image_state **ret, size_t *ret_n);

/* -EBUSY while acquired or wanted; -ENOENT. */
int image_forget(struct image_store *s, struct str digest, struct err *err);

enum image_sweep {
	IMAGE_SWEEP_NONE,
	IMAGE_SWEEP_BOUNDS, /* what is unused for too long; then, while all together is too large, the longest unused */
	IMAGE_SWEEP_UNUSED, /* all that is unused */
	IMAGE_SWEEPS
};
/* Takes images out that nobody uses: no sandbox, no entry of `wanted` (digests that pools name), no name that an import gave them,
 * and none that came this moment. The list of what went is in the arena. What they held on the disk goes with
 * image_clean, which may take long. Before the first sweep says what is wanted nothing is removed to make room. */
int image_sweep(struct image_store *s, enum image_sweep how, const struct str *wanted, size_t n_wanted,
		struct arena *arena, struct image_state **ret_gone, size_t *ret_n);
void image_clean(struct image_store *s);

#endif
