/* client.h -- a plain, blocking client of sandboxd for tests. */
#ifndef DRIVERS_WORLD_CLIENT_H
#define DRIVERS_WORLD_CLIENT_H

#include "core/arena.h"
#include "wire/sandboxd.h"

struct client {
	int fd;
	uint64_t correlation;
	struct arena arena;               /* of what was received; freed by client_close */
	struct sandboxd_exited exits[64]; /* events that came between */
	unsigned n_exits;
	struct sandboxd_able able; /* as last told by the event */
	bool told_able;
};

/* Tries for 10 s. */
int client_connect(struct client *c, const char *socket);
void client_close(struct client *c);
/* Returns the correlation. */
uint64_t client_send(struct client *c, enum sandboxd_type type, const void *body, int fd);
/* Waits up to 20 s for the reply with this correlation; ret_fd may be NULL. -errno when there is none. */
int client_wait(struct client *c, uint64_t correlation, struct sandboxd_reply *ret, int *ret_fd);
/* Both; the reply's code. */
int client_call(struct client *c, enum sandboxd_type type, const void *body, struct sandboxd_reply *ret,
		int *ret_fd);
int client_hello(struct client *c, const char *cluster, uint64_t node);
/* Waits up to 20 s for the event. */
bool client_wait_exit(struct client *c, uint64_t sandbox, struct sandboxd_exited *ret);
bool client_wait_able(struct client *c, struct sandboxd_able *ret);

#endif
