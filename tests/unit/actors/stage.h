/* stage.h -- one node's actors with real tables and recorded effects: a test plays everybody else. */
#ifndef ACTORS_STAGE_H
#define ACTORS_STAGE_H

#include "cast/cast.h"
#include "runtime/runtime.h"
#include "state/state.h"

#define STAGE_EFFECTS 4096
#define STAGE_NODE    1
#define STAGE_OTHER   2

struct seen {
	uint8_t kind;
	uint16_t type; /* command, sandboxd or message type */
	struct address from, to;
	uint64_t correlation;
	int32_t code; /* of a reply, SESSION_OPEN's preferred sandbox, or `failed`, `unserved` bits of SANDBOX_GONE, or the node of SANDBOX_BOOT, or the isolation of START, or `on` of PARK */
	char text[400]; /* of SANDBOX_GONE, a refusal, a step: its message; of PULL: the digest */
};

struct stage {
	struct state *tables;
	struct runtime *runtime;
	uint64_t now_ms, index, sequence[3], epoch[3], pool, revision, asked;
	struct seen seen[STAGE_EFFECTS];
	uint32_t n_seen, looked; /* what stage_next looks at begins at `looked` */
	bool with_probes;
	uint8_t isolation;                                       /* of the pool */
	bool speaks_as_other;                                    /* stage_post: from node 2 */
	bool egress, runs_with_egress, runs_frozen, runs_parked; /* the pool's; what sandboxd lists */
};

/* Two nodes, a pool whose image node 1 holds; sandboxd has listed nothing. Node 1 leads if `leads`. */
struct stage *stage_new(bool leads, bool with_probes);
/* The same, with a pool of virtual machines, which both nodes run; both hold its image, and node 1 has joined. */
struct stage *stage_new_machines(bool leads);
void stage_free(struct stage *s);
/* As a node: applied, told to the runtime, run. */
struct result stage_apply(struct stage *s, uint64_t node, uint8_t type, const void *body);
void stage_run(struct stage *s, uint64_t for_ms);
/* A message to an actor of node 1. correlation 0: nobody waits. */
void stage_post(struct stage *s, uint8_t kind, uint64_t key, uint16_t type, uint64_t correlation,
		const void *body);
/* The next effect of that kind and type that no call has returned yet; NULL: none. */
const struct seen *stage_next(struct stage *s, uint8_t kind, uint16_t type);
/* Answers the effect. */
void stage_answer(struct stage *s, const struct seen *to, uint16_t type, const void *body);
void stage_proposed(struct stage *s, const struct seen *to, int32_t code);
void stage_driven(struct stage *s, const struct seen *to, int32_t code);
void stage_probed(struct stage *s, const struct seen *to, bool ok);
void stage_refused(struct stage *s, const struct seen *to, int32_t code);
void stage_adopted(struct stage *s, uint64_t sandbox, bool running);
/* Updates the pool. */
void stage_egress(struct stage *s, bool on);
/* A row; its actor is made. */
uint64_t stage_boot(struct stage *s);

#endif
