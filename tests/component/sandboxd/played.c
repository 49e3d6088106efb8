#include "played.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"
#include "sandboxd/server.h"
#include "scripted/scripted_driver.h"

struct played played;

static pid_t server_pid;

/* Machines are possible when the file is there; until then it is not known. */
static int prove(struct driver *d, struct err *err)
{
	char path[256];

	(void)d;
	snprintf(path, sizeof path, "%s/proven", played.dir);
	for (int i = 0; i < 3000 && access(path, F_OK) != 0; i++)
		usleep(10000);
	return access(path, F_OK) == 0 ? 0 : err_set(err, -ENODEV, "no guest ever answered");
}

static int open_scripted(const struct settings *s, enum isolation isolation, struct str cluster,
			 uint64_t node, struct egress *egress, struct driver **ret, struct err *err)
{
	static struct driver_ops machine;
	int r = scripted_driver_new(ret, err);

	(void)s;
	(void)egress;
	(void)cluster;
	(void)node;
	if (r == 0 && isolation == ISOLATION_VM) {
		machine = *(*ret)->ops;
		machine.prove = prove;
		(*ret)->ops = &machine;
	}
	return r;
}

static void serve(uid_t peer)
{
	struct server_options o = {
		.settings = &played.settings, .peer_uid = peer, .open_driver = open_scripted};
	struct server *server;
	struct err err = {0};
	sigset_t set;

	log_init("sandboxd", LOG_ERROR);
	(void)setrlimit(RLIMIT_NOFILE, &(struct rlimit){8192, 8192});
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (server_new(&o, &server, &err) < 0 || server_run(server, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		_exit(1);
	}
	_exit(0);
}

int played_open(void **state)
{
	(void)state;
	settings_defaults(&played.settings);
	played.settings.uid_base = 100000;
	played.settings.uid_count = 65536 * 9; /* eight sandboxes */
	snprintf(played.dir, sizeof played.dir, "/tmp/berth-test.%d", (int)getpid());
	snprintf(played.settings.state_dir, sizeof played.settings.state_dir, "%s", played.dir);
	snprintf(played.settings.socket, sizeof played.settings.socket, "%s/socket", played.dir);
	if (mkdir(played.dir, 0700) != 0)
		return -1;
	server_pid = fork();
	if (server_pid == 0)
		serve(getuid());
	return client_connect(&played.client, played.settings.socket) < 0 ||
			       client_hello(&played.client, CLUSTER, 1) < 0
		       ? -1
		       : 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

int played_close(void **state)
{
	int status = 0;

	(void)state;
	client_close(&played.client);
	kill(server_pid, SIGTERM);
	waitpid(server_pid, &status, 0);
	nftw(played.dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return status == 0 ? 0 : -1;
}

void played_restart(void)
{
	client_close(&played.client);
	kill(server_pid, SIGTERM);
	waitpid(server_pid, NULL, 0);
	played.client = (struct client){0};
	server_pid = fork();
	if (server_pid == 0)
		serve(getuid());
	assert_int_equal(client_connect(&played.client, played.settings.socket), 0);
	assert_int_equal(client_hello(&played.client, CLUSTER, 1), 0);
}

struct sandboxd_start played_program(uint64_t sandbox, const char *first, const char *second)
{
	played.words[0] = str_of(first);
	played.words[1] = str_of(second);
	return (struct sandboxd_start){.sandbox = sandbox,
				       .pool = STR("p"),
				       .pool_uid = 5,
				       .revision = 2,
				       .command = played.words,
				       .n_command = second == NULL ? 1 : 2,
				       .cpu_milli = 500,
				       .memory_bytes = 64u << 20,
				       .target_port = 8080};
}

int played_start(uint64_t sandbox, const char *first, const char *second, struct sandboxd_reply *ret)
{
	struct sandboxd_start s = played_program(sandbox, first, second);

	return client_call(&played.client, SANDBOXD_START, &s, ret, NULL);
}

int played_stop(uint64_t sandbox, uint32_t grace_ms)
{
	struct sandboxd_stop s = {.sandbox = sandbox, .grace_ms = grace_ms};

	return client_call(&played.client, SANDBOXD_STOP, &s, NULL, NULL);
}

int played_dial(uint64_t sandbox, uint16_t port, int *ret_fd)
{
	struct sandboxd_dial d = {.sandbox = sandbox, .port = port, .timeout_ms = 2000};

	return client_call(&played.client, SANDBOXD_DIAL, &d, NULL, ret_fd);
}
