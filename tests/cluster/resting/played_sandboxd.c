/* played_sandboxd.c -- sandboxd, for the tests of clusters whose machines are played: the scripted driver stands for both isolations, and
 * everything else is as in drivers/sandboxd/main.c. usage: sandboxd --config=FILE, copied to that name. */
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "sandboxd/jobs/image_source.h"
#include "sandboxd/server.h"
#include "scripted/scripted_driver.h"

static int open_driver(const struct settings *s, enum isolation isolation, struct str cluster, uint64_t node,
		       struct egress *egress, struct driver **ret, struct err *err)
{
	(void)s;
	(void)isolation;
	(void)cluster;
	(void)node;
	(void)egress;
	return scripted_driver_new(ret, err);
}

static int run(const char *config, struct err *err)
{
	struct settings *settings = calloc(1, sizeof *settings);
	struct server_options o = {.settings = settings, .open_driver = open_driver};
	struct server *server = NULL;
	static char bin_dir[SETTINGS_PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", bin_dir, sizeof bin_dir - 1);
	int r = settings == NULL || n <= 0 ? -ENOMEM : settings_load(config, settings, err);

	if (r < 0)
		return r;
	*strrchr(bin_dir, '/') = '\0';
	o.peer_uid = getpwnam(settings->user)->pw_uid;
	if ((mkdir(settings->state_dir, 0711) != 0 && errno != EEXIST) ||
	    chmod(settings->state_dir, 0711) != 0)
		return err_system(err, -errno, "mkdir %s", settings->state_dir);
	r = image_source_open(settings, bin_dir, &o.store, err);
	if (r == 0)
		r = server_new(&o, &server, err);
	return r == 0 ? server_run(server, err) : r;
}

int main(int argc, char **argv)
{
	static const char option[] = "--config=";
	struct err err = {0};
	sigset_t set;

	log_init("sandboxd", LOG_INFO);
	if (argc != 2 || strncmp(argv[1], option, sizeof option - 1) != 0)
		return 2;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	umask(022);
	if (run(argv[1] + sizeof option - 1, &err) < 0) {
		log_error("%s", err.message);
		return 1;
	}
	_exit(0);
}
