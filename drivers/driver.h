/* driver.h -- the contract between sandboxd and what runs sandboxes: containers (lxc), machines (libvirt), or a
 * script (scripted, for sandboxd's own tests).
 *
 * Happy path: adopt() once, before anything else; start() gives an instance whose first process has begun its
 * program; dial() connects into it; exit_fd() turns readable when it is over and exit_status() says how; stop()
 * leaves nothing of it on the host; release() frees the instance's memory and descriptors.
 *
 * Ownership: the driver owns instances; sandboxd holds each from start() or adopt() until release(). Everything in
 * struct driver_start is borrowed until start() returns.
 * Threads: adopt, start, stop, egress, save and go_on block, and run on any thread of sandboxd, never two of them at once for one
 * instance; a driver serves many instances at once. The others never block, and run on sandboxd's loop, also while
 * stop() or egress() of the same instance runs elsewhere. release() comes last and alone.
 * Errors: 0 or -errno, and a message for people that names the cause. -ENOTSUP: this driver does not do that. */
#ifndef DRIVERS_DRIVER_H
#define DRIVERS_DRIVER_H

#include "core/err.h"
#include "core/str.h"
#include "wire/sandboxd.h"

struct driver_limits {
	uint32_t cpu_milli;    /* thousandths of a CPU */
	uint32_t pids_max;     /* processes and threads */
	uint64_t memory_bytes; /* swap is always 0 */
	uint64_t disk_bytes;   /* of the writable layer */
	uint64_t log_bytes;    /* kept on disk of stdout and stderr together */
	uint64_t read_bytes;   /* a second, from the disk of its image */
};

/* Of outbound traffic. */
struct egress_limits {
	uint32_t connections;        /* at once, of one sandbox */
	uint32_t connections_second; /* new ones */
	uint32_t packets_second;     /* sent */
	uint64_t bytes_second;       /* sent, and as many received */
};

struct driver_start {
	uint64_t sandbox, pool_uid, revision;
	uint32_t slot;       /* below the configured count; no other instance has it */
	uint32_t uid_base;   /* the first of 65536 host ids that are this sandbox's alone */
	uint32_t logger_uid; /* outside all sandboxes' ranges, and no other instance has it */
	const char *root;    /* absolute; the image's flattened tree, read-only, owner ids as in the image */
	const char *
		disk; /* the same as a file system (erofs) in one file, which only root reaches by this path: to be linked for who
		       * reads it; NULL if the driver's wants_disk is false */
	struct str digest; /* of the image, kept for info() */
	struct str *argv;  /* argv[0] is looked up in PATH inside the sandbox */
	uint32_t n_argv;
	struct str *env; /* NAME=VALUE; any byte but NUL */
	uint32_t n_env;
	struct str working_dir; /* empty: / */
	struct str user; /* as the image says: user, uid, user:group, uid:gid; empty: root of the sandbox */
	int stop_signal; /* sent by stop() first */
	uint16_t target_port;
	bool egress;
	struct driver_limits limits;
	/* > 0: what save() wrote, maybe on another node, from its beginning, for reading: the program is not started, it goes on from
	 * there; loaded, and paused until go_on(). Slot, uids and addresses are those of this start, argv and env count for nothing.
	 * 0 or -1: none. */
	int saved;
};

struct driver_exit {
	enum sandboxd_exit how;
	int32_t value;
	uint64_t wall_ms;
};

struct driver_info {
	uint64_t sandbox, pool_uid, revision;
	uint64_t started_boot_ms, started_wall_ms;
	int64_t pid; /* of the first process, in the host's pid namespace */
	uint32_t slot;
	uint32_t uid_base; /* that it runs with; 0: not known */
	uint16_t target_port;
	bool egress; /* it has it, and it is on */
	char digest[DIGEST_MAX + 1];
};

struct driver_stats {
	uint64_t cpu_us, memory_bytes;
	uint64_t files_bytes; /* of the memory: files of its writable layer and of /dev/shm */
	uint32_t pids;
};

struct driver_instance;
struct driver;

/* Takes one found instance, running or over. */
typedef void driver_found(struct driver_instance *instance, void *arg);

struct driver_ops {
	const char *name;
	bool wants_disk; /* starts need the image as one file */
	/* Finds what a former sandboxd started, and removes what is left of starts that never finished. Goes by the driver's
	 * own files and waits for nobody: slots are given out only after it. */
	int (*adopt)(struct driver *d, driver_found *found, void *arg, struct err *err);
	/* Tries whether what it starts will run: connects, lets a machine answer. May take half a minute, on a thread, after
	 * adopt() and beside all other calls but start(), which comes only after a success; a failure is tried again later.
	 * The error says in one sentence why this node cannot. NULL: it will. */
	int (*prove)(struct driver *d, struct err *err);
	/* Limits are in force and read back, and egress is set up, before the program's first instruction. On failure *ret
	 * is NULL, or what could not be cleared away: an instance that is over, whose slot stays taken until it is stopped. */
	int (*start)(struct driver *d, const struct driver_start *how, struct driver_instance **ret,
		     struct err *err);
	/* Its log, before stop(): stop() moves what was written last to <path>.log and what was rotated to <path>.old, on the
	 * file system of the driver's own files, and not through links. NULL: logs end with their sandbox. */
	void (*keep_log)(struct driver *d, struct driver_instance *i, const char *path);
	/* Signal, grace, SIGKILL (grace 0: at once). 0 when no process, mount, cgroup, interface or file of it is
	 * left; may be called again after a failure. */
	int (*stop)(struct driver *d, struct driver_instance *i, uint32_t grace_ms, struct err *err);
	int (*egress)(struct driver *d, struct driver_instance *i, bool on, struct err *err);
	/* A TCP socket, non-blocking, to 127.0.0.1:port inside; its connect may still be under way. */
	int (*dial)(struct driver *d, struct driver_instance *i, uint16_t port, int *ret_fd, struct err *err);
	/* Stops or continues all its processes. */
	int (*freeze)(struct driver *d, struct driver_instance *i, bool frozen, struct err *err);
	/* Pauses all of it and writes its memory, its devices and its files to `fd`, which stays the caller's: a regular file, from its
	 * beginning. 0: it stays paused, for stop() or go_on(). On failure it runs on, as if nothing had been asked. After a failure,
	 * or a sandboxd that ended meanwhile, it may be called again. NULL: this driver cannot. Blocks, as start() does. */
	int (*save)(struct driver *d, struct driver_instance *i, int fd, struct err *err);
	/* What save() paused or start() loaded runs, with the present time; 0 also if it runs already. A frozen one begins when it is
	 * thawed. NULL where save is. Blocks. */
	int (*go_on)(struct driver *d, struct driver_instance *i, struct err *err);
	/* SIGKILL to all of it, now, frozen or not; stop() still has to follow. */
	void (*kill)(struct driver *d, struct driver_instance *i);
	/* The instance's own; -1 if it was over when adopted. */
	int (*exit_fd)(struct driver *d, struct driver_instance *i);
	/* After exit_fd() turned readable. */
	void (*exit_status)(struct driver *d, struct driver_instance *i, struct driver_exit *ret);
	void (*info)(struct driver *d, struct driver_instance *i, struct driver_info *ret);
	int (*stats)(struct driver *d, struct driver_instance *i, struct driver_stats *ret, struct err *err);
	/* A descriptor for reading, which the caller owns. */
	int (*log)(struct driver *d, struct driver_instance *i, int *ret_fd, struct err *err);
	/* Once a second, on any thread: looks after what it holds for all instances. -errno: something of which the operator is told,
	 * once for each time that it happens. NULL: nothing to look after. */
	int (*tend)(struct driver *d, struct err *err);
	void (*release)(struct driver *d, struct driver_instance *i);
	void (*close)(struct driver *d); /* all instances are released; running sandboxes go on */
};

/* Embedded first in each driver's own struct. */
struct driver {
	const struct driver_ops *ops;
};

#endif
