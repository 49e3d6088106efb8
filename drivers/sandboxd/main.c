/* main.c -- sandboxd: starts and stops the sandboxes of one node, as root, for berthd.
 * usage: sandboxd --config=FILE. Parses nothing that an image, a registry or a sandbox wrote; runs no program but berth-*
 * beside itself, and nft. */
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "sandboxd/jobs/image_source.h"
#include "libvirt_driver/libvirt_driver.h"
#include "lxc/lxc_driver.h"
#include "sandboxd/server.h"

static char bin_dir[SETTINGS_PATH_MAX];

static int open_driver(const struct settings *s, enum isolation isolation, struct str cluster, uint64_t node,
		       struct egress *egress, struct driver **ret, struct err *err)
{
	struct libvirt_driver_options vm = {.cluster = cluster,
					    .node = node,
					    .state_dir = s->state_dir,
					    .bin_dir = bin_dir,
					    .egress = egress,
					    .uri = s->libvirt_uri,
					    .kernel = s->vm_kernel,
					    .emulation = s->vm_emulation != 0,
					    /* Of the range that no sandbox has, beside the images' user. */
					    .canary_uid = s->uid_base + 65534};
	struct lxc_driver_options o = {.cluster = cluster,
				       .node = node,
				       .state_dir = s->state_dir,
				       .bin_dir = bin_dir,
				       .egress = egress};

	return isolation == ISOLATION_VM ? libvirt_driver_new(&vm, ret, err) : lxc_driver_new(&o, ret, err);
}

static int find_bin_dir(struct err *err)
{
	ssize_t n = readlink("/proc/self/exe", bin_dir, sizeof bin_dir - 1);
	char *slash;

	if (n <= 0 || n >= (ssize_t)sizeof bin_dir - 32)
		return err_set(err, -ENAMETOOLONG, "the path of this program is too long");
	bin_dir[n] = '\0';
	slash = strrchr(bin_dir, '/');
	*slash = '\0';
	return 0;
}

static int run(const char *config, struct err *err)
{
	struct settings *settings = calloc(1, sizeof *settings);
	struct server_options o = {.settings = settings, .open_driver = open_driver};
	struct server *server = NULL;
	struct passwd *user;
	int r = settings == NULL ? -ENOMEM : settings_load(config, settings, err);

	if (r == 0 && geteuid() != 0)
		r = err_set(err, -EPERM, "sandboxd has to run as root");
	if (r < 0)
		return r;
	log_init("sandboxd", (enum log_level)settings->log_level);
	user = getpwnam(settings->user);
	if (user == NULL)
		return err_set(err, -ENOENT, "%s: user: there is no user \"%s\" on this machine", config,
			       settings->user);
	o.peer_uid = user->pw_uid;
	if ((mkdir(settings->state_dir, 0711) != 0 && errno != EEXIST) ||
	    chmod(settings->state_dir, 0711) != 0)
		return err_system(err, -errno, "mkdir %s", settings->state_dir);
	r = find_bin_dir(err);
	if (r == 0)
		r = image_source_open(settings, bin_dir, &o.store, err);
	if (r == 0)
		r = server_new(&o, &server, err);
	return r == 0 ? server_run(server, err) : r;
}

/* Three for each sandbox, and shells and init systems begin with 1024. */
static void take_all_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

int main(int argc, char **argv)
{
	static const char option[] = "--config=";
	struct err err = {0};
	sigset_t set;

	log_init("sandboxd", LOG_INFO);
	if (argc != 2 || strncmp(argv[1], option, sizeof option - 1) != 0) {
		fprintf(stderr, "usage: sandboxd --config=FILE\n\nStarts and stops the sandboxes of the node "
				"that FILE "
				"describes, for berthd.\n");
		return 2;
	}
	/* Before any thread: they inherit it. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	(void)prctl(PR_SET_DUMPABLE, 0);
	(void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	take_all_files();
	umask(022);
	if (run(argv[1] + sizeof option - 1, &err) < 0) {
		log_error("%s", err.message);
		return 1;
	}
	log_info("ends; sandboxes go on");
	_exit(0); /* threads may be in the middle of a start or a stop: the next sandboxd finds what they left */
}
