/* server.h -- a consensus server with a tally, as the tests run it: in this process, on a loop of theirs. */
#ifndef TESTS_CONSENSUS_SERVER_H
#define TESTS_CONSENSUS_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "tally.h"

struct uv_loop_s;

struct server {
	struct consensus *consensus;
	struct tally tally;
	uint64_t leads_term;     /* as `leadership` told; 0: does not lead */
	unsigned gained, failed; /* how often */
	bool closed;
	char why[ERR_MESSAGE_MAX];
};

/* A scratch directory of this process, made at the first call; removed by scratch_remove. */
const char *scratch_dir(void);
void scratch_remove(void);
/* Free loopback ports, different from each other. */
void pick_addresses(char (*addresses)[CONSENSUS_ADDRESS_SIZE], unsigned n);

/* Options for server `id` of n on `loop`, its directory <scratch>/<name><id>. Points into static memory. */
struct consensus_options server_options(struct server *s, struct uv_loop_s *loop, const char *name,
					uint64_t id, char (*addresses)[CONSENSUS_ADDRESS_SIZE], unsigned n);
/* Fails the test if it does not start. */
void server_start(struct server *s, const struct consensus_options *options);
/* Runs the loop until it is closed. */
void server_stop(struct server *s, struct uv_loop_s *loop);

/* Which of n leads, in the highest term that any knows; -1: none. Those without a consensus are passed over. */
int servers_leader(const struct server *servers, unsigned n);

/* Turns the loop until *done or the time is over; returns whether it was. */
bool loop_until(struct uv_loop_s *loop, bool (*done)(void *arg), void *arg, uint64_t ms_max);
/* Lets the last handles close. */
void loop_end(struct uv_loop_s *loop);

#endif
