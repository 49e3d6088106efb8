/* What hostile code in a sandbox can do: escape-check tries, in a real one, as its root and as a plain user. docs/sandbox.md holds
 * its table: after a change of that run this with BERTH_UPDATE_DOCS=1. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fd.h"
#include "documents_page/page.h"
#include "drivers_world/world.h"

#define ATTEMPTS_MIN 250

static struct world world;
static struct world_start s;
static char text[262144];

/* What the attempts look for on the host: there for this process, and not for a sandbox. */
static struct {
	char marker[200], abstract[64];
	int file, socket, service, memory, port;
	char env[4][256];
} host = {.file = -1, .socket = -1, .service = -1};

static void open_host(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof to;
	struct err err = {0};

	snprintf(host.marker, sizeof host.marker, "%s/marker", world.dir);
	assert_int_equal(fd_write_file(host.marker, 0644, "host", 4, &err), 0);
	snprintf(host.abstract, sizeof host.abstract, "berth-escape-%d", (int)getpid());
	n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			(size_t)snprintf(name.sun_path + 1, 64, "%s", host.abstract));
	host.socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(host.socket, (void *)&name, n), 0);
	assert_int_equal(listen(host.socket, 8), 0);
	host.service = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	n = sizeof to;
	assert_int_equal(bind(host.service, (void *)&to, sizeof to), 0);
	assert_int_equal(listen(host.service, 8), 0);
	assert_int_equal(getsockname(host.service, (void *)&to, &n), 0);
	host.memory = shmget((key_t)getpid(), 4096, IPC_CREAT | 0666);
	assert_true(host.memory >= 0);
	snprintf(host.env[0], sizeof *host.env, "BERTH_MARKER=%s", host.marker);
	snprintf(host.env[1], sizeof *host.env, "BERTH_ABSTRACT=%s", host.abstract);
	snprintf(host.env[2], sizeof *host.env, "BERTH_PORT=%u", ntohs(to.sin_port));
	snprintf(host.env[3], sizeof *host.env, "BERTH_SHM=%d", (int)getpid());
}

static int open_world(void **state)
{
	CLEANUP_BUF struct buf program = {0};
	char path[256];
	struct err err = {0};

	(void)state;
	if (world_open(&world, WORLD_LXC) < 0 || fd_read_file(ESCAPE_CHECK, 64u << 20, &program, &err) < 0)
		return -1;
	snprintf(path, sizeof path, "%s/bin/escape-check", world.root);
	if (fd_write_file(path, 0755, program.p, program.n, &err) < 0)
		return -1;
	open_host();
	return 0;
}

static int close_world(void **state)
{
	(void)state;
	fd_close(&host.socket);
	fd_close(&host.service);
	shmctl(host.memory, IPC_RMID, NULL);
	return world_close(&world);
}

/* Every line that says WRONG, for the message of a failure. */
static void wrong_lines(char *ret, size_t size)
{
	size_t n = 0;

	*ret = '\0';
	for (char *line = text, *next; (next = strchr(line, '\n')) != NULL; line = next + 1) {
		*next = '\0';
		if (strstr(line, "| WRONG") != NULL && n + strlen(line) + 2 < size)
			n += (size_t)snprintf(ret + n, size - n, "%s\n", line);
	}
}

static void try_all(const char *user)
{
	static const char *const argv[] = {"escape-check", NULL};
	struct driver_instance *i = NULL;
	char wrong[16384];
	struct driver_exit e;
	struct err err = {0};
	unsigned tried = 0;

	world_program(&world, &s, argv);
	for (size_t k = 0; k < 4; k++)
		s.env[k] = str_of(host.env[k]);
	s.how.n_env = 4;
	s.how.user = str_of(user);
	if (world.driver->ops->start(world.driver, &s.how, &i, &err) < 0)
		fail_msg("%s", err.message);
	assert_true(world_wait(&world, i, &e));
	assert_true(world_log_has(&world, i, " F tried ", text, sizeof text));
	sscanf(strstr(text, " F tried "), " F tried %u", &tried);
	wrong_lines(wrong, sizeof wrong);
	assert_int_equal(world.driver->ops->stop(world.driver, i, 0, &err), 0);
	world.driver->ops->release(world.driver, i);
	if (*wrong != '\0')
		fail_msg("%s", wrong);
	assert_true(tried >= ATTEMPTS_MIN);
	assert_int_equal(e.how, SANDBOX_EXIT_CODE);
	assert_int_equal(e.value, 0);
}

static void root_of_a_sandbox_is_held(void **state)
{
	(void)state;
	try_all("");
}

static void a_plain_user_is_held(void **state)
{
	(void)state;
	try_all("web");
}

/* Runs it on the host; its output is in `text`. */
static int run_here(const char *option, const char *value)
{
	char *const argv[] = {(char[]){"escape-check"}, (char *)(uintptr_t)option, (char *)(uintptr_t)value,
			      NULL};
	char *const env[] = {host.env[0], host.env[1], host.env[2], host.env[3], NULL};
	size_t n = 0;
	ssize_t got;
	int out[2], status;

	assert_int_equal(pipe(out), 0);
	pid_t child = fork();

	if (child == 0) {
		dup2(out[1], 1);
		if (chdir("/") == 0)
			execve(ESCAPE_CHECK, argv, env);
		_exit(99);
	}
	close(out[1]);
	while ((got = read(out[0], text + n, sizeof text - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	close(out[0]);
	waitpid(child, &status, 0);
	return status;
}

/* The same program sees that a thing works where it does: on the host, with attempts that do no harm there. */
static void on_the_host_attempts_succeed(void **state)
{
	static const char *const harmless[] = {"clone, a user namespace",
					       "unshare, a network namespace",
					       "a service on the host's loopback",
					       "a socket of the host by its abstract name",
					       "the host's shared memory (System V)",
					       "AF_PACKET",
					       "a raw socket, ICMP",
					       "AF_NETLINK, netfilter",
					       "/proc/self/cwd/../../../../../..",
					       "/proc/sys/vm/drop_caches",
					       "/proc/sys/kernel/core_pattern",
					       "mknod, fuse (char 10:229)",
					       "personality ADDR_NO_RANDOMIZE",
					       "a signal to process 2 of the host"};

	(void)state;
	for (size_t k = 0; k < sizeof harmless / sizeof *harmless; k++) {
		int status = run_here("--only", harmless[k]);

		if (strstr(text, "| allowed | WRONG") == NULL || WEXITSTATUS(status) != 1)
			fail_msg("%s: %s", harmless[k], text);
	}
}

/* -- The page ------------------------------------------------------------------------------------------------------ */

static void the_page_is_current(void **state)
{
	CLEANUP_BUF struct buf table = {0};

	(void)state;
	assert_int_equal(run_here("--list", NULL), 0);
	buf_printf(&table, "%s\n", text);
	page_check(PAGE, "attempts", buf_str(&table), "escape-check lists");
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
	const struct CMUnitTest cases[] = {
		T(root_of_a_sandbox_is_held),
		T(a_plain_user_is_held),
		T(on_the_host_attempts_succeed),
	};
	const struct CMUnitTest page[] = {cmocka_unit_test(the_page_is_current)};
	const char *lacks = world_lacks_lxc();

	if (cmocka_run_group_tests_name("page", page, NULL, NULL) != 0)
		return 1;
	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED: %s\n", lacks);
		return 77;
	}
	return cmocka_run_group_tests_name("escape", cases, NULL, NULL);
}
