/* inside.h -- the structs that the gateway's own files share. Nothing here leaves the folder or its loop's thread.
 *
 * A client is one connection from outside (or from another node). It serves one request at a time:
 *
 *   HEAD -> SESSION (where is it?) -> CONNECT (a connection to it) -> EXCHANGE -> HEAD | TUNNEL
 *   HEAD -> API_BODY -> API -> HEAD
 *
 * A warm request goes from HEAD to EXCHANGE within one read. An upstream is one connection to a sandbox here or to another
 * node's gateway; it belongs to the conns of a session (here) or of a node, and is idle or serves one client.
 * A session is what this loop knows of a generation; counted, because clients and upstreams outlive its end. */
#ifndef GATEWAY_INSIDE_H
#define GATEWAY_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/buf.h"
#include "core/map.h"
#include "gateway/gateway.h"
#include "gateway/http/head.h"
#include "gateway/http/identifier.h"
#include "gateway/limits/account.h"
#include "gateway/limits/crowd.h"
#include "gateway/limits/turns.h"
#include "gateway/token/token.h"
#include "loop/listener.h"
#include "loop/loop.h"
#include "loop/mailbox.h"
#include "loop/stream.h"
#include "wire/messages.h"

#define STASH_MAX          (64u * 1024) /* of pipelined requests, and of request bytes kept to be sent again */
#define UNSENT_MAX         (64u * 1024) /* of answers: above, the next request waits */
#define INTERIM_MAX        16           /* 1xx answers to one request */
#define TRIES_MAX          3
#define REST_MS            30000 /* a request is held while its session moves or wakes */
#define PARTING_MAX        64
#define PARTING_MS         1000
#define FINISH_MS          2000
#define TOKEN_GRACE_S      60           /* a tunnel outlives its token by this much */
#define TRACE_ID_BYTES     24           /* of a trace and a span */
#define NEAR_RECEIVE_BYTES (208 * 1024) /* from sandboxes, whose ways are short */
/* Where two nodes lie between, a body waits in both: less in each, a mebibyte in all. */
#define HOP_RECEIVE_BYTES (96 * 1024)
#define HOP_UNSENT_BYTES  (64u * 1024)
#define FRESH_IDLE_MS \
	1000 /* a kept connection idle for longer is not given a request that cannot be repeated */

struct client;
struct gw;

struct counters {
	_Atomic uint64_t routes, connections, connections_open, requests, forwarded, tunnels, opens,
		refused_429, refused_503, bad_requests, bad_responses, too_slow, refused_connections,
		refused_limits, bytes_in, bytes_out, parted;
};

static inline void count(_Atomic uint64_t *c, uint64_t n)
{
	/* one writer: the loop's thread */
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

struct gateway {
	struct gateway_config config;
	struct gw *loops[GATEWAY_LOOPS_MAX];
	char admin_path[108];
	uint16_t ports[LISTENERS];
	struct crowd *clients, *others; /* others: nodes, and who asks for metrics */
	bool started;
};

/* Connections to one place. */
struct conns {
	struct loop_link all, idle, waiting; /* of upstreams, upstreams, clients */
	unsigned n, max;                     /* n counts dials under way too */
	unsigned opening;                    /* to a node: of n, those not open yet */
};

enum session_state { SESSION_OPEN, SESSION_QUIET, SESSION_ENDED };

struct session {
	struct map_node by_generation, by_key;
	bool in_generations, in_keys;
	unsigned refs;
	uint64_t pool, generation, sandbox, node, index;
	char identifier[IDENTIFIER_MAX];
	size_t identifier_n;
	char guid[40]; /* X-Ms-Session-Guid; empty until the first answer */
	bool local, served, dead_told, connected;
	bool parted;   /* it is being saved: who is held waits for REST_MS */
	uint8_t state; /* enum session_state */
	uint32_t in_flight;
	uint64_t last_activity_ms;  /* CLOCK_BOOTTIME; 0: never */
	struct conns conns;         /* when local */
	struct loop_link held;      /* clients that wait for REOPEN, ENDED or the answer to admit */
	struct loop_link tunnels;   /* clients */
	struct loop_link by_age;    /* when remote: in gw.remotes */
	uint64_t admit_correlation; /* != 0: control was asked whether it lives here */
	uint64_t admit_deadline_ms;
};

struct peer { /* another node's gateway */
	struct map_node by_node;
	uint64_t node;
	struct conns conns;
};

/* One question to placement, with everyone who waits for its answer. */
struct open {
	struct map_node by_correlation, by_key;
	uint64_t correlation, pool, gone;
	bool require_existing;
	char identifier[IDENTIFIER_MAX];
	size_t identifier_n;
	struct loop_link waiting; /* clients */
	struct gw *gw;
	uint64_t deadline_ms;
	bool asked;                     /* else it waits in `lane` for its turn */
	struct account *of_pool, *lane; /* counted; NULL: not bounded */
	struct loop_link in_lane;
	struct loop_timer late;
};

struct upstream {
	struct loop_link link_all, link_idle;
	struct gw *gw;
	struct stream *s;
	struct conns *conns;
	struct session *session; /* counted; NULL for a connection to a node */
	uint64_t node;           /* for a connection to a node: who must answer */
	struct client *c;
	bool reused, open, closing, flush; /* flush: what is queued is sent before it closes */
	uint64_t idle_since_ms;
	struct buf in; /* part of a head */
};

enum client_kind { CLIENT_PLAIN, CLIENT_TLS, CLIENT_ADMIN, CLIENT_NODE, CLIENT_METRICS };

enum client_state {
	CLIENT_HEAD,
	CLIENT_SESSION,
	CLIENT_CONNECT,
	CLIENT_EXCHANGE,
	CLIENT_TUNNEL,
	CLIENT_API_BODY,
	CLIENT_API,
	CLIENT_DONE
};

struct body_state {
	enum body_kind kind;
	uint64_t left;
	struct chunk_scan chunk;
	bool done;
};

struct dialing;

struct client {
	struct loop_link link;    /* gw->clients */
	struct loop_link waiting; /* open->waiting, session->held or conns->waiting */
	struct loop_link tunnel;  /* session->tunnels */
	struct gw *gw;
	struct stream *s;
	char address[46]; /* as X-Forwarded-For; empty until the first request */
	uint8_t kind, state;
	uint64_t node; /* of a CLIENT_NODE: which one; 0 without encryption */
	bool taking, closed, eof;
	bool head_begun; /* part of a head is here: its clock runs */
	struct loop_timer timer;
	struct loop_timer pace; /* armed while the client owes bytes of a body, or owes to take some */
	uint64_t received;      /* bytes */
	uint64_t paced;         /* of those received and acknowledged when the pace was last looked at */
	bool excused;           /* since then it was made to wait */
	struct buf in;          /* bytes behind what was taken */

	/* the request; slices in `facts` are gone once its head was taken, their lengths stay */
	struct request_facts facts;
	struct body_state request_body;
	struct buf head; /* as it goes on, without the empty line */
	struct buf kept; /* body bytes sent to another node, in case it must be sent again */
	size_t head_n;   /* of `head` without what the way adds */
	bool kept_overflow, head_pending;
	uint64_t pool;
	uint32_t idle_ms, queue_ms;
	uint64_t cooldown_ms, deadline_ms, gone;
	uint64_t
		rest_until_ms; /* it is held as long as its session moves or wakes; 0: it was never found so */
	char identifier[IDENTIFIER_MAX];
	size_t identifier_n;
	unsigned tries;
	struct session *session; /* counted */
	struct upstream *u;
	struct dialing *dialing;
	bool admitted;    /* counted in session->in_flight */
	bool away;        /* waits in gw->away for the next try */
	size_t waiting_n; /* bytes, as counted in gw->waiting_bytes */
	bool created;
	uint32_t allocation_ms;
	struct account *of_pool, *of_subject; /* of the last request; counted */
	bool counted;                         /* in both */
	struct open *unasked;                 /* what it waits for, while that waits for its turn */

	/* the answer */
	bool answer_begun, keep, keep_upstream, rechunk;
	unsigned interims;
	struct body_state answer_body;
	uint64_t tunnel_ms;     /* CLOCK_BOOTTIME of its last byte */
	uint64_t token_until_s; /* Unix time at which the request's token ends; 0: it needed none */
	bool tunnel_client_eof, tunnel_upstream_eof;

	/* the management API */
	struct map_node by_api;
	uint64_t api_id;
	bool api_more;
	struct gateway_api_request *api;
	struct buf api_body;
	size_t api_reserved; /* of gw->api_reserved */
};

struct gw {
	struct loop loop;
	struct gateway *gateway;
	unsigned index;
	pthread_t thread;
	bool running;
	struct mailbox *mailbox;        /* NULL once it stops */
	struct mailbox *mailbox_shared; /* for other threads: a reference until gateway_free */
	struct listener *plain, *tls, *peer, *metrics, *admin;
	struct view *view;
	struct token_keys *keys;
	struct token_cache *tokens;
	uint64_t refused_ms; /* when a stranger at the nodes' port was last told of */
	bool fenced, stopping;
	struct map generations, keys_of_sessions, opens, keys_of_opens, peers, apis, accounts;
	struct loop_link clients;
	struct loop_link remotes;      /* routes to sessions of other nodes, the longest unlooked-at first */
	struct loop_link away;         /* clients whose sessions' nodes are away */
	unsigned n_waiting, n_parting; /* parting: refused connections that are told so */
	size_t waiting_bytes;          /* of the n_waiting */
	size_t api_reserved;           /* bytes of bodies for the management API, here and at control */
	uint64_t next_correlation;
	struct buf out; /* scratch of one call */
	struct scan_head head;
	uint8_t random[128 * TRACE_ID_BYTES]; /* for trace ids; the first random_left bytes are unused */
	size_t random_left;
	struct counters counters;
};

/* client.c */
void client_excuse(struct client *c); /* it is not read from: nobody can call it slow */
void client_accepted(struct gw *gw, struct stream *s, enum client_kind kind);
void client_continue(struct client *c); /* something it waited for is there: take what is stashed */
void client_next(struct client *c);     /* the answer is out: the next request, or the end */
void client_close(struct client *c);    /* at once */
void client_timer(struct client *c, uint64_t ms);
void client_wait(struct client *c, enum client_state state);
/* Writes to the client; pauses `source` when it does not take all. False: it is closed now. */
bool client_write(struct client *c, const struct iovec *iov, int n, struct upstream *source);

/* answer.c: the gateway's own answers. The connection goes on if the request was read whole. */
void answer(struct client *c, unsigned status, const char *code, const char *message);
void answer_retry(struct client *c, unsigned status, const char *code, const char *message,
		  unsigned retry_after_s);
void answer_hop(struct client *c, const char *result); /* to another node's gateway */
/* Headers end each with CRLF; connection fields, length and the empty line are added. */
void answer_raw(struct client *c, unsigned status, struct str headers, struct str body, bool more);
void answer_chunk(struct client *c, struct str bytes);
void answer_end(struct client *c);
const char *answer_reason(unsigned status);
void answer_connection(struct client *c, struct buf *out);
void answer_json_string(struct buf *out, struct str s);

/* request.c: from a scanned head to an exchange or an api_request. */
void request_begin(struct client *c, const struct scan_head *head);

/* rewrite.c */
void rewrite_request(struct client *c, const struct scan_head *head, const struct request_facts *f,
		     struct str path);
void rewrite_response(struct client *c, const struct scan_head *head, const struct response_facts *f,
		      struct buf *out);

/* route.c */
void session_route(struct client *c); /* to CONNECT or on, or waits, or answers */
void session_hop(struct client *c,
		 const struct session_ref *ref); /* the same for a request of another node */

/* session.c */
void session_ref(struct session *s);
void session_unref(struct session *s);
void session_enter(struct client *c);               /* counts it in; the session is open */
void session_tunnel(struct client *c);              /* from now on it counts by its bytes, not as a request */
void session_leave(struct client *c);               /* lets go of its session, counted or not */
void session_unusable(struct client *c, bool dead); /* stale or dead: ask again, or give up */
void session_message(struct gw *gw, const struct envelope *e, const void *body);
void session_admitted(struct gw *gw, uint64_t correlation, int code);
void session_fence(struct gw *gw, bool fenced);
void session_end_all(struct gw *gw);
void session_wait_over(struct client *c); /* unlinks it from whatever it waits for */
struct session *session_by_generation(struct gw *gw, uint64_t generation);

struct session *session_by_key(struct gw *gw, uint64_t pool, struct str identifier);
uint64_t session_key_hash(uint64_t pool, struct str identifier);
void session_forget(struct gw *gw, struct session *s); /* who has it keeps it */
struct session *session_new(struct gw *gw, const struct session_ref *ref, bool local);
/* The session of an answer from placement, findable by its identifier; NULL without memory. */
struct session *session_learn(struct gw *gw, const struct session_ref *ref, struct str identifier);
void session_wait_in(struct client *c, struct loop_link *list);
void session_use(struct client *c, struct session *s); /* c has none yet */
void session_proceed(struct client *c);                /* it has one: on, or waits with it */
void session_event(struct gw *gw, const struct session *s, enum gateway_event_kind kind);
int session_post(struct gw *gw, struct envelope *e, const struct codec_type *type, const void *body);

/* route.c */
/* The session's node is away, or not ready for it: tried again until the request's deadline. Nothing of it was delivered. */
void session_away(struct client *c, const char *why);
void session_try_again(struct client *c); /* its time came */
void session_ask(struct client *c);
void session_hold_on(struct client *c); /* it waits for a session that is being saved: for REST_MS */
void session_part(struct gw *gw, struct session *s); /* it is being saved: what is under way ends */
void session_opened(struct gw *gw, const struct envelope *e, const struct msg_opened *m);
void session_open_free(struct gw *gw, struct open *o);
void session_turn_came(struct open *o); /* placement is being asked: who waits for it waits for the answer */
void session_open_failed(struct gw *gw, struct open *o); /* placement cannot be asked, or does not answer */

/* upstream.c */
void conns_init(struct conns *conns, unsigned max);
void upstream_get(struct client *c); /* c->session is set: to EXCHANGE now or later */
void upstream_put(struct upstream *u, bool reusable);
void upstream_close(struct upstream *u);
/* Clients that wait for their answer get 503 with this code; NULL: their connections are closed. */
void upstream_close_all(struct conns *conns, const char *code, const char *message);
void upstream_forget_dial(struct client *c);
void upstream_silent_nodes(
	struct gw *gw); /* a new view: lets go of what waits for nodes that it calls silent */
void upstream_peers_done(struct gw *gw);

/* exchange.c: the request's way to the upstream and its end. */
void exchange_begin(struct client *c); /* c->u is there */
size_t exchange_body(struct client *c, const char *p, size_t n);
void exchange_flush(struct client *c);
size_t exchange_tunnel(struct client *c, const char *p, size_t n);
void exchange_tunnel_alive(struct client *c); /* a byte passed, or it begins */
void exchange_done(struct client *c, bool upstream_reusable);
void exchange_upstream_lost(struct client *c, int error); /* c->u ended or failed; 0: orderly end */
void exchange_abort(struct client *c); /* drops upstream and session, says nothing to the client */
enum chunk_result body_take(struct body_state *b, const char *p, size_t n, size_t *ret_used,
			    struct str *ret_data);
void body_begin(struct body_state *b, enum body_kind kind, uint64_t length);

/* response.c */
void response_data(struct upstream *u, const char *p, size_t n);
void response_end(struct client *c); /* the upstream's end is the body's end */

/* hop.c: "incarnation;pool;generation;sandbox;index", decimal. */
void hop_format(struct buf *to, uint64_t incarnation, const struct session *s);
int hop_parse(struct str text, uint64_t *ret_incarnation, struct session_ref *ret);

/* api.c */
size_t api_body(struct client *c, const char *p, size_t n);
void api_begin(struct client *c, const struct request_facts *f, uint64_t pool, struct str path);
void api_client_gone(struct client *c);
struct client *api_find(struct gw *gw, uint64_t id);
void api_replied(struct client *c, unsigned status, struct str headers, struct str body, bool more);
void api_chunk(struct client *c, struct str bytes);
void api_end(struct client *c, bool whole);
/* Nothing is queued for this client any more. */
void api_drained(struct client *c);

#endif
