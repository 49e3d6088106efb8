/* The image store against a real registry, servers that misbehave, and children that fail.
 * Needs root, docker-registry, skopeo, umoci, busybox, openssl, htpasswd, curl and python3. */
#include "stage.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server.h"

/* -- A real registry ---------------------------------------------------------------------------------------- */

static void pulls_and_keeps(void **state)
{
	struct image_store *s = open_real("keeps");
	const struct image *image = NULL;
	struct err err = {0};
	char text[256], digest[IMAGE_DIGEST_SIZE], path[PATH_MAX];

	(void)state;
	expect(image_resolve(s, reference_to("test:v1", text), &good, digest, &err), 0, "", &err);
	assert_string_equal(digest, manifest_digest);
	expect(image_pull(s, str_of(text), str_of(digest), &good, NULL, NULL, digest, &err), 0, "", &err);
	assert_string_equal(digest, manifest_digest);
	expect(image_acquire(s, str_of(digest), &image, &err), 0, "", &err);
	check_tree(image);
	/* Nobody but root gets at the setuid file. */
	snprintf(path, sizeof path, "%s/usr/bin/elevate", image->root);
	assert_int_equal(shell("test -u %s", path), 0);
	assert_int_equal(shell("setpriv --reuid=%d --clear-groups --regid=%d test -e %s", UNPRIVILEGED,
			       UNPRIVILEGED, path),
			 1);
	assert_int_not_equal(shell("setpriv --reuid=%d --clear-groups --regid=%d %s true 2> /dev/null",
				   UNPRIVILEGED, UNPRIVILEGED, path),
			     0);
	expect(image_forget(s, str_of(digest), &err), -EBUSY, "used by 1", &err);
	image_release(s, image);
	image_store_close(s);

	/* What is there after a restart; leftovers go. */
	assert_int_equal(shell("mkdir -p %s/keeps/work/7/root/a %s/keeps/images/garbage", base, base), 0);
	s = open_real("keeps");
	expect(image_acquire(s, str_of(digest), &image, &err), 0, "", &err);
	check_tree(image);
	image_release(s, image);
	assert_int_equal(shell("test -z \"$(ls %s/keeps/work)\" -a ! -e %s/keeps/images/garbage", base, base),
			 0);
	expect(image_forget(s, str_of(digest), &err), 0, "", &err);
	expect(image_acquire(s, str_of(digest), &image, &err), -ENOENT, "not on this node", &err);
	assert_int_equal(shell("test -z \"$(ls %s/keeps/work %s/keeps/images | grep -v :)\"", base, base), 0);
	image_store_close(s);
}

static void index_and_docker_manifest(void **state)
{
	struct image_store *s = open_real("index");
	const struct image *image = NULL;
	struct err err = {0};
	char text[256], digest[IMAGE_DIGEST_SIZE];

	(void)state;
	expect(image_resolve(s, reference_to("test:index", text), &good, digest, &err), 0, "", &err);
	assert_string_equal(digest, index_digest);
	expect(image_pull(s, str_of(text), str_of(digest), &good, NULL, NULL, digest, &err), 0, "", &err);
	assert_string_equal(digest, manifest_digest);
	image_store_close(s);
	s = open_real("index");
	expect(image_acquire(s, str_of(index_digest), &image, &err), 0, "", &err);
	assert_string_equal(image->digest, manifest_digest);
	image_release(s, image);
	expect(image_pull(s, reference_to("test:docker", text), STR_NONE, &good, NULL, NULL, digest, &err), 0,
	       "", &err);
	assert_string_not_equal(digest, manifest_digest);
	expect(image_acquire(s, str_of(digest), &image, &err), 0, "", &err);
	check_tree(image);
	image_release(s, image);

	CLEANUP_ARENA struct arena arena = {0};
	struct image_state *list = NULL;
	size_t n = 0;

	assert_int_equal(image_list(s, &arena, &list, &n), 0);
	assert_int_equal(n, 3); /* two images, and the index as another name of one */
	assert_int_equal(list[0].users, 0);
	assert_true(str_eq(list[2].digest, str_of(index_digest)));
	assert_int_equal(list[2].bytes, 0);
	image_store_close(s);
}

static void says_what_is_wrong(void **state)
{
	struct image_store *s = open_real("wrong"),
			   *untrusting = open_store("untrusting", (struct hosts){.registries = host});
	struct image_store *strict = open_store("strict", (struct hosts){.ca = ca});
	struct str mine = STR("127.0.0.1:1");
	struct err err = {0};
	char text[256], digest[IMAGE_DIGEST_SIZE];

	(void)state;
	expect(image_resolve(s, reference_to("test:v1", text), &wrong, digest, &err), -EACCES, "refused",
	       &err);
	expect(image_resolve(s, str_of(text), NULL, digest, &err), -EACCES, "user name and a password", &err);
	expect(image_resolve(s, reference_to("test:nothing", text), &good, digest, &err), -ENOENT,
	       "does not know test:nothing", &err);
	expect(image_resolve(s, reference_to("none:v1", text), &good, digest, &err), -ENOENT,
	       "does not know none:v1", &err);
	expect(image_resolve(s, reference_to("Test:v1", text), &good, digest, &err), -EINVAL, "lower-case",
	       &err);
	expect(image_resolve(s, STR("other.example/test:v1"), &good, digest, &err), -EPERM, "not in the list",
	       &err);
	expect(image_resolve(untrusting, reference_to("test:v1", text), &good, digest, &err), -EKEYREJECTED,
	       "TLS with", &err);
	expect(image_resolve(strict, str_of(text), &good, digest, &err), -EPERM, "not public", &err);
	expect(image_pull(s, reference_to("spoiled:v1", text), STR_NONE, &good, NULL, NULL, digest, &err),
	       -EBADMSG, "has digest", &err);
	expect(image_pull(s, reference_to("test:v1", text), str_of(index_digest), &wrong, NULL, NULL, digest,
			  &err),
	       -EACCES, "refused", &err);
	image_store_close(s);
	image_store_close(untrusting);
	image_store_close(strict);
	s = open_store("nobody", (struct hosts){.registries = mine.p});
	expect(image_resolve(s, STR("127.0.0.1:1/x"), NULL, digest, &err), -EHOSTUNREACH, "cannot connect",
	       &err);
	image_store_close(s);
	s = open_store("nobody", (struct hosts){.registries = "no-such-host.invalid"});
	expect(image_resolve(s, STR("no-such-host.invalid/x"), NULL, digest, &err), -EHOSTUNREACH,
	       "no such host", &err);
	image_store_close(s);
}

struct puller {
	pthread_t thread;
	struct image_store *store;
	char reference[256];
	int code;
};

static void *pull_once(void *context)
{
	struct puller *p = context;

	p->code = image_pull(p->store, str_of(p->reference), str_of(manifest_digest), &good, NULL, NULL, NULL,
			     NULL);
	return NULL;
}

static void pull_in_parallel(struct image_store *s, const char *reference, int code)
{
	struct puller pullers[8];

	for (int i = 0; i < 8; i++) {
		pullers[i] = (struct puller){.store = s, .code = 1};
		snprintf(pullers[i].reference, sizeof pullers[i].reference, "%s", reference);
		assert_int_equal(pthread_create(&pullers[i].thread, NULL, pull_once, &pullers[i]), 0);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(pullers[i].thread, NULL);
		assert_int_equal(pullers[i].code, code);
	}
}

static void parallel_pulls(void **state)
{
	struct image_store *s = open_real("parallel");
	char text[256];

	(void)state;
	reference_to("test:v1", text);
	pull_in_parallel(s, text, 0);
	assert_int_equal(shell("test \"$(ls %s/parallel/images | wc -l)\" = 1", base), 0);
	assert_int_equal(shell("test -z \"$(ls %s/parallel/work)\"", base), 0);
	image_store_close(s);
}

/* -- Servers that misbehave ----------------------------------------------------------------------------------- */

static void stalled_registry(void **state)
{
	struct server *server = server_start(NULL);
	char name[64], text[128], digest[IMAGE_DIGEST_SIZE];
	struct err err = {0};

	(void)state;
	snprintf(name, sizeof name, "127.0.0.1:%d", server_port(server));
	snprintf(text, sizeof text, "%s/x:v1", name);
	struct image_store *s = open_store("stalled", (struct hosts){.insecure = name, .stall_ms = 2000});

	expect(image_resolve(s, str_of(text), NULL, digest, &err), -ETIMEDOUT, "did not answer within 2 s",
	       &err);
	image_store_close(s);
	/* Eight callers of one digest wait for one pull, and share how it ends. */
	s = open_store("stalled", (struct hosts){.insecure = name, .stall_ms = 8000});
	pull_in_parallel(s, text, -ETIMEDOUT);
	assert_int_equal(server_connections(server), 2);
	image_store_close(s);
	server_stop(server);
}

/* What berth-fetch may do while it talks to a registry: no user of ours, no capability, a filter, no gaining of rights. */
static void fetch_is_locked_down(void **state)
{
	struct server *server = server_start(NULL);
	struct puller p = {.code = 1};
	char name[64];

	(void)state;
	snprintf(name, sizeof name, "127.0.0.1:%d", server_port(server));
	snprintf(p.reference, sizeof p.reference, "%s/x:v1", name);
	p.store = open_store("locked-down", (struct hosts){.insecure = name, .stall_ms = 4000});
	assert_int_equal(pthread_create(&p.thread, NULL, pull_once, &p), 0);
	while (server_connections(server) == 0)
		usleep(10000);
	assert_int_equal(
		shell("s=/proc/$(pgrep -P %d -x berth-fetch)/status && grep -q '^Uid:.%d.%d.%d.%d$' $s && "
		      "grep -q '^CapPrm:.0*$' $s && grep -q '^CapEff:.0*$' $s && "
		      "grep -q '^NoNewPrivs:.1$' $s && grep -q '^Seccomp:.2$' $s",
		      getpid(), UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED),
		0);
	pthread_join(p.thread, NULL);
	assert_int_equal(p.code, -ETIMEDOUT);
	image_store_close(p.store);
	server_stop(server);
}

/* A child that cannot be started, dies, or is killed when the time is over: said so, and nothing is left. */
static void failing_children(void **state)
{
	static const struct {
		const char *fetch;
		int code;
		const char *says;
	} cases[] = {
		{"/bin/false", -EIO, "exit code 1"},
		{"/nonexistent", -ENOENT, "open /nonexistent"},
		{"/etc/passwd", -EIO, "cannot execute"},
		{FETCH_PROGRAM, -ETIMEDOUT, "berth-fetch did not finish within 1 s"},
	};
	struct server *server = server_start(NULL);
	char dir[128], name[64], text[128];
	struct err err = {0};

	(void)state;
	snprintf(dir, sizeof dir, "%s/failing", base);
	snprintf(name, sizeof name, "127.0.0.1:%d", server_port(server));
	snprintf(text, sizeof text, "%s/x:v1", name);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct str insecure = str_of(name);
		struct image_store *s = NULL;

		assert_int_equal(image_store_open(&(struct image_options){.dir = dir,
									  .fetch_program = cases[i].fetch,
									  .unpack_program = UNPACK_PROGRAM,
									  .uid = UNPRIVILEGED,
									  .gid = UNPRIVILEGED,
									  .insecure = &insecure,
									  .n_insecure = 1,
									  .total_ms = 1000},
						  &s, &err),
				 0);
		expect(image_pull(s, str_of(text), STR_NONE, NULL, NULL, NULL, NULL, &err), cases[i].code,
		       cases[i].says, &err);
		assert_int_equal(shell("test -z \"$(ls %s/work %s/images | grep -v :)\"", dir, dir), 0);
		image_store_close(s);
	}
	server_stop(server);
}

static void one_process_per_store(void **state)
{
	struct image_store *s = open_real("locked"), *other = NULL;
	struct err err = {0};
	char dir[128];

	(void)state;
	snprintf(dir, sizeof dir, "%s/locked", base);
	expect(image_store_open(&(struct image_options){.dir = dir,
							.fetch_program = FETCH_PROGRAM,
							.unpack_program = UNPACK_PROGRAM,
							.uid = UNPRIVILEGED,
							.gid = UNPRIVILEGED},
				&other, &err),
	       -EBUSY, "in use by another process", &err);
	image_store_close(s);
}

#define TOKEN_401(realm)                                                       \
	"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"" realm \
	"\",service=\"s\",scope=\"repository:x:pull\"\r\n"                     \
	"Content-Length: 0\r\nConnection: close\r\n\r\n"

static void credentials_go_nowhere_else(void **state)
{
	struct server *thief = server_start("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"token\":\"t\"}");
	char answer[512], name[64], thief_name[64], text[128], digest[IMAGE_DIGEST_SIZE];
	struct err err = {0};

	(void)state;
	snprintf(thief_name, sizeof thief_name, "127.0.0.1:%d", server_port(thief));
	snprintf(answer, sizeof answer, TOKEN_401("http://%s/token"), thief_name);
	struct server *server = server_start(answer);

	snprintf(name, sizeof name, "127.0.0.1:%d", server_port(server));
	snprintf(text, sizeof text, "%s/x:v1", name);
	struct image_store *s = open_store("thief", (struct hosts){.insecure = name});

	expect(image_resolve(s, str_of(text), &good, digest, &err), -EPERM, "accepted token hosts", &err);
	image_store_close(s);
	server_stop(server);
	/* A redirect to a host that is allowed: without the credentials. */
	snprintf(answer, sizeof answer,
		 "HTTP/1.1 307 Go\r\nLocation: http://%s/v2/\r\nContent-Length: 0\r\nConnection: "
		 "close\r\n\r\n",
		 thief_name);
	server = server_start(answer);
	snprintf(name, sizeof name, "127.0.0.1:%d", server_port(server));
	snprintf(text, sizeof text, "%s/x:v1", name);
	s = open_store("redirect", (struct hosts){.insecure = name});
	expect(image_resolve(s, str_of(text), &good, digest, &err), -EPERM, "redirects to", &err);
	assert_int_equal(server_saw(thief, "HTTP/1.1"), 0);
	image_store_close(s);
	server_stop(server);
	server_stop(thief);
}

static void bearer_tokens(void **state)
{
	struct server *tokens = server_start(
		"HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\n{\"token\":\"tok-1234\"}");
	char answer[512], name[64], token_name[64], text[128], digest[IMAGE_DIGEST_SIZE];
	struct err err = {0};

	(void)state;
	snprintf(token_name, sizeof token_name, "127.0.0.1:%d", server_port(tokens));
	snprintf(answer, sizeof answer, TOKEN_401("http://%s/token"), token_name);
	struct server *server = server_start(answer);
	struct str hosts[2];
	char dir[128];
	struct image_store *s = NULL;

	snprintf(name, sizeof name, "127.0.0.1:%d", server_port(server));
	snprintf(text, sizeof text, "%s/x:v1", name);
	snprintf(dir, sizeof dir, "%s/bearer", base);
	hosts[0] = str_of(name);
	hosts[1] = str_of(token_name);
	assert_int_equal(image_store_open(&(struct image_options){.dir = dir,
								  .fetch_program = FETCH_PROGRAM,
								  .unpack_program = UNPACK_PROGRAM,
								  .uid = UNPRIVILEGED,
								  .gid = UNPRIVILEGED,
								  .insecure = hosts,
								  .n_insecure = 2,
								  .token_hosts = hosts + 1,
								  .n_token_hosts = 1},
					  &s, &err),
			 0);
	/* The registry refuses for good; but it saw the token, and the token server the password. */
	expect(image_resolve(s, str_of(text), &good, digest, &err), -EACCES, "refused", &err);
	assert_int_equal(server_saw(server, "Authorization: Bearer tok-123"), 1);
	assert_int_equal(server_saw(server, "Authorization: Basic"), 0);
	assert_int_equal(server_saw(tokens, "Authorization: Basic YmVydGg6c2VjcmV0"), 1);
	assert_int_equal(server_saw(tokens, "scope=repository%3Ax%3Apull&service=s"), 1);
	image_store_close(s);
	server_stop(server);
	server_stop(tokens);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pulls_and_keeps),
		cmocka_unit_test(index_and_docker_manifest),
		cmocka_unit_test(says_what_is_wrong),
		cmocka_unit_test(parallel_pulls),
		cmocka_unit_test(stalled_registry),
		cmocka_unit_test(fetch_is_locked_down),
		cmocka_unit_test(failing_children),
		cmocka_unit_test(one_process_per_store),
		cmocka_unit_test(credentials_go_nowhere_else),
		cmocka_unit_test(bearer_tokens),
	};
	int missing = stage_missing();

	return missing != 0 ? missing : cmocka_run_group_tests(tests, set_up, tear_down);
}
