#include "fetch/fetch.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/must.h"

#define ERROR_BYTES_MAX 65536
#define HEADS_BYTES_MAX 65536 /* 1xx, the head and trailers together */

struct fetch_client {
	CURL *curl;
	struct fetch_options options;
	/* Of the request under way: */
	const struct fetch_request *request;
	struct fetch_response *response;
	uint64_t received; /* where in the body we are */
	uint64_t heads, range_from;
	bool began, cut;
	int failed; /* code that a callback ended the transfer with */
	char text[CURL_ERROR_SIZE];
};

static pthread_once_t global_once = PTHREAD_ONCE_INIT;

static void global_init(void)
{
	must(curl_global_init(CURL_GLOBAL_DEFAULT) == 0);
}

/* -- Callbacks ---------------------------------------------------------------------------------------------- */

/* The last n bytes of what was received; of them, those that the sink lacks. */
static int pass_on(struct fetch_client *c, const char *p, size_t n)
{
	const struct fetch_request *q = c->request;

	if (c->received > q->bytes_max)
		return -E2BIG;
	if (c->received <= q->from || q->sink == NULL)
		return 0;
	if (c->received - n < q->from) {
		size_t known = (size_t)(q->from - (c->received - n));

		p += known;
		n -= known;
	}
	return q->sink(q->context, p, n);
}

static size_t on_body(char *p, size_t size, size_t n, void *context)
{
	struct fetch_client *c = context;
	long status = 0;

	n *= size;
	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	bool good = status >= 200 && status < 300;

	if (!c->began && status == 206)
		c->received = c->range_from;
	if (!c->began && status == 206 && c->range_from != c->request->from) {
		c->failed = -ERANGE;
		return 0;
	}
	c->began = true;
	c->received += n;
	if (!good) {
		c->cut = c->received > ERROR_BYTES_MAX; /* the rest of a long error page says nothing new */
		return c->cut ? 0 : n;
	}
	c->failed = pass_on(c, p, n);
	return c->failed < 0 ? 0 : n;
}

static bool header_is(struct str line, const char *name, struct str *ret_value)
{
	struct str head, value;

	if (!str_cut(line, ':', &head, &value) || !str_eq_nocase(head, str_of(name)))
		return false;
	while (value.n > 0 && (value.p[0] == ' ' || value.p[0] == '\t'))
		value = str_slice(value, 1, value.n);
	while (value.n > 0 && isspace((unsigned char)value.p[value.n - 1]))
		value.n--;
	*ret_value = value;
	return true;
}

/* "bytes 5-9/10": 5 */
static uint64_t range_from(struct str value)
{
	struct str unit, rest, first, last;
	uint64_t n;

	return str_cut(value, ' ', &unit, &rest) && str_eq_nocase(unit, STR("bytes")) &&
			       str_cut(rest, '-', &first, &last) && str_u64(first, INT64_MAX, &n) == 0
		       ? n
		       : UINT64_MAX;
}

static size_t on_header(char *p, size_t size, size_t n, void *context)
{
	struct fetch_client *c = context;
	struct fetch_response *response = c->response;
	struct str value, line = {p, n * size};

	c->heads += line.n;
	if (c->heads > HEADS_BYTES_MAX) {
		c->failed = -EMSGSIZE;
		return 0;
	}
	if (str_starts(line, STR("HTTP/")))
		*response = (struct fetch_response){0}; /* a 1xx may have come before */
	if (header_is(line, "content-type", &value))
		(void)str_copy(value, response->content_type, sizeof response->content_type);
	else if (header_is(line, "docker-content-digest", &value))
		(void)str_copy(value, response->digest, sizeof response->digest);
	else if (header_is(line, "content-range", &value))
		c->range_from = range_from(value);
	else if (header_is(line, "www-authenticate", &value) &&
		 strncasecmp(response->authenticate, "bearer ", 7) != 0)
		(void)str_copy(value, response->authenticate, sizeof response->authenticate);
	return line.n;
}

static curl_socket_t on_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct fetch_client *c = context;

	(void)purpose;
	if (c->options.address_allowed != NULL &&
	    !c->options.address_allowed(c->options.context, &address->addr)) {
		c->failed = -EPERM;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* -- Client ------------------------------------------------------------------------------------------------- */

int fetch_client_new(const struct fetch_options *options, struct fetch_client **ret, struct err *err)
{
	pthread_once(&global_once, global_init);
	struct fetch_client *c = calloc(1, sizeof *c);
	CURL *curl = c == NULL ? NULL : curl_easy_init();

	if (curl == NULL) {
		free(c);
		return err_set(err, -ENOMEM, "no memory for an HTTP client");
	}
	*c = (struct fetch_client){.curl = curl, .options = *options};
	*ret = c;
	return 0;
}

void fetch_client_free(struct fetch_client *c)
{
	if (c == NULL)
		return;
	curl_easy_cleanup(c->curl);
	free(c);
}

static void prepare(struct fetch_client *c, struct curl_slist *headers)
{
	const struct fetch_request *q = c->request;
	CURL *h = c->curl;
	char range[32];

	curl_easy_reset(h);
	curl_easy_setopt(h, CURLOPT_URL, q->url);
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(h, CURLOPT_USERAGENT, c->options.user_agent);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)c->options.connect_ms);
	curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, (long)FETCH_RATE_MIN);
	curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, (long)((c->options.stall_ms + 999) / 1000));
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, c->text);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(h, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(h, CURLOPT_OPENSOCKETDATA, c);
	if (c->options.ca_pem.n > 0) {
		struct curl_blob blob = {(void *)(uintptr_t)c->options.ca_pem.p, c->options.ca_pem.n,
					 CURL_BLOB_NOCOPY};

		curl_easy_setopt(h, CURLOPT_CAINFO_BLOB, &blob);
	}
	if (q->from > 0) {
		snprintf(range, sizeof range, "%" PRIu64 "-", q->from);
		curl_easy_setopt(h, CURLOPT_RANGE, range); /* copied */
	}
	if (q->username != NULL) {
		curl_easy_setopt(h, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		curl_easy_setopt(h, CURLOPT_USERNAME, q->username);
		curl_easy_setopt(h, CURLOPT_PASSWORD, q->password);
	}
}

static int explain(struct fetch_client *c, CURLcode code, struct err *err)
{
	char host[300] = "the server";
	bool tls;
	const char *why = c->text[0] != '\0' ? c->text : curl_easy_strerror(code);
	double connected = 0;

	fetch_url_host(c->request->url, &tls, host, sizeof host, NULL);
	curl_easy_getinfo(c->curl,
			  str_starts(str_of(c->request->url), STR("https:")) ? CURLINFO_APPCONNECT_TIME
									     : CURLINFO_CONNECT_TIME,
			  &connected);
	if (c->failed == -EPERM)
		return err_set(err, -EPERM,
			       "%s: its address is not public, and the list of registries does not name it",
			       host);
	if (c->failed == -E2BIG)
		return err_set(err, -E2BIG, "%s sent more than the %llu bytes that are allowed", host,
			       (unsigned long long)c->request->bytes_max);
	if (c->failed == -EMSGSIZE)
		return err_set(err, -E2BIG, "%s sent headers of more than %d bytes", host, HEADS_BYTES_MAX);
	if (c->failed == -ERANGE)
		return err_set(err, -EPROTO, "%s sent another part of the body than it was asked for", host);
	if (c->failed != 0)
		return err_system(err, c->failed, "storing what %s sent", host);
	switch ((int)code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return err_set(err, -EHOSTUNREACH, "no such host: %s", host);
	case CURLE_COULDNT_CONNECT:
		return err_set(err, -EHOSTUNREACH, "cannot connect to %s: %s", host, why);
	case CURLE_OPERATION_TIMEDOUT:
		if (c->heads > 0)
			return err_set(err, -ETIMEDOUT, "%s sent less than %d bytes a second for %u s", host,
				       FETCH_RATE_MIN, c->options.stall_ms / 1000);
		return err_set(err, -ETIMEDOUT, "%s did not answer within %u s", host,
			       (connected > 0 ? c->options.stall_ms : c->options.connect_ms) / 1000);
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CIPHER:
		return err_set(err, -EKEYREJECTED, "TLS with %s failed: %s", host, why);
	default:
		return err_set(err, -EPROTO, "%s: %s", host, why);
	}
}

int fetch_get(struct fetch_client *c, const struct fetch_request *request, struct fetch_response *ret,
	      struct err *err)
{
	struct fetch_response response = {0};
	struct curl_slist *headers = NULL;
	char *location = NULL;
	CURLcode code;

	for (size_t i = 0; request->headers != NULL && request->headers[i] != NULL; i++) {
		struct curl_slist *more = curl_slist_append(headers, request->headers[i]);

		if (more == NULL) {
			curl_slist_free_all(headers);
			return err_set(err, -ENOMEM, "no memory for an HTTP request");
		}
		headers = more;
	}
	c->request = request;
	c->response = &response;
	c->received = c->heads = 0;
	c->range_from = 0;
	c->failed = 0;
	c->began = c->cut = false;
	c->text[0] = '\0';
	prepare(c, headers);
	code = curl_easy_perform(c->curl);
	curl_slist_free_all(headers);
	if (code != CURLE_OK && !c->cut)
		return explain(c, code, err);
	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &response.status);
	curl_easy_getinfo(c->curl, CURLINFO_REDIRECT_URL, &location);
	if (location != NULL && str_copy(str_of(location), response.location, sizeof response.location) < 0)
		return err_set(err, -EPROTO, "%s: its redirect is too long", request->url);
	*ret = response;
	return 0;
}

/* -- URLs --------------------------------------------------------------------------------------------------- */

int fetch_url_host(const char *url, bool *ret_tls, char *ret_host, size_t size, struct err *err)
{
	CURLU *u = curl_url();
	char *scheme = NULL, *user = NULL, *host = NULL, *port = NULL;
	int r = -EINVAL;

	if (u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK) {
		curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
		curl_url_get(u, CURLUPART_USER, &user, 0);
		curl_url_get(u, CURLUPART_HOST, &host, 0);
		curl_url_get(u, CURLUPART_PORT, &port, 0);
	}
	if (scheme != NULL && host != NULL && user == NULL &&
	    (strcmp(scheme, "https") == 0 || strcmp(scheme, "http") == 0) &&
	    snprintf(ret_host, size, "%s%s%s", host, port == NULL ? "" : ":", port == NULL ? "" : port) <
		    (int)size) {
		for (char *p = ret_host; *p != '\0'; p++)
			*p = (char)tolower((unsigned char)*p);
		*ret_tls = strcmp(scheme, "https") == 0;
		r = 0;
	}
	curl_free(scheme);
	curl_free(user);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return r == 0 ? 0 : err_set(err, r, "not an http or https address: %.200s", url);
}

int fetch_escape(struct str s, char *to, size_t size)
{
	size_t at = strlen(to);

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool plain = isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~';

		if (at + 4 > size)
			return -ENAMETOOLONG;
		at += (size_t)snprintf(to + at, size - at, plain ? "%c" : "%%%02X", c);
	}
	return 0;
}
