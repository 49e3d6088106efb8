/* server.h -- sandboxd's loop: connections of berthd, requests, and the sandboxes that they are about.
 *
 * Happy path: one thread polls everything; a request is answered at once, or handed to a thread as a job whose end
 * comes back to the loop; DIAL connects without blocking. Events go to every connection that said hello.
 * Failure: a connection that sends what does not decode, or does not read what it is sent, is closed; berthd
 * connects again. Nothing that runs depends on a connection.
 * Invariants: the table, the connections and the slots belong to the loop's thread. A slot (uid range, addresses) is free
 * again only after the driver said that nothing of the sandbox is left. */
#ifndef SANDBOXD_SERVER_H
#define SANDBOXD_SERVER_H

#include <sys/types.h>

#include "drivers/driver.h"
#include "sandboxd/settings.h"

struct egress;
struct image_store;
struct server;

struct server_options {
	const struct settings *settings; /* borrowed for life */
	uid_t peer_uid;                  /* may connect, as root may */
	struct image_store *store; /* NULL: sandboxes start without an image, for drivers that need none */
	/* For each isolation, at the first hello ever, or at the start when an earlier sandboxd was told cluster and node.
	 * Does not wait for anybody. Without the one for containers nothing runs; -ENODEV, -EINVAL or -ENAMETOOLONG of another
	 * says why there can be none. */
	int (*open_driver)(const struct settings *s, enum isolation isolation, struct str cluster,
			   uint64_t node, struct egress *egress, struct driver **ret, struct err *err);
};

int server_new(const struct server_options *o, struct server **ret, struct err *err);
/* Until SIGTERM or SIGINT, which the caller has blocked. Sandboxes go on. */
int server_run(struct server *s, struct err *err);
void server_free(struct server *s);

#endif
