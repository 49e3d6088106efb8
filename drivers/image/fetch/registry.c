#include "image_fetch/registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fetch/fetch.h"
#include "image_fetch/challenge.h"
#include "image_fetch/policy.h"
#include "image_fetch/reference.h"

#define URL_MAX       FETCH_HEADER_MAX
#define REDIRECTS_MAX 5
#define RESUMES_MAX   8
#define IDLE_MAX      3 /* attempts, one after the other, that brought nothing */
#define PAUSE_MS      250

static const char accept_manifests[] =
	"Accept: application/vnd.oci.image.index.v1+json, "
	"application/vnd.docker.distribution.manifest.list.v2+json, "
	"application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

enum registry_auth { AUTH_NONE, AUTH_BASIC, AUTH_BEARER };

struct registry {
	const struct image_fetch_request *q;
	struct reference ref;
	struct fetch_client *client;
	char name[256], host[256]; /* for messages; where the API is: Docker Hub's differs from its name */
	bool tls;
	bool host_named; /* the operator named the host now being talked to: private addresses are fine */
	enum registry_auth auth;
	char *username, *password;                    /* NULL: anonymous */
	char authorization[CHALLENGE_TOKEN_MAX + 32]; /* header, when AUTH_BEARER */
};

static bool address_allowed(void *context, const struct sockaddr *address)
{
	const struct registry *r = context;

	return r->host_named || policy_address_public(address);
}

static char *terminated(struct str s)
{
	return s.n == 0 ? NULL : strndup(s.p, s.n);
}

void registry_close(struct registry *r)
{
	if (r == NULL)
		return;
	fetch_client_free(r->client);
	if (r->password != NULL)
		explicit_bzero(r->password, strlen(r->password));
	free(r->username);
	free(r->password);
	free(r);
}

static int open_client(struct registry *r, struct err *err)
{
	const struct image_fetch_request *q = r->q;

	return fetch_client_new(&(struct fetch_options){.ca_pem = q->ca_pem,
							.connect_ms = q->connect_ms,
							.stall_ms = q->stall_ms,
							.user_agent = "berth/" BERTH_VERSION,
							.address_allowed = address_allowed,
							.context = r},
				&r->client, err);
}

/* Credentials are those of the image's own host. */
static void take_host(struct registry *r, const char *mirror)
{
	const struct image_fetch_request *q = r->q;
	const char *name = mirror != NULL ? mirror : r->ref.host;

	snprintf(r->name, sizeof r->name, "%s", name);
	snprintf(r->host, sizeof r->host, "%s",
		 strcmp(name, "docker.io") == 0 ? "registry-1.docker.io" : name);
	r->tls = !policy_insecure(q, name);
	if (mirror != NULL || q->username.n == 0)
		return;
	r->username = terminated(q->username);
	r->password = strndup(q->password.p == NULL ? "" : q->password.p, q->password.n);
}

int registry_open(const struct image_fetch_request *q, const char *mirror, struct registry **ret,
		  struct err *err)
{
	struct registry *r = calloc(1, sizeof *r);
	int code;

	if (r == NULL)
		return err_set(err, -ENOMEM, "no memory for a registry");
	r->q = q;
	code = reference_parse(q->reference, &r->ref, err);
	if (code == 0 && !policy_registry(q, r->ref.host))
		code = err_set(err, -EPERM, "registry %s is not in the list of allowed registries",
			       r->ref.host);
	if (code == 0) {
		take_host(r, mirror);
		code = open_client(r, err);
	}
	if (code < 0) {
		registry_close(r);
		return code;
	}
	*ret = r;
	return 0;
}

struct str registry_pinned(const struct registry *r)
{
	return str_of(r->ref.digest);
}

static int sink_buf(void *context, const void *p, size_t n)
{
	buf_add(context, p, n);
	return buf_failed(context) ? -E2BIG : 0;
}

/* -- Tokens ------------------------------------------------------------------------------------------------- */

static int token_url(const struct registry *r, const struct challenge *c, char url[URL_MAX], struct err *err)
{
	char fallback[512];

	snprintf(fallback, sizeof fallback, "repository:%s:pull", r->ref.repository);
	const char *scope = c->scope[0] == '\0' ? fallback : c->scope;
	int n = snprintf(url, URL_MAX, "%s%sscope=", c->realm, strchr(c->realm, '?') == NULL ? "?" : "&");
	int code = n >= URL_MAX ? -ENAMETOOLONG : fetch_escape(str_of(scope), url, URL_MAX);

	if (code == 0 && c->service[0] != '\0') {
		size_t at = strlen(url);

		snprintf(url + at, URL_MAX - at, "&service=");
		code = fetch_escape(str_of(c->service), url, URL_MAX);
	}
	return code < 0 ? err_set(err, -EPROTO, "the registry's token address is too long") : 0;
}

static int read_token(struct registry *r, struct str body, struct err *err)
{
	char token[CHALLENGE_TOKEN_MAX + 1];
	int code = challenge_token(body, token, err);

	if (code == 0)
		snprintf(r->authorization, sizeof r->authorization, "Authorization: Bearer %s", token);
	explicit_bzero(token, sizeof token);
	return code;
}

static int get_token(struct registry *r, const struct challenge *c, struct err *err)
{
	CLEANUP_BUF struct buf body = BUF_MAX(CHALLENGE_TOKEN_BYTES_MAX);
	char url[URL_MAX], host[300];
	struct fetch_response answer;
	bool tls;
	int code = fetch_url_host(c->realm, &tls, host, sizeof host, err);

	if (code == 0 && !policy_token(r->q, r->host, host, tls))
		code = err_set(err, -EPERM,
			       "%s wants credentials to be sent to %s%s, which is not among its accepted "
			       "token hosts",
			       r->name, tls ? "" : "http://", host);
	if (code == 0)
		code = token_url(r, c, url, err);
	if (code < 0)
		return code;
	r->host_named = policy_private(r->q, host);
	code = fetch_get(r->client,
			 &(struct fetch_request){.url = url,
						 .username = r->username,
						 .password = r->password,
						 .bytes_max = CHALLENGE_TOKEN_BYTES_MAX,
						 .sink = sink_buf,
						 .context = &body},
			 &answer, err);
	if (code < 0)
		return code;
	if (answer.status == 401 || answer.status == 403)
		return err_set(err, -EACCES, "%s refused the credentials (token server %s: %ld)", r->name,
			       host, answer.status);
	if (answer.status != 200)
		return err_set(err, -EPROTO, "token server %s answered %ld", host, answer.status);
	return read_token(r, buf_str(&body), err);
}

/* Prepares the next attempt after a 401; -EACCES if there is nothing to try. */
static int answer_challenge(struct registry *r, const struct fetch_response *refused, struct err *err)
{
	struct challenge c;
	int code;

	/* A token may have grown too old; a password does not. */
	if (r->auth == AUTH_BASIC || refused->authenticate[0] == '\0')
		return err_set(err, -EACCES, "%s refused the credentials", r->name);
	code = challenge_parse(str_of(refused->authenticate), &c, err);
	if (code < 0)
		return code;
	if (c.kind == CHALLENGE_BASIC) {
		if (r->username == NULL)
			return err_set(err, -EACCES, "%s wants a user name and a password", r->name);
		r->auth = AUTH_BASIC;
		return 0;
	}
	code = get_token(r, &c, err);
	if (code == 0)
		r->auth = AUTH_BEARER;
	return code;
}

/* -- Requests ----------------------------------------------------------------------------------------------- */

struct target {
	char url[URL_MAX];
	const char *accept;
	uint64_t bytes_max, from;
	walk_sink *sink;
	void *context;
};

/* One request and the redirects behind it. */
static int attempt(struct registry *r, const struct target *t, struct fetch_response *ret, struct err *err)
{
	char url[URL_MAX], host[300];
	bool tls, home = true;

	strcpy(url, t->url);
	for (int hop = 0; hop <= REDIRECTS_MAX; hop++) {
		const char *headers[3] = {t->accept, NULL, NULL};
		int code = fetch_url_host(url, &tls, host, sizeof host, err);

		if (code < 0)
			return code;
		if (hop > 0 && !policy_redirect(r->q, r->host, host, tls))
			return err_set(err, -EPERM, "%s redirects to %s%s, which is not allowed", r->name,
				       tls ? "" : "http://", host);
		/* Once away from the registry its credentials are not sent again, whatever comes back. */
		home = home && strcmp(host, r->host) == 0 && tls == r->tls;
		if (home && r->auth == AUTH_BEARER)
			headers[1] = r->authorization;
		r->host_named = policy_private(r->q, host);
		code = fetch_get(r->client,
				 &(struct fetch_request){
					 .url = url,
					 .headers = headers,
					 .username = home && r->auth == AUTH_BASIC ? r->username : NULL,
					 .password = r->password,
					 .bytes_max = t->bytes_max,
					 .from = t->from,
					 .sink = t->sink,
					 .context = t->context},
				 ret, err);
		if (code < 0)
			return code;
		if (ret->status < 300 || ret->status > 399 || ret->location[0] == '\0')
			return 0;
		strcpy(url, ret->location);
	}
	return err_set(err, -EPROTO, "%s redirects more than %d times", r->name, REDIRECTS_MAX);
}

static int status_error(const struct registry *r, long status, const char *what, struct err *err)
{
	if (status == 404)
		return err_set(err, -ENOENT, "%s does not know %s", r->name, what);
	if (status == 401 || status == 403)
		return err_set(err, -EACCES, "%s refused access to %s (%ld)%s", r->name, what, status,
			       r->username == NULL ? ": it may want credentials" : "");
	if (status == 429)
		return err_set(err, -EBUSY, "%s answered 429 for %s: its rate limit is reached", r->name,
			       what);
	if (status >= 500) /* it may get well again */
		return err_set(err, -EAGAIN, "%s answered %ld for %s", r->name, status, what);
	return err_set(err, -EPROTO, "%s answered %ld for %s", r->name, status, what);
}

static int get(struct registry *r, const struct target *t, const char *what, struct err *err)
{
	struct fetch_response answer = {0};

	for (int tries = 0;; tries++) {
		int code = attempt(r, t, &answer, err);

		if (code < 0)
			return code;
		if (answer.status == 200 || (answer.status == 206 && t->from > 0))
			return 0;
		if (answer.status != 401 || tries > 0)
			return status_error(r, answer.status, what, err);
		code = answer_challenge(r, &answer, err);
		if (code < 0)
			return code;
	}
}

static int get_manifest(void *context, struct str digest, struct buf *ret, struct err *err)
{
	struct registry *r = context;
	struct target t = {.accept = accept_manifests,
			   .bytes_max = MANIFEST_BYTES_MAX,
			   .sink = sink_buf,
			   .context = ret};
	char name[160], what[512];
	struct str chosen =
		digest.n > 0 ? digest : str_of(r->ref.digest[0] != '\0' ? r->ref.digest : r->ref.tag);
	bool by_tag = str_find(chosen, ':') == chosen.n;

	snprintf(name, sizeof name, "%.*s", STR_ARGS(chosen));
	snprintf(what, sizeof what, "%s%s%s", r->ref.repository, by_tag ? ":" : "@", name);
	snprintf(t.url, sizeof t.url, "http%s://%s/v2/%s/manifests/%s", r->tls ? "s" : "", r->host,
		 r->ref.repository, name);
	return get(r, &t, what, err);
}

/* -- Blobs -------------------------------------------------------------------------------------------------- */

struct delivery {
	walk_sink *sink;
	void *context;
	uint64_t bytes;
	int code; /* of a sink that wants no more */
};

static int deliver(void *context, const void *p, size_t n)
{
	struct delivery *d = context;

	d->code = d->sink(d->context, p, n);
	d->bytes += d->code < 0 ? 0 : n;
	return d->code;
}

/* The connection, or the server, gave up; 0 is a body that ended too early. */
static bool broke_off(int code)
{
	return code == 0 || code == -EPROTO || code == -ETIMEDOUT || code == -EHOSTUNREACH || code == -EAGAIN;
}

static int get_blob(void *context, const struct descriptor *blob, walk_sink *sink, void *sink_context,
		    struct err *err)
{
	struct registry *r = context;
	struct delivery d = {.sink = sink, .context = sink_context};
	struct target t = {.accept = "Accept: */*", .bytes_max = blob->bytes, .sink = deliver, .context = &d};
	char what[512];
	int idle = 0;

	snprintf(what, sizeof what, "%s's blob %.*s", r->ref.repository, STR_ARGS(blob->digest));
	snprintf(t.url, sizeof t.url, "http%s://%s/v2/%s/blobs/%.*s", r->tls ? "s" : "", r->host,
		 r->ref.repository, STR_ARGS(blob->digest));
	for (int resumes = 0;; resumes++) {
		t.from = d.bytes;
		int code = get(r, &t, what, err);

		if (d.code == 0 && d.bytes == blob->bytes)
			return code == -E2BIG ? code : 0; /* however it ended: the digest decides */
		idle = d.bytes == t.from ? idle + 1 : 0;
		if (d.code < 0 || d.bytes == 0 || !broke_off(code) || idle == IDLE_MAX ||
		    resumes == RESUMES_MAX)
			return code;
		if (idle > 0)
			nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000l}, NULL);
	}
}

static void end_fork(void *context)
{
	registry_close(context);
}

/* With what has been learned so far: a thread of its own needs connections of its own, but no other token. */
static int fork_registry(void *context, struct walk_source *ret, struct err *err)
{
	const struct registry *from = context;
	struct registry *r = malloc(sizeof *r);
	int code;

	if (r == NULL)
		return err_set(err, -ENOMEM, "no memory for a registry");
	*r = *from;
	r->client = NULL;
	r->username = from->username == NULL ? NULL : strdup(from->username);
	r->password = from->password == NULL ? NULL : strdup(from->password);
	code = open_client(r, err);
	if (code < 0) {
		registry_close(r);
		return code;
	}
	*ret = registry_source(r);
	return 0;
}

struct walk_source registry_source(struct registry *r)
{
	return (struct walk_source){.manifest = get_manifest,
				    .blob = get_blob,
				    .context = r,
				    .fork = fork_registry,
				    .end = end_fork};
}
