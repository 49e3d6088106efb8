/* gateway.h -- the HTTP front of a node: N loops, each on a thread of its own, that pass requests to sandboxes here and
 * on other nodes. It decides nothing: where a session is, it asks; everything that is not a session's request goes to
 * control as an api_request.
 *
 * The seam, all of it asynchronous:
 *   control -> gateway   gateway_publish (pools, nodes), gateway_publish_keys (tokens), gateway_post (envelopes to
 *                        ADDRESS_GATEWAY: MSG_OPENED, MSG_REFUSED, MSG_QUIESCE, MSG_REOPEN, MSG_ENDED, MSG_PART,
 *                        MSG_ACTIVITY),
 *                        gateway_admitted, gateway_api_reply / _chunk / _end. From any thread.
 *   gateway -> control   the functions of gateway_config. They run on a loop's thread: post to control's mailbox and return.
 * What the gateway sends: MSG_OPEN to {ADDRESS_PLACEMENT, NODE_LEADER, 0}; MSG_DEAD to {ADDRESS_SESSION, own node, generation};
 * MSG_QUIET as the reply to MSG_QUIESCE, MSG_ACTIVE to MSG_ACTIVITY. MSG_QUIESCE, MSG_REOPEN and MSG_ENDED must reach every loop of the node.
 *
 * Owner: control. gateway_free stops the threads. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "core/str.h"
#include "gateway/view.h"
#include "loop/loop.h"
#include "tls/tls.h"
#include "wire/envelope.h"

#define GATEWAY_LOOPS_MAX    16
#define GATEWAY_API_BODY_MAX (1u << 20)
#define GATEWAY_HEADERS_MAX  16 /* of an api_reply */

struct gateway;
struct token_keys; /* token.h */

enum gateway_peer { PEER_PLAIN, PEER_TLS, PEER_ADMIN, PEER_METRICS, PEER_KINDS };

/* A whole request for the management API. Owned by whoever got it; free with gateway_api_free. */
struct gateway_api_request {
	uint64_t id;                    /* answer with it, exactly once */
	uint8_t peer;                   /* enum gateway_peer */
	uid_t uid;                      /* of the process behind the admin socket; else (uid_t)-1 */
	struct str method, path, query; /* path: as sent, behind a pool's path prefix when pool_uid is set */
	struct str host, authorization, content_type, accept; /* STR_NONE when absent */
	struct str client_request_id; /* that the client wants to see in the answer; else STR_NONE */
	struct str body;
	uint64_t pool_uid; /* the pool that host or path names (for /.management/...); 0: none */
	void *memory;
};
void gateway_api_free(struct gateway_api_request *request);

struct gateway_header {
	struct str name, value; /* the caller vouches that they hold no control characters */
};

/* Content-Length, Date-less; connection headers are the gateway's. All is copied. */
struct gateway_api_reply {
	unsigned status;
	struct gateway_header headers[GATEWAY_HEADERS_MAX];
	unsigned n_headers;
	struct str body;
	bool more; /* the body goes on: gateway_api_chunk, then gateway_api_end */
};

/* dial: a connected socket to the target port of a local sandbox, which is that of the revision it was started from. `done` runs later on the same loop's thread, exactly once, never inside
 * the call: fd >= 0 (now the gateway's) or error < 0 (-errno). */
typedef void gateway_dialed(void *done_arg, int fd, int error);

/* Is this session live here? For a forwarded request whose session this loop has not met. */
struct gateway_admit {
	unsigned loop;
	uint64_t correlation;
	uint64_t pool, generation, sandbox;
	uint64_t index;       /* control answers after it has applied this entry, or at the deadline */
	uint64_t deadline_ms; /* CLOCK_BOOTTIME */
};

/* What a gateway saw of a session, for whoever recounts bills; see records/events.h. */
enum gateway_event_kind { GATEWAY_OPENED, GATEWAY_CONNECTED, GATEWAY_DEAD };
struct gateway_event {
	enum gateway_event_kind kind;
	uint64_t pool, generation, sandbox;
	struct str identifier; /* empty at the owner, which a forward does not tell it */
};

struct gateway_config {
	unsigned n_loops;
	uint64_t node, incarnation;
	/* Listeners; NULL: none. Port 0 draws one (gateway_port). */
	const struct sockaddr *plain, *tls, *peer;
	const struct sockaddr *metrics; /* plain HTTP; nothing but the node's own state */
	struct tls_ctx *tls_server;     /* for `tls` */
	struct tls_ctx *peer_server,
		*peer_client;   /* mutual; NULL with `peer` set: plain TCP, for tests alone */
	const char *admin_path; /* unix socket of loop 0 */
	unsigned admin_mode;
	gid_t admin_group;
	bool tokens; /* requests to sessions need one (all but the admin socket's) */

	/* Bounds of all loops together; 0: the default in brackets. */
	uint32_t connections_max;         /* [20000] of clients; as many again of nodes */
	uint32_t address_connections_max; /* [2000] of clients, from one IPv4 address or IPv6 /64 */
	/* Requests of clients under way, and of these waiting for a session; each loop allows its part. */
	uint32_t pool_requests_max;  /* [10000] to one pool */
	uint32_t token_requests_max; /* [5000] of one token's subject */
	uint32_t pool_waiting_max;   /* [4000] */
	uint32_t token_waiting_max;  /* [2000] */
	/* Bounds of one loop. */
	uint32_t opens_max;               /* [512] questions to placement for one pool */
	uint32_t sandbox_connections_max; /* [256] to one sandbox */
	uint32_t peer_connections_max;    /* [256] to one node */
	uint32_t waiting_max;             /* [10000] requests that wait for a session */
	uint32_t waiting_bytes_max; /* [64 MiB] of these requests, heads and what came of their bodies */
	uint32_t receive_buffer;    /* bytes, of a client's connection; 0: the kernel's */
	/* Milliseconds; 0: the default in brackets. */
	uint32_t handshake_ms;    /* [10000] of TLS */
	uint32_t head_timeout_ms; /* [15000] from the first byte of a head to its end */
	uint32_t keep_alive_ms;   /* [75000] between requests */
	uint32_t dial_timeout_ms; /* [3000] to a sandbox or to another node */
	uint32_t tunnel_idle_ms;  /* [3600000] */
	uint32_t
		route_idle_ms; /* [600000] a route to another node that nobody used for so long is forgotten */
	uint32_t stall_ms;     /* [60000] over which rate_min counts */
	uint32_t rate_min;     /* bytes a second of a body that a client sends or takes; 0: none */

	/* Called on loop threads. Non-zero (-ENOBUFS, -EPIPE): not taken; the request gets 503. */
	int (*post)(void *arg, const void *envelope, size_t n);     /* encoded with envelope_codec */
	int (*admit)(void *arg, const struct gateway_admit *admit); /* answered by gateway_admitted */
	int (*api)(void *arg, struct gateway_api_request *request);
	void (*api_gone)(void *arg,
			 uint64_t id); /* nobody listens to a reply with `more` any longer; may be NULL */
	/* The client took all of the last chunk: time for the next. May be NULL. */
	void (*api_taken)(void *arg, uint64_t id);
	int (*dial)(void *arg, struct loop *l, unsigned loop, uint64_t sandbox, uint32_t timeout_ms,
		    gateway_dialed *done, void *done_arg);
	void (*event)(void *arg, const struct gateway_event *event); /* may be NULL */
	/* For what dial needs on a loop: before it runs (inside gateway_start), and on its own thread when it stops: pending
	 * dials fail then, from inside loop_stop. May be NULL. */
	int (*loop_start)(void *arg, struct loop *l, unsigned loop);
	void (*loop_stop)(void *arg, struct loop *l, unsigned loop);
	void *arg;
};

/* Binds everything; serves from gateway_start on. -errno with the address that failed in `err`. */
int gateway_new(const struct gateway_config *config, struct gateway **ret, struct err *err);
int gateway_start(struct gateway *g, struct err *err);
/* Closes all connections and joins the threads. */
void gateway_free(struct gateway *g);

enum gateway_listener { LISTEN_PLAIN, LISTEN_TLS, LISTEN_PEER, LISTEN_METRICS, LISTENERS };
uint16_t gateway_port(const struct gateway *g, enum gateway_listener which); /* 0: none */

/* --- from any thread --- */

void gateway_publish(struct gateway *g, struct view *view);            /* takes the reference */
void gateway_publish_keys(struct gateway *g, struct token_keys *keys); /* takes the reference */
/* `loop` is envelope.to.key. 0, -EINVAL (no such loop), -ENOBUFS, -EPIPE. */
int gateway_post(struct gateway *g, unsigned loop, const void *envelope, size_t n);
/* The answer to admit: code 0: live here; -ESTALE: closed, or another sandbox; -EAGAIN: this node lags, or is fenced. */
int gateway_admitted(struct gateway *g, unsigned loop, uint64_t correlation, int code);
/* While not allowed (the lease ended) all requests to local sandboxes get 503 and tunnels are cut. Allowed at the start. */
void gateway_allow(struct gateway *g, bool allowed);

/* 0; -ENOENT when its client is gone; -ENOBUFS. */
int gateway_api_reply(struct gateway *g, uint64_t id, const struct gateway_api_reply *reply);
int gateway_api_chunk(struct gateway *g, uint64_t id, struct str bytes);
/* Not `whole`: something failed, and the answer must look cut off. */
int gateway_api_end(struct gateway *g, uint64_t id, bool whole);

struct gateway_stats {
	uint64_t routes; /* sessions that are known here, of other nodes too */
	uint64_t connections, connections_open, requests, forwarded, tunnels, opens, refused_429, refused_503,
		bad_requests;
	uint64_t bad_responses, too_slow, refused_connections, refused_limits, bytes_in, bytes_out;
	uint64_t parted; /* requests and tunnels that were cut because their session was saved */
};
/* Sums over the loops; each figure is exact, together they are of about the same moment. */
void gateway_stats(const struct gateway *g, struct gateway_stats *ret);

#endif
