/* fixture.h -- a cluster's tables in memory and the management API over them: requests in, replies out. What the API posts
 * is applied at once, as the leader's actors would propose it. */
#ifndef ARM_FIXTURE_H
#define ARM_FIXTURE_H

#include "arm/arm.h"
#include "json/json.h"

#define FIXTURE_SUB "34adfa4f-cedf-4dc0-ba29-b6d1a69ab345"
#define FIXTURE_POOL                  \
	"/subscriptions/" FIXTURE_SUB \
	"/resourceGroups/rg/providers/Microsoft.App/sessionPools/testsessionpool"

struct fixture {
	struct state *state;
	struct arm arm;
	struct arena arena; /* of the last request */
	struct arm_outcome outcome;
	struct arm_reply reply;
	json_t *body; /* of the last reply, or NULL */
	struct arm_caller caller;
	struct str host; /* of requests */
	uint64_t pool;   /* of requests below a pool's endpoint; 0 = management */
	uint64_t index, sequence, epoch, now_ms;
	uint64_t operation, last_pool;
	int answer_code; /* when not 0, posted messages are answered so and not applied */
	uint32_t sealed; /* how many secrets were sealed */
};

void fixture_init(struct fixture *f);
void fixture_init_with(struct fixture *f, uint8_t isolation); /* of pools that name none */
void fixture_done(struct fixture *f);
/* Answers the status; reply and body are in the fixture until the next call. */
int fixture_call(struct fixture *f, const char *method, const char *path, const char *query, struct str body);
int fixture_json(struct fixture *f, const char *method, const char *path, const char *query,
		 const json_t *body);
/* Applies one command; the result is copied out. */
struct result fixture_apply(struct fixture *f, uint16_t type, const void *body);
/* Moves the last operation to its end. */
void fixture_finish(struct fixture *f, bool ok);
const char *fixture_header(const struct fixture *f, const char *name);
json_t *fixture_load(const char *path); /* below tests/data; must exist */
/* A valid resource of version 2024-08-02-preview; the caller owns it. */
json_t *fixture_resource(void);

#endif
