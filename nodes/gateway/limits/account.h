/* account.h -- what one loop serves just now for a pool, and for a token's subject: requests under way, of them waiting for a
 * session, of these asked for at placement. Counted; a client's connection keeps those of its last request, so that a warm
 * request looks up nothing. Thread: the loop's. */
#ifndef GATEWAY_ACCOUNT_H
#define GATEWAY_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/map.h"
#include "core/str.h"
#include "gateway/token/token.h"
#include "loop/loop.h"

struct client;
struct gw;

/* ACCOUNT_LANE: of a subject in a pool, while first requests of it wait for their turn. */
enum account_kind { ACCOUNT_POOL, ACCOUNT_SUBJECT, ACCOUNT_LANE, ACCOUNT_KINDS };

struct account {
	struct map_node node;
	enum account_kind kind;
	uint64_t pool;
	size_t subject_n;
	char subject[TOKEN_SUBJECT_MAX];
	unsigned refs;
	uint32_t under_way, waiting, asked;
	struct loop_link lanes; /* of a pool: those with opens */
	struct loop_link turn;  /* of a lane: in its pool's lanes */
	struct loop_link opens; /* of a lane */
};

/* With a reference; NULL without memory. */
struct account *account_get(struct gw *gw, enum account_kind kind, uint64_t pool, struct str subject);
void account_put(struct gw *gw, struct account *a); /* NULL is fine */

/* A request of this subject to c->pool begins. False: above a limit; it was answered. */
bool account_enter(struct client *c, struct str subject);
void account_leave(struct client *c); /* it is over; twice is fine */
void account_drop(struct client *c);  /* the connection is */
/* It is about to wait for a session. False: above a limit; it was answered. */
bool account_may_wait(struct client *c);
void account_waits(struct client *c, bool waits);

#endif
