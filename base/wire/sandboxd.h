/* sandboxd.h -- what berthd asks of sandboxd, over one SOCK_SEQPACKET unix socket: one packet is one
 * struct sandboxd_message in msgpack; descriptors ride along as SCM_RIGHTS.
 *
 * berthd sends requests with a correlation; each gets exactly one reply with the same correlation (SANDBOXD_REPLY).
 * Events (SANDBOXD_EXITED, ...) have correlation 0. A packet that does not decode ends the connection. berthd is
 * not trusted: it names sandboxes by id, images by digest, and nothing else; sandboxd derives every path, uid range,
 * namespace and cgroup itself and clamps limits to its own configuration. */
#ifndef WIRE_SANDBOXD_H
#define WIRE_SANDBOXD_H

#include "core/codec.h"
#include "wire/holding.h"
#include "wire/template.h"

#define SANDBOXD_PACKET_MAX (512u * 1024)
#define SANDBOXD_PROTOCOL   2
#define SESSION_TAG_MAX     32 /* hex digits */

enum sandboxd_type {
	SANDBOXD_HELLO, /* hello -> reply; first on every connection */
	SANDBOXD_START, /* start: image present, then one container; replies when its process runs; -EEXIST: it does already; -ECHILD: it did, and a stop has to come first */
	SANDBOXD_STOP, /* stop: signal, grace, then SIGKILL; replies when nothing of it runs or is left; -ENOENT: it is not here */
	SANDBOXD_LIST,    /* -> reply.sandboxes: what runs here */
	SANDBOXD_DIAL,    /* dial: a connected TCP socket inside the sandbox, in the reply's descriptor */
	SANDBOXD_RESOLVE, /* image: asks the registry which digest a reference names */
	SANDBOXD_PULL,    /* image: fetch, verify, unpack; replies when it can be started */
	SANDBOXD_IMPORT,  /* image + descriptor of an archive; from the admin socket alone */
	SANDBOXD_IMAGES,  /* images -> reply.images: what is here; or, of a sweep of the unused, what went */
	SANDBOXD_FORGET,  /* image: drop it when nothing uses it */
	SANDBOXD_LOG,     /* log: a read-only descriptor of one sandbox's log file */
	SANDBOXD_FENCE, /* fence: freeze everything at boot_ms unless moved again; 0 ends fencing and thaws */
	SANDBOXD_EGRESS,   /* egress: turn outbound traffic of a running sandbox off or on */
	SANDBOXD_HOLDINGS, /* -> reply.holdings: what is kept here, and its bounds */
	SANDBOXD_PARK, /* park: a ready machine that serves nobody stands still; a dial wakes it by itself; -ENOTSUP: not this one */
	SANDBOXD_REPLY,
	SANDBOXD_EXITED,  /* event: the sandbox's first process is gone */
	SANDBOXD_NETWORK, /* event: what became of the rules for outbound traffic; also after each hello */
	SANDBOXD_ABLE,    /* event: what this node can run is another than its hello's reply said */

	/* Of virtual machines, whose memory becomes a file here, named by (sandbox, save). While it is whole nothing of the sandbox
	 * runs here; whatever goes on does so after the file is removed. STOP removes it too. All these take a sandboxd_save. */
	SANDBOXD_SAVE,     /* pauses it, writes the file, removes the rest; on failure it runs on */
	SANDBOXD_GO_ON,    /* what START loaded from a file runs; 0 also if it does already */
	SANDBOXD_SAVED,    /* a read-only descriptor of the file, and its length, for another node */
	SANDBOXD_RECEIVE,  /* from another node: a descriptor to write the file to */
	SANDBOXD_RECEIVED, /* all of its bytes were written: it is whole, if it is as long as that */
	SANDBOXD_TYPES
};

enum sandboxd_exit {
	SANDBOX_EXIT_CODE,
	SANDBOX_EXIT_SIGNAL,
	SANDBOX_EXIT_OOM,
	SANDBOX_EXIT_UNKNOWN,
	SANDBOX_EXITS
};

struct sandboxd_hello {
	uint32_t protocol;
	struct str cluster; /* id of the cluster: host objects carry it */
	uint64_t node;
	bool ending; /* only to stop what runs: nothing is begun for what might be started */
};

/* Everything of a start that the image does not say. Secrets are already resolved into env. */
struct sandboxd_start {
	uint64_t sandbox;
	struct str pool; /* for logs: the pool's name */
	uint64_t pool_uid, revision;
	struct str digest; /* of an image pulled before */
	struct str *command;
	uint32_t n_command;
	struct str *args;
	uint32_t n_args;
	struct env_var *env;
	uint32_t n_env;
	uint32_t cpu_milli;
	uint64_t memory_bytes;
	uint16_t target_port;
	bool egress;
	uint8_t isolation; /* enum isolation */
	uint64_t save;     /* != 0: loaded from this file, and paused until GO_ON */
};

struct sandboxd_stop {
	uint64_t sandbox;
	uint32_t grace_ms; /* before SIGKILL; 0 kills at once */
	struct str
		tag; /* keyed hash of its session's identifier, in hex, for its log to be found by; or empty */
	uint64_t save; /* != 0: what comes from a later save stays */
};

struct sandboxd_dial {
	uint64_t sandbox;
	uint16_t port; /* 0: the target port that it was started with */
	uint32_t timeout_ms;
};

struct sandboxd_image {
	struct str reference; /* registry/name:tag or @digest; or what an import is called */
	struct str digest;    /* PULL: the digest to take; FORGET */
	struct str username, password;
};

enum sandboxd_sweep {
	SANDBOXD_SWEEP_NONE,
	SANDBOXD_SWEEP_BOUNDS, /* what is unused and above the store's bounds goes first */
	SANDBOXD_SWEEP_UNUSED, /* all that is unused goes */
	SANDBOXD_SWEEPS
};

#define IMAGES_WANTED_MAX 2048 /* who has more sweeps nothing */

struct sandboxd_images {
	uint8_t sweep;
	struct str *wanted; /* of a sweep: digests that pools name; these stay */
	uint32_t n_wanted;
};

/* Of a sandbox that is here, else the newest kept one that fits. */
struct sandboxd_log {
	uint64_t sandbox;  /* 0: an ended one, by the others */
	uint64_t pool_uid; /* 0: any */
	struct str tag;    /* empty: any */
	bool older;        /* of an ended one: what was rotated before the rest */
};

struct sandboxd_fence {
	uint64_t boot_ms; /* CLOCK_BOOTTIME */
};

struct sandboxd_save {
	uint64_t sandbox;
	uint64_t save;  /* which; a later one has a higher number */
	uint64_t bytes; /* RECEIVE, RECEIVED */
};

struct sandboxd_egress {
	uint64_t sandbox;
	bool on;
};

struct sandboxd_park {
	uint64_t sandbox;
	bool on;
};

struct sandboxd_sandbox {
	uint64_t sandbox, pool_uid, revision;
	uint64_t started_boot_ms;
	int64_t pid; /* of its first process, in the host's pid namespace */
	uint16_t target_port;
	bool running, frozen; /* frozen: by the lease, not parked */
	bool egress;          /* it may send to the outside now */
	bool parked;
	uint8_t isolation;
	bool loaded;   /* from the file `save`, and it did not go on yet */
	uint64_t save; /* a whole file of it is here; 0: none. Not running and not loaded: nothing else is */
};

struct sandboxd_image_state {
	struct str digest, reference;
	uint64_t bytes, last_used_ms;
	uint32_t users; /* sandboxes that run from it */
};

struct sandboxd_exited {
	uint64_t sandbox;
	uint8_t how;   /* enum sandboxd_exit */
	int32_t value; /* exit code or signal */
	uint64_t wall_ms;
};

struct sandboxd_network {
	uint32_t repairs;   /* since sandboxd began: somebody else had changed rules or routes */
	uint64_t wall_ms;   /* of the last; 0: none */
	struct str problem; /* why rules cannot be written now; empty: they can */
};

/* Which sandboxes this node can run. While that of virtual machines is not known yet (a canary guest is under way) their bit
 * is not set and no_vm is empty; then a pool waits for what the node will say, where a reason would fail it at once. */
struct sandboxd_able {
	uint32_t isolations; /* 1 << enum isolation, or'ed */
	struct str no_vm;    /* without 1 << ISOLATION_VM: why not, in one sentence; empty: not known yet */
};

struct sandboxd_reply {
	int32_t code; /* 0 or -errno */
	struct str message;
	struct str digest; /* RESOLVE, PULL, IMPORT */
	uint64_t sandbox;  /* START, LOG */
	int64_t pid;       /* START */
	uint64_t
		wall_ms; /* START: when it began; STOP, also of one not here: when the last of it was gone; LOG: of one that ended: when; else 0 */
	struct sandboxd_sandbox *sandboxes;
	uint32_t n_sandboxes;
	struct sandboxd_image_state *images;
	uint32_t n_images;
	uint16_t exposed_port; /* PULL, START: the first of the image's ExposedPorts, or 0 */
	struct holding *holdings;
	uint32_t n_holdings;
	struct str version;       /* HELLO, HOLDINGS */
	uint32_t memory_mb, cpus; /* HELLO: of the machine */
	uint32_t isolations;      /* HELLO: as in struct sandboxd_able */
	struct str no_vm;
	uint64_t bytes; /* SAVE, SAVED: of the file */
};

struct sandboxd_message {
	uint8_t type;
	uint64_t correlation;
	struct str body; /* one struct above, by type */
};

extern const struct codec_type sandboxd_message_codec, sandboxd_reply_codec, sandboxd_exited_codec,
	sandboxd_network_codec, sandboxd_able_codec;
/* The body's struct by type; NULL for those that have none. */
extern const struct codec_type *const sandboxd_body_codec[SANDBOXD_TYPES];
extern const char *const sandboxd_type_name[SANDBOXD_TYPES];

#endif
