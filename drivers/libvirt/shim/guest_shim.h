/* guest_shim.h -- the conversation with one guest's agent, as sandboxd sees it. The agent's bytes are parsed by a process
 * of its own, berth-vmshim: without privileges, it writes the log and how the program ended, outlives sandboxd, and ends
 * when QEMU does (or some seconds after the program's end was reported). sandboxd takes it for hostile too.
 *
 * Happy path: new with a socket that is connected to the guest's port `org.berth.agent.0` (guest/protocol.h); hello,
 * which any guest answers once it is up, a restored one too; a template is saved now; start runs the image's program.
 * After sandboxd's restart: adopt.
 * Files in `dir` (root's; the user can search it): log/ (the user's; log and log.1 as drivers/record/log_writer.h says),
 * `exit` and the socket `shim`.
 * Threads: new, adopt, hello and start block, on any thread, one at a time for one guest. The others never block, and
 * run on sandboxd's loop, also while start of the same guest runs elsewhere. */
#ifndef LIBVIRT_SHIM_GUEST_SHIM_H
#define LIBVIRT_SHIM_GUEST_SHIM_H

#include "drivers/driver.h"

struct guest_shim;

struct guest_shim_options {
	const char *bin_dir; /* of berth-vmshim */
	const char *dir;     /* absolute; exists */
	uint32_t uid;        /* that the process becomes, user and group: the sandbox's logger_uid */
	uint64_t log_bytes;
};

/* Everything is borrowed until guest_shim_start returns. Random seed and wall clock are added there. */
struct guest_spec {
	const struct str *argv, *env;
	uint32_t n_argv, n_env;
	struct str user, working_dir;
	struct str hostname;    /* empty: "sandbox" */
	struct str resolv_conf; /* the file's text; empty: the image's */
	const uint8_t *mac;     /* 6 bytes; NULL: no network but lo */
	const uint8_t *gateway_mac;
	uint32_t address, gateway; /* host byte order */
	uint8_t prefix;            /* 31 */
	uint32_t pids_max;
	uint64_t disk_bytes;
};

/* `agent` stays the caller's, who closes his copy. */
int guest_shim_new(const struct guest_shim_options *o, int agent, struct guest_shim **ret, struct err *err);

/* 0 also when it is over: guest_shim_running is false then. -ENOENT: none was ever made in this directory. */
int guest_shim_adopt(const char *dir, struct guest_shim **ret, struct err *err);

/* 0 when the guest has answered. -ETIMEDOUT; -ECONNRESET: QEMU or the shim ended first; -EPROTO: another version, or
 * garbage. */
int guest_shim_hello(struct guest_shim *g, int timeout_ms, struct err *err);

/* 0 when the program was executed. -ENOEXEC with the guest's words when it cannot be ("no-such-program": not found ...);
 * -ETIMEDOUT; -ECONNRESET. Once for a guest. */
int guest_shim_start(struct guest_shim *g, const struct guest_spec *spec, int timeout_ms, struct err *err);

/* The release of the guest's kernel, after hello; else "". */
const char *guest_shim_release(const struct guest_shim *g);

/* The program runs (as far as the guest told): after start, or after adopt or hello of one that was started before. */
bool guest_shim_running(const struct guest_shim *g);

/* To the program; 0 or -errno. */
int guest_shim_signal(struct guest_shim *g, int signal);
/* The guest's wall clock is set to the host's: after it was frozen, suspended or moved. 0 or -errno. */
int guest_shim_clock(struct guest_shim *g);

/* Where it is now, by the fields of its network: to a guest that was restored, before or after its hello, which it answers first.
 * Does not block either. */
int guest_shim_network(struct guest_shim *g, const struct guest_spec *spec, struct err *err);

/* Of the shim, borrowed; readable when it is over. -1: it was over when adopted. */
int guest_shim_pidfd(const struct guest_shim *g);
/* After that. SANDBOX_EXIT_UNKNOWN: QEMU ended before its guest told how the program did. */
void guest_shim_exit(const struct guest_shim *g, struct driver_exit *ret);

/* The process goes on. */
void guest_shim_free(struct guest_shim *g);

#endif
