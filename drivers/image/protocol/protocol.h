/* protocol.h -- what sandboxd hands to berth-fetch, berth-unpack and berth-pack and what they answer: one struct each way, in
 * msgpack, on inherited descriptors. Everything that an image, a registry or an archive wrote reaches sandboxd only as the
 * typed, bounded fields of the results. */
#ifndef IMAGE_PROTOCOL_PROTOCOL_H
#define IMAGE_PROTOCOL_PROTOCOL_H

#include "core/codec.h"

/* Descriptors of both programs. */
#define IMAGE_FD_REQUEST 3 /* a sealed file: the request */
#define IMAGE_FD_RESULT  4 /* a pipe: the result, then end. pack: text for people */
#define IMAGE_FD_BLOBS \
	5 /* a file: all layers one behind the other; written by fetch, read by unpack. pack: the file to make */
#define IMAGE_FD_SOURCE \
	6 /* fetch, import: the archive or the directory. unpack: the directory to fill. pack: to read */

#define IMAGE_MESSAGE_MAX  (CODEC_BYTES_MAX / 2)
#define IMAGE_PEM_MAX      (IMAGE_MESSAGE_MAX / 2)
#define IMAGE_DIGEST_BYTES 71 /* "sha256:" and 64 hex digits */
#define IMAGE_LAYERS_MAX   256
#define IMAGE_STRINGS_MAX  512 /* elements of Env, Entrypoint, Cmd */
#define IMAGE_PORTS_MAX    64
#define IMAGE_GROUPS_MAX   64
#define IMAGE_HOSTS_MAX    64
#define IMAGE_CACHED_MAX   2048
#define IMAGE_PARALLEL_MAX 16
#define IMAGE_ID_MAX       65535 /* owner and group ids inside images: a sandbox's range has 65,536 */

/* What the image says about running it; fields of the OCI image configuration. */
struct image_config {
	struct str *entrypoint;
	uint32_t n_entrypoint;
	struct str *cmd;
	uint32_t n_cmd;
	struct str *env; /* "NAME=value" */
	uint32_t n_env;
	struct str working_dir;  /* absolute, or empty */
	struct str user;         /* as written */
	uint64_t *exposed_ports; /* TCP */
	uint32_t n_exposed_ports;
	uint32_t stop_signal; /* 0: the image names none */
	/* `user` looked up in the image's own /etc/passwd and /etc/group. */
	uint32_t uid, gid;
	uint64_t *groups; /* supplementary */
	uint32_t n_groups;
};

/* One layer inside the blobs file, the lowest first: a tar, plain or packed with gzip or zstd. */
struct image_layer {
	uint64_t offset, bytes;
	struct str diff_id; /* sha256 of the unpacked tar as hex, verified by unpack */
	struct str digest;  /* sha256 as it came, as hex; empty: of an archive that does not say */
	bool cached;        /* one of the request's `cached`: it is not in the blobs file */
};

enum image_fetch_op { IMAGE_FETCH_RESOLVE, IMAGE_FETCH_PULL, IMAGE_FETCH_IMPORT, IMAGE_FETCH_OPS };

struct image_fetch_request {
	uint8_t op;
	struct str reference;
	struct str digest; /* PULL: what to take; empty takes the reference's */
	struct str username, password;
	struct str ca_pem;      /* certificates to trust instead of the system's */
	struct str *registries; /* host[:port] or *.suffix; empty: any host with a public address */
	uint32_t n_registries;
	struct str *insecure; /* host[:port] where plain http is used */
	uint32_t n_insecure;
	struct str *token_hosts; /* where credentials may go besides the registry's own domain */
	uint32_t n_token_hosts;
	struct str *mirrors; /* "HOST MIRROR": asked before HOST, in this order, without credentials */
	uint32_t n_mirrors;
	struct str *cached; /* digests as hex of layers that need not be brought */
	uint32_t n_cached;
	uint64_t bytes_max, layer_bytes_max; /* of all blobs, of one */
	uint32_t layers_max;
	uint32_t parallel; /* layers at once */
	uint32_t connect_ms, stall_ms;
};

struct image_fetch_result {
	int32_t code; /* 0 or -errno, see image.h */
	struct str message;
	struct str digest;   /* of what the reference names: an index or a manifest */
	struct str manifest; /* of the manifest for this machine */
	struct image_layer *layers;
	uint32_t n_layers;
	struct image_config config;
};

struct image_unpack_request {
	struct image_layer *layers;
	uint32_t n_layers;
	struct str user;
	uint64_t bytes_max;
	uint64_t entries_max;
	uint32_t depth_max; /* directories, one in the other */
};

struct image_unpack_result {
	int32_t code;
	struct str message;
	uint64_t bytes, entries, skipped; /* skipped: device nodes and sockets */
	uint32_t uid, gid;
	uint64_t *groups;
	uint32_t n_groups;
};

struct image_pack_request {
	uint64_t bytes_max; /* of the file */
};

extern const struct codec_type image_config_codec, image_layer_codec, image_pack_request_codec;
extern const struct codec_type image_fetch_request_codec, image_fetch_result_codec;
extern const struct codec_type image_unpack_request_codec, image_unpack_result_codec;

/* "sha256:" and 64 lower-case hex digits. */
bool image_digest_valid(struct str digest);

#endif
