/* played.h -- a sandboxd in a process of its own whose sandboxes, of both isolations, the scripted driver plays, and a client of it.
 * Machines are proven when the file <dir>/proven is there; until then the proof goes on. */
#ifndef TEST_SANDBOXD_PLAYED_H
#define TEST_SANDBOXD_PLAYED_H

#include "drivers_world/client.h"
#include "sandboxd/settings.h"

#define CLUSTER "00000000-0000-4000-8000-000000000001"

struct played {
	struct settings settings; /* of the next start */
	struct client client;
	char dir[128];
	struct str words[4]; /* of the last program */
};
extern struct played played;

/* Of a group of tests. */
int played_open(void **state);
int played_close(void **state);
void played_restart(void);

struct sandboxd_start played_program(uint64_t sandbox, const char *first, const char *second);
int played_start(uint64_t sandbox, const char *first, const char *second, struct sandboxd_reply *ret);
int played_stop(uint64_t sandbox, uint32_t grace_ms);
int played_dial(uint64_t sandbox, uint16_t port, int *ret_fd);

#endif
