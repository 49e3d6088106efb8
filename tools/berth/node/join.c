/* join.c -- `node token|join|remove|purge`: how machines become nodes, and cease to be.
 *
 * A token says "berth1.<secret>.<pin>.<host:port>,...": the pin is of the CA's key. So the CA is asked for first, over a connection
 * that proves nothing, and believed if it has that key; then everything else goes over connections that a voter of that CA answers. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "cluster/cluster.h"
#include "core/clock.h"
#include "core/fd.h"
#include "crypto/digest.h"
#include "crypto/pin.h"
#include "json/build.h"
#include "output.h"

#define DIR_DEFAULT   "/var/lib/berth"
#define TOKEN_MAX     1024
#define FEATURE_LEVEL 1 /* of the cluster's commands that this version knows */
#define POLL_US       300000
#define TRIES         5

static void say(void *context, const char *line)
{
	(void)context;
	fprintf(stderr, "%s\n", line);
}

static int fail(const struct err *err)
{
	fprintf(stderr, "berth: %s\n", err->message);
	return EXIT_FAILED;
}

/* -- Tokens ----------------------------------------------------------------------------------------------------- */

int node_token(const struct args *args)
{
	json_t *body = json_new_object();
	struct response response = {0};
	struct client c;
	int r = client_init(&c, args, CLIENT_ANY);

	json_put_cstr(body, "role", args_or(args, "role", NULL, "voter"));
	if (args_get(args, "ttl") != NULL)
		json_put_i64(body, "ttlSeconds", strtoll(args_get(args, "ttl"), NULL, 10));
	if (r == EXIT_OK)
		r = client_call(&c, "POST", "/.berth/v1/joinTokens", body, &response);
	if (r == EXIT_OK)
		r = output_token(args, response.json);
	response_done(&response);
	json_decref(body);
	return r;
}

struct token {
	char text[TOKEN_MAX];
	struct str secret, pin, addresses;
};

static int read_token(const struct args *args, struct token *ret)
{
	const char *given = args_or(args, "token", "BERTH_JOIN_TOKEN", NULL);
	CLEANUP_BUF struct buf file = BUF_MAX(TOKEN_MAX);
	struct str text, version;
	struct err err = {0};

	if (given == NULL)
		return fprintf(stderr, "berth: node join --token TOKEN --host ADDRESS\n"), EXIT_USAGE;
	if (strcmp(given, "-") == 0)
		given = "@/dev/stdin";
	if (given[0] == '@' && fd_read_file(given + 1, TOKEN_MAX, &file, &err) < 0)
		return fail(&err);
	text = str_trim(given[0] == '@' ? buf_str(&file) : str_of(given));
	if (str_copy(text, ret->text, sizeof ret->text) < 0)
		return fprintf(stderr, "berth: --token: longer than a token is\n"), EXIT_USAGE;
	text = str_of(ret->text);
	str_cut(text, '.', &version, &text);
	str_cut(text, '.', &ret->secret, &text);
	str_cut(text, '.', &ret->pin, &ret->addresses);
	if (!str_eq(version, STR("berth1")) || ret->secret.n != 32 || ret->pin.n != PIN_TEXT_SIZE - 1 ||
	    ret->addresses.n == 0)
		return fprintf(stderr, "berth: --token: this is no join token, or not the whole of it\n"),
		       EXIT_USAGE;
	return EXIT_OK;
}

/* -- Joining ---------------------------------------------------------------------------------------------------- */

static void aim(struct client *c, struct str address)
{
	c->n_places = 1;
	c->once = true;
	snprintf(c->places[0].url, sizeof c->places[0].url, "https://%s", PIN_VOTER_NAME);
	c->places[0].socket[0] = '\0';
	snprintf(c->places[0].really, sizeof c->places[0].really, "%.*s", STR_ARGS(address));
}

/* The CA that the token pins, of whoever answers there. */
static int find_ca(const struct args *args, const struct token *token, struct str address, struct buf *to)
{
	struct client c = {.args = args, .unverified = true};
	struct response response = {0};
	struct err err = {0};

	aim(&c, address);
	int r = client_call(&c, "GET", "/.berth/v1/ca", NULL, &response);

	if (r == EXIT_OK && pin_find(buf_str(&response.body), token->pin, to, &err) < 0) {
		fprintf(stderr,
			"berth: %.*s is not of the cluster that minted the token, or somebody is in between: "
			"%s\n",
			STR_ARGS(address), err.message);
		r = EXIT_REFUSED;
	}
	response_done(&response);
	return r;
}

static void put_addresses(const struct joining *j, json_t *body)
{
	static const char *const names[] = {"raftAddress", "controlAddress", "forwardAddress"};
	char text[80], url[96];

	for (unsigned i = 0; i < 3; i++) {
		joining_address(j, i, text, sizeof text);
		json_put_cstr(body, names[i], text);
	}
	joining_address(j, 4, text, sizeof text);
	snprintf(url, sizeof url, "https://%s", text);
	json_put_cstr(body, "apiAddress", url);
}

static int ask(const struct args *args, const struct token *token, struct str address, struct str ca,
	       const struct joining *j, const char *name, struct response *ret)
{
	struct client c = {.args = args, .ca_pem = ca};
	json_t *body = json_new_object();

	aim(&c, address);
	json_put_str(body, "token", token->secret);
	json_put_str(body, "csr", joining_csr(j, false));
	json_put_str(body, "clientsCsr", joining_csr(j, true));
	json_put_cstr(body, "name", name);
	put_addresses(j, body);
	json_put_cstr(body, "version", BERTH_VERSION);
	json_put_u64(body, "featureLevel", FEATURE_LEVEL);
	json_put_u64(body, "clockMs", clock_wall_ms());
	int r = client_call(&c, "POST", "/.berth/v1/join", body, ret);

	json_decref(body);
	return r;
}

/* One voter after the other, until one answers; the same requests get the same node. */
static int ask_around(const struct args *args, const struct token *token, const struct joining *j,
		      const char *name, struct response *ret)
{
	int r = EXIT_UNAVAILABLE;

	for (unsigned i = 0; i < TRIES && r == EXIT_UNAVAILABLE; i++) {
		struct str address, left = token->addresses;

		if (i > 0)
			sleep(1);
		while (left.n > 0 && r == EXIT_UNAVAILABLE) {
			CLEANUP_BUF struct buf ca = {0};

			str_cut(left, ',', &address, &left);
			r = find_ca(args, token, address, &ca);
			if (r == EXIT_OK)
				r = ask(args, token, address, buf_str(&ca), j, name, ret);
		}
	}
	return r;
}

static const char *text_of(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));

	return text != NULL ? text : "";
}

static struct str str_of_json(const json_t *json, const char *name)
{
	return json_str_of(json_object_get(json, name));
}

/* Voters that a worker may ask. */
static void add_members(const json_t *json, struct buf *to)
{
	const json_t *list = json_object_get(json, "members"), *m;
	size_t i;

	json_array_foreach(list, i, m) buf_printf(to, "member = %" PRIu64 " %s %s %s %s\n",
						  (uint64_t)json_integer_value(json_object_get(m, "id")),
						  text_of(m, "name"), text_of(m, "raftAddress"),
						  text_of(m, "controlAddress"), text_of(m, "forwardAddress"));
}

static int write_node(struct joining *j, const json_t *json, struct err *err)
{
	CLEANUP_BUF struct buf members = {0};
	struct joined a = {.id = (uint64_t)json_integer_value(json_object_get(json, "id")),
			   .incarnation = (uint64_t)json_integer_value(json_object_get(json, "incarnation")),
			   .worker = strcmp(text_of(json, "role"), "worker") == 0,
			   .cluster = text_of(json, "cluster"),
			   .tenant = text_of(json, "tenant"),
			   .audience = text_of(json, "audience"),
			   .domain = text_of(json, "domain"),
			   .environment = text_of(json, "environment"),
			   .region = text_of(json, "region"),
			   .certificate = str_of_json(json, "certificate"),
			   .clients_certificate = str_of_json(json, "clientsCertificate"),
			   .ca = str_of_json(json, "ca"),
			   .keyring = str_of_json(json, "keyring")};

	/* A voter learns of the others from the log. */
	if (a.worker)
		add_members(json, &members);
	a.members = buf_str(&members);
	if (a.id == 0 || a.certificate.n == 0 || a.ca.n == 0 || (a.keyring.n == 0) != a.worker)
		return err_set(err, -EPROTO, "the cluster's answer lacks what a node needs");
	return joining_write(j, &a, err);
}

static int read_plan(const struct args *args, struct buf *extra, char *host_name, struct join_plan *ret)
{
	const char *const *lines;
	size_t n = args_all(args, "set", &lines);

	for (size_t i = 0; i < n; i++) {
		const char *value = strchr(lines[i], '=');

		if (value == NULL || strpbrk(lines[i], "\r\n") != NULL)
			return fprintf(stderr, "berth: --set: '%s' is not NAME=VALUE\n", lines[i]),
			       EXIT_USAGE;
		buf_printf(extra, "%.*s = %s\n", (int)(value - lines[i]), lines[i], value + 1);
	}
	if (args_get(args, "host") == NULL)
		return fprintf(stderr,
			       "berth: --host ADDRESS is needed: where the other nodes reach this machine\n"),
		       EXIT_USAGE;
	*ret = (struct join_plan){
		.dir = args_or(args, "dir", "BERTH_DIR", DIR_DEFAULT),
		.name = args_or(args, "name", NULL, host_name),
		.host = args_get(args, "host"),
		.base_port = (unsigned)strtoul(args_or(args, "base-port", NULL, "7400"), NULL, 10),
		.user = args_or(args, "user", NULL, "berth"),
		.admin_group = args_get(args, "admin-group"),
		.gateway_loops = (unsigned)strtoul(args_or(args, "gateway-loops", NULL, "1"), NULL, 10),
		.extra = n > 0 ? buf_cstr(extra) : NULL,
	};
	return EXIT_OK;
}

static void host_name_of(char *to, size_t size)
{
	if (gethostname(to, size) < 0)
		to[0] = '\0';
	to[size - 1] = '\0';
	to[strcspn(to, ".")] = '\0';
	for (char *x = to; *x != '\0'; x++)
		*x = (char)tolower((unsigned char)*x);
}

int node_join(const struct args *args)
{
	CLEANUP_BUF struct buf extra = {0};
	struct response response = {0};
	struct joining *j = NULL;
	struct join_plan plan;
	struct token token;
	struct err err = {0};
	char host[64];

	host_name_of(host, sizeof host);
	int r = read_token(args, &token);

	if (r == EXIT_OK)
		r = read_plan(args, &extra, host, &plan);
	if (r != EXIT_OK)
		return r;
	if (joining_new(&plan, &j, &err) < 0)
		return fail(&err);
	r = ask_around(args, &token, j, plan.name, &response);
	if (r == EXIT_OK && write_node(j, response.json, &err) < 0)
		r = fail(&err);
	if (r == EXIT_OK)
		fprintf(stderr,
			"%s is number %" PRIu64
			" of the cluster: %s/%s/berth.conf; start it with: berth cluster "
			"start --dir %s\n",
			plan.name, (uint64_t)json_integer_value(json_object_get(response.json, "id")),
			plan.dir, plan.name, plan.dir);
	if (response.body.p != NULL)
		crypto_wipe(response.body.p, response.body.n);
	crypto_wipe(&token, sizeof token);
	response_done(&response);
	joining_free(j);
	return r;
}

/* -- Leaving ---------------------------------------------------------------------------------------------------- */

static int wait_gone(struct client *c, const char *path, const char *name)
{
	uint64_t end = clock_boot_ms() + c->timeout_s * 1000ull;
	bool told = false;

	for (;;) {
		struct response response = {0};
		const json_t *node, *list;
		bool there = false;
		size_t i;
		int r = client_call(c, "GET", "/.berth/v1/nodes", NULL, &response);

		if (r == EXIT_OK) {
			list = json_object_get(response.json, "value");
			json_array_foreach(list, i, node) there |= strcmp(text_of(node, "name"), name) == 0;
		}
		response_done(&response);
		if (r == EXIT_OK && !there)
			return EXIT_OK;
		if (clock_boot_ms() > end) {
			fprintf(stderr, "berth: %s is still leaving\n", name);
			return EXIT_TIMEOUT;
		}
		if (!told && c->progress)
			fprintf(stderr, "%s is leaving: waiting until it is out of the log (%s)\n", name,
				path);
		told = true;
		usleep(POLL_US);
	}
}

int node_remove(const struct args *args)
{
	const char *name = args->rest != NULL ? args->rest : args_get(args, "name");
	CLEANUP_BUF struct buf path = {0};
	struct response response = {0};
	struct client c;

	if (name == NULL)
		return fprintf(stderr, "berth: node remove NODE\n"), EXIT_USAGE;
	int r = client_init(&c, args, CLIENT_ANY);

	if (r != EXIT_OK)
		return r;
	buf_printf(&path, "/.berth/v1/nodes/");
	client_escape(&path, name);
	if (args_has(args, "force"))
		buf_printf(&path, "?force=true");
	r = client_call(&c, "DELETE", buf_cstr(&path), NULL, &response);
	if (r == EXIT_OK && !args_has(args, "no-wait"))
		r = wait_gone(&c, buf_cstr(&path), text_of(response.json, "name"));
	if (r == EXIT_OK && !args_has(args, "no-wait"))
		fprintf(stderr,
			"%s is no part of the cluster any more; on its machine: berth node purge %s\n",
			text_of(response.json, "name"), text_of(response.json, "name"));
	response_done(&response);
	return r;
}

int node_purge(const struct args *args)
{
	const char *name = args->rest != NULL ? args->rest : args_get(args, "name");
	struct err err = {0};

	if (name == NULL)
		return fprintf(stderr, "berth: node purge NODE\n"), EXIT_USAGE;
	if (cluster_purge(args_or(args, "dir", "BERTH_DIR", DIR_DEFAULT), name, args_has(args, "force"), say,
			  NULL, &err) < 0)
		return fail(&err);
	return EXIT_OK;
}
