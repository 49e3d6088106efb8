/* client.h -- HTTP to the cluster: several endpoints or admin sockets, tried in order; waits for operations.
 * Messages for people go to stderr, with control characters escaped. Single-threaded. */
#ifndef BERTH_CLIENT_H
#define BERTH_CLIENT_H

#include "command.h"
#include "core/buf.h"
#include "json/json.h"

#define CLIENT_PLACES_MAX 16
#define CLIENT_BODY_MAX   (256u << 20)

struct client_place {
	char url[512];    /* "https://host:port", or "http://localhost" for a socket */
	char socket[128]; /* "" for an endpoint */
	char really[128]; /* host:port that is connected to, whatever the URL says; "": the URL's */
};

struct client {
	const struct args *args;
	struct client_place places[CLIENT_PLACES_MAX];
	size_t n_places, first; /* the one that answered last */
	const char *token, *ca;
	struct str ca_pem; /* in place of `ca` */
	bool unverified;   /* for what needs no proof */
	bool once;         /* no second round: whoever calls tries again */
	unsigned timeout_s;
	bool progress;
};

struct response {
	int status;
	struct buf body;
	json_t *json; /* when the body is JSON, else NULL */
	char location[1024], operation[1024];
	unsigned retry_after_s;
};

enum client_need { CLIENT_ANY, CLIENT_LOCAL };

/* Exit codes. LOCAL: admin sockets only. */
int client_init(struct client *c, const struct args *args, enum client_need need);
/* EXIT_OK for a status below 400; else the error was printed. `body` may be NULL; `path` has the query. */
int client_call(struct client *c, const char *method, const char *path, const json_t *body,
		struct response *ret);
/* The same at one place only, without trying others. */
int client_call_at(struct client *c, size_t place, const char *method, const char *path, const json_t *body,
		   struct response *ret);
/* Writes the body of a GET to stdout as it comes. */
int client_stream(struct client *c, const char *path);
/* The same into a file, as it is. */
int client_download(struct client *c, const char *path, FILE *to);
/* Polls what a PUT, PATCH or DELETE was answered with until it ended; `what` for progress: "creating pool x". */
int client_wait(struct client *c, struct response *accepted, const char *what);
void response_done(struct response *r);

/* Appends a path segment or query value, percent-encoded. */
void client_escape(struct buf *to, const char *text);
/* "/subscriptions/S/resourceGroups/G/providers/Microsoft.App/sessionPools/NAME" of the options; EXIT_USAGE without --name. */
int client_pool_path(const struct args *args, const char *name, struct buf *ret);

#define API_VERSION "api-version=2025-02-02-preview"

#endif
