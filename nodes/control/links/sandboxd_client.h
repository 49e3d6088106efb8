/* sandboxd_client.h -- berthd's control connection to sandboxd: calls with correlations, events, reconnecting.
 *
 * Happy path: connect, HELLO, LIST; each call gets its reply. Failure modes: while sandboxd is away calls are answered
 * -ENOTCONN at once; when the connection breaks every call under way is answered -ECONNRESET (its outcome is unknown; the
 * LIST after the next connect tells). Thread: the control loop. */
#ifndef CONTROL_SANDBOXD_CLIENT_H
#define CONTROL_SANDBOXD_CLIENT_H

#include "core/err.h"
#include "loop/loop.h"
#include "wire/sandboxd.h"

struct sandboxd_client;

/* `fd` is the reply's descriptor or -1; it now belongs to the callee. */
typedef void sandboxd_replied(void *context, void *arg, const struct sandboxd_reply *reply, int fd);

struct sandboxd_client_options {
	struct loop *loop;
	struct str socket, cluster;
	uint64_t node;
	/* Connected and listed: `list` is what runs. */
	void (*listed)(void *context, const struct sandboxd_sandbox *list, uint32_t n);
	void (*lost)(void *context);
	void (*exited)(void *context, const struct sandboxd_exited *event);
	void (*network)(void *context, const struct sandboxd_network *event); /* or NULL */
	void (*able)(void *context,
		     const struct sandboxd_able *able); /* or NULL; after each connect, and changes */
	void *context;
};

struct sandboxd_client *sandboxd_client_new(const struct sandboxd_client_options *options);
void sandboxd_client_close(struct sandboxd_client *c);
/* `body`: struct of sandboxd_body_codec[type]. fd >= 0 is passed along and stays the caller's. The reply may come inside
 * this call only as a refusal (-ENOTCONN, -EMSGSIZE). deadline_ms on loop_now's scale, 0 = none: -ETIMEDOUT then. */
void sandboxd_client_call(struct sandboxd_client *c, uint8_t type, const void *body, int fd,
			  uint64_t deadline_ms, sandboxd_replied *replied, void *arg);
/* Lists again, if it is connected: `listed` is called once more. */
void sandboxd_client_list(struct sandboxd_client *c);
bool sandboxd_client_ready(const struct sandboxd_client *c);

#endif
