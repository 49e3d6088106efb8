/* fetch.h -- one HTTP GET at a time, blocking: for helper processes that may block.
 *
 * Happy path: fetch_get connects, checks the certificate, streams the body of a 2xx answer into the sink and returns the status
 * and the headers that callers asked for. Redirects are not followed: the caller sees the 3xx with its location and
 * decides. Bodies of other answers are dropped, at most 64 KiB of them read; heads may have 64 KiB. Nothing is retried, but a caller may
 * ask for the rest of a body. A server that sends less than FETCH_RATE_MIN for stall_ms is given up. Proxies of the environment are not used.
 *
 * A client keeps its connections; it belongs to one thread. */
#ifndef FETCH_FETCH_H
#define FETCH_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/err.h"
#include "core/str.h"

struct fetch_client;

struct fetch_options {
	struct str ca_pem; /* trusted instead of the system's certificates, if not empty; borrowed */
	uint32_t connect_ms, stall_ms; /* stall: time without a byte after the connection stands */
	const char *user_agent;
	/* May say no to an address that a host's name led to (-EPERM then); NULL allows all. */
	bool (*address_allowed)(void *context, const struct sockaddr *address);
	void *context;
};

int fetch_client_new(const struct fetch_options *options, struct fetch_client **ret, struct err *err);
void fetch_client_free(struct fetch_client *c);

#define FETCH_HEADER_MAX 4096
#define FETCH_RATE_MIN   1024 /* bytes a second */

struct fetch_request {
	const char *url;                 /* http or https */
	const char *const *headers;      /* "Name: value", ending with NULL; may be NULL */
	const char *username, *password; /* Basic, if username is not NULL */
	uint64_t bytes_max;              /* of the body of a 2xx answer; more is -E2BIG */
	uint64_t
		from; /* bytes that the sink has already: the rest is asked for, and a server that sends all is heard in full */
	/* Gets the body of a 2xx answer in pieces; a negative code ends the request with it. */
	int (*sink)(void *context, const void *p, size_t n);
	void *context;
};

struct fetch_response {
	long status;
	char content_type[256];
	char location[FETCH_HEADER_MAX];     /* of a 3xx, made absolute */
	char authenticate[FETCH_HEADER_MAX]; /* the Bearer challenge of WWW-Authenticate, else the last one */
	char digest[128];                    /* Docker-Content-Digest */
};

/* 0 whenever an HTTP answer came, whatever its status. -EHOSTUNREACH: no such host or no connection; -ETIMEDOUT; -EKEYREJECTED: TLS;
 * -EPERM: address_allowed said no; -E2BIG; -EPROTO: not HTTP, cut off; or the sink's code. Messages name the host. */
int fetch_get(struct fetch_client *c, const struct fetch_request *request, struct fetch_response *ret,
	      struct err *err);

/* "host[:port]" of an http(s) URL, lower-case; -EINVAL if it is not one, or carries user information. */
int fetch_url_host(const char *url, bool *ret_tls, char *ret_host, size_t size, struct err *err);

/* Percent-encodes everything but unreserved characters, appended to `to` of `size` bytes. -ENAMETOOLONG. */
int fetch_escape(struct str s, char *to, size_t size);

#endif
