/* server_state.h -- what the files of the server share. Private to this folder. */
#ifndef SANDBOXD_SERVER_STATE_H
#define SANDBOXD_SERVER_STATE_H

#include <stdbool.h>

#include "core/map.h"
#include "journal/journal.h"
#include "lease/lease_file.h"
#include "sandboxd/jobs/jobs.h"
#include "sandboxd/kept_logs.h"
#include "sandboxd/channel/packet.h"
#include "sandboxd/saving/saved_files.h"
#include "sandboxd/server.h"

#define CONNECTIONS_MAX   128
#define OUTBOX_MAX        1024 /* packets that wait for one connection to read */
#define OUTBOX_BYTES_MAX  (8u << 20)
#define ASKERS_MAX        64 /* who wait for the start, or for the end, of one sandbox */
#define DIALS_MAX         4096
#define SANDBOXES_MAX     2048
#define IMAGES_LISTED_MAX 1024
#define ENDED_KEPT        1024 /* ends that are remembered for whoever asks again */
#define UIDS              65536u

/* One descriptor in the loop's poll. */
struct watch {
	int fd; /* -1: not watched */
	void (*on)(struct server *s, struct watch *w, uint32_t events);
};

struct connection;
struct image;

enum sandbox_state {
	SANDBOX_STARTING, /* a job starts it */
	SANDBOX_RUNNING,
	SANDBOX_OVER,     /* its first process is gone; what is left of it waits for a stop */
	SANDBOX_STOPPING, /* a job stops it */
};

/* Who waits for an answer: the connection may be gone by then. */
struct asker {
	uint64_t connection, correlation;
	struct asker *next;
};

struct sandbox {
	struct map_node node;
	uint64_t id;
	enum sandbox_state state;
	enum isolation isolation;
	struct driver *driver;            /* the isolation's */
	struct driver_instance *instance; /* NULL while starting */
	const struct image *image;
	uint32_t slot;
	bool frozen; /* by the lease */
	bool parked; /* until it is dialled; apart from the lease */
	struct watch exit_watch;
	struct driver_exit exit; /* when over */
	bool exit_known;
	bool switching;       /* a job turns its egress on or off, saves it, or lets it go on */
	bool loaded;          /* from a file, and did not go on yet */
	uint64_t save;        /* that it was started from; 0: none */
	struct asker *starts; /* all who wait for its start */
	struct asker *stops;  /* all who asked to stop it */
	uint32_t stop_grace_ms;
	char tag[KEPT_LOGS_TAG + 1]; /* of its session, as a stop told it; or "" */
};

struct dial {
	struct watch watch; /* owns the socket */
	struct asker asker;
	uint64_t sandbox, deadline_ms;
	struct dial *next;
};

/* A look after what is on the host for all, under way while `server` is set. */
struct tending {
	struct job job;
	struct server *server;
	bool disk_full;
	int code;
	struct err err;
	struct err told[ISOLATIONS]; /* by the drivers */
};

/* A driver, and whether what it starts runs here. */
struct carrier {
	struct driver *driver; /* NULL before the first hello, or there is none */
	bool proven, proving;
	struct err why_not; /* as long as it is not proven */
	uint64_t again_boot_ms, wait_ms;
};

/* What the looks found. */
struct network_health {
	uint32_t repairs;
	uint64_t repaired_wall_ms;
	struct err problem; /* empty: none */
};

struct server {
	struct server_options o;
	struct egress *egress; /* of the whole node; as the drivers, NULL before the first hello */
	struct carrier carriers[ISOLATIONS];
	bool wanted; /* somebody came who may start something */
	char cluster[65];
	uint64_t node;
	int poll;
	struct watch listener, signals, fence, tick, work_done, stops_done, image_work_done;
	struct tending tending;
	struct network_health network;
	struct jobs *work, *stops, *image_work;
	struct connection *connections;
	unsigned n_connections;
	uint64_t next_connection;
	struct map sandboxes;
	unsigned char slots[SANDBOXES_MAX / 8]; /* a bit each: taken */
	uint32_t n_slots, next_slot;
	struct dial *dials;
	unsigned n_dials;
	bool fenced, ending;
	struct lease_file lease; /* as it is on disk */
	int lease_fd;
	int saved_dir;          /* saving/saved_files.h */
	struct journal *events; /* lifecycle.c */
	struct kept_logs *logs;
	struct ended {
		uint64_t sandbox, wall_ms;
	} ended[ENDED_KEPT]; /* in turn */
	uint32_t next_ended;
};

/* watch.c */
int watch_add(struct server *s, struct watch *w, int fd, uint32_t events, struct err *err);
void watch_remove(struct server *s, struct watch *w); /* does not close */

/* connection.c */
int connection_listen(struct server *s, struct err *err);
void connection_close_all(struct server *s);
/* Sends to the connection if it is still there. fd may be -1; it is the caller's. */
void reply(struct server *s, const struct asker *to, struct sandboxd_reply *r, int fd);
void reply_code(struct server *s, const struct asker *to, int code, const struct err *err);
/* Who waits for the same: false when ASKERS_MAX do. Answering, or dropping, empties the list. */
bool askers_add(struct asker **list, const struct asker *asker);
void askers_answer(struct server *s, struct asker **list, struct sandboxd_reply *r);
void askers_drop(struct asker **list);
/* `only` NULL: to all. */
void send_exited(struct server *s, const struct sandbox *b, struct connection *only);
void send_network(struct server *s, struct connection *only);
void send_able(struct server *s); /* to all */

/* requests.c: one packet; fd (or -1) came with it and is taken. */
void request_handle(struct server *s, struct connection *c, uint64_t connection, const struct packet *p,
		    struct arena *arena, int fd);
bool connection_said_hello(const struct connection *c);
void connection_set_hello(struct connection *c);

/* sandboxes.c */
struct sandbox *sandbox_find(struct server *s, uint64_t id);
struct sandbox *sandbox_new(struct server *s, uint64_t id,
			    enum isolation isolation); /* NULL: no slot, no memory */
void sandbox_forget(struct server *s, struct sandbox *b);
uint32_t sandbox_uid_base(const struct server *s, uint32_t slot);
int sandboxes_adopt(struct server *s, enum isolation isolation, struct err *err);
void sandbox_watch_exit(struct server *s, struct sandbox *b);

/* start_stop.c */
void sandbox_start(struct server *s, const struct sandboxd_start *how, struct asker asker);
void sandbox_stop(struct server *s, struct sandbox *b, uint32_t grace_ms, struct asker asker);
/* For a stop that had to wait until something else was done. */
void sandbox_stop_if_asked(struct server *s, struct sandbox *b);

/* Who waits for its stop is told that it is over. */
void sandbox_answer_stops(struct server *s, struct sandbox *b);

/* saving.c */
void saving_call(struct server *s, enum sandboxd_type type, const struct sandboxd_save *what,
		 struct asker asker);
/* What is here of the sandbox comes from a later save than that. */
bool saving_is_later(struct server *s, uint64_t sandbox, uint64_t save);
/* Files of it go; false: there was none. */
bool saving_drop(struct server *s, uint64_t sandbox);

/* switch_egress.c */
void sandbox_egress(struct server *s, struct sandbox *b, bool on, struct asker asker);

/* carriers.c */
int carriers_open(struct server *s, struct str cluster, uint64_t node, struct err *err);
bool carriers_opened(const struct server *s);
void carriers_close(struct server *s);
/* Tries those that are due to be tried. */
void carriers_prove(struct server *s);
/* The text is the server's. */
struct sandboxd_able carriers_able(const struct server *s);
/* The first proof is under way: nothing is known of it yet. */
bool carriers_finding_out(const struct server *s, int isolation);

/* holdings.c */
void holdings_call(struct server *s, struct asker asker);

/* tend.c */
int tend_open(struct server *s, struct err *err);

/* dials.c */
void dial_start(struct server *s, struct sandbox *b, uint16_t port, uint32_t timeout_ms, struct asker asker);
/* Ends those whose time is over; the ms until the next is, or -1. */
int dials_expire(struct server *s);
void dials_drop(struct server *s);

/* fence.c */
/* On the loop, at once: SIGSTOP or a cgroup's freezer. Both false: it runs. */
int sandbox_still(struct sandbox *b, bool frozen, bool parked, struct err *err);
int sandbox_park(struct sandbox *b, bool on, struct err *err);
int fence_open(struct server *s, struct err *err);
void fence_set(struct server *s, uint64_t boot_ms);
/* After what runs was found: the lease that a former sandboxd kept is kept on. */
void fence_adopted(struct server *s);

/* image_calls.c */
void image_call(struct server *s, const struct packet *p, int fd, struct asker asker);

/* identity.c: cluster and node, kept in <state>/identity; opens the drivers. */
int identity_load(struct server *s, struct err *err);
int identity_take(struct server *s, struct str cluster, uint64_t node, struct err *err);

/* lifecycle.c: the record of what ran when, for bills to be checked against: <state>/events. */
int lifecycle_open(struct server *s, struct err *err);
void lifecycle_started(struct server *s, const struct sandbox *b, const struct driver_limits *limits,
		       uint64_t wall_ms);
void lifecycle_saved(struct server *s, const struct sandbox *b, uint64_t bytes);
void lifecycle_exited(struct server *s, const struct sandbox *b);
void lifecycle_frozen(struct server *s, const struct sandbox *b); /* or thawed */
void lifecycle_stopped(struct server *s, const struct sandbox *b, uint64_t wall_ms);
/* When a sandbox that is not here any more ended; now, if that is not remembered. */
uint64_t lifecycle_ended_ms(const struct server *s, uint64_t sandbox);

#endif
