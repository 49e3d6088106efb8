/* fixture.h -- a gateway with two loops, a control that answers at once, and a sandbox's server on real sockets.
 * The test itself is a blocking client. */
#ifndef TESTS_GATEWAY_FIXTURE_H
#define TESTS_GATEWAY_FIXTURE_H

#include "certs.h"

#include <pthread.h>
#include <stdatomic.h>

#include "gateway/gateway.h"
#include "gateway/token/token.h"
#include "wire/messages.h"

#define FIXTURE_POOL       7
#define FIXTURE_HOST       "pool.env.region.example.test"
#define FIXTURE_SCOPE      "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.App/sessionPools/pool"
#define FIXTURE_OTHER_POOL 8 /* of the same view; its path ends in "other" */
#define FIXTURE_HELD       64
#define FIXTURE_BIG        (24u << 20)

struct fixture {
	struct gateway *g;
	struct gateway *other_gateway; /* where envelopes for this control go, when there are two */
	uint16_t backend;              /* the sandbox's port */
	uint64_t node;                 /* this node */
	_Atomic uint64_t owner;        /* what opens answer */
	_Atomic uint64_t generation, sandbox;
	_Atomic int opens, dials, deads, admits, admit_code, open_code, refuse_dials, dial_error, gone_told;
	_Atomic uint64_t quiet_in_flight, quiet_last, quiets;
	_Atomic uint64_t stream_id; /* of an api_request answered with `more` */
	bool slow_open;
	bool hold_opens; /* not answered until fixture_answer */
	_Atomic unsigned n_held;
	struct fixture_open {
		uint64_t pool;
		char identifier[129];
		struct address from;
		uint64_t correlation;
	} held[FIXTURE_HELD];
	uint32_t queue_ms, silence_ms; /* 0: 3 s, 20 s */
};

/* Starts the sandbox's server; it runs until the process ends. Returns its port. */
uint16_t backend_start(void);
extern _Atomic int backend_connections;

void fixture_config(struct fixture *f, struct gateway_config *ret);
/* With the pool in its view; node 2's peer address is `peer_port` when not 0. */
void fixture_publish(struct fixture *f, uint16_t peer_port);
void fixture_answer(struct fixture *f, unsigned which); /* a held open: OPEN_OK */
void fixture_event(struct fixture *f, unsigned type);   /* to all loops: MSG_QUIESCE, MSG_REOPEN, MSG_ENDED */

/* --- the client --- */

int client_connect(uint16_t port);
void client_send(int fd, const char *text);
void client_send_bytes(int fd, const void *p, size_t n);
/* Reads until the text has `until` in it, or the end; terminated; returns the length. */
size_t client_read(int fd, char *to, size_t size, const char *until);
/* One request, the answer's head and body (with Content-Length or chunked) as they came. */
void client_ask(int fd, const char *request, char *answer, size_t size);
unsigned answer_status(const char *answer);

#endif
