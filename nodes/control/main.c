/* berthd -- a node of a Berth cluster: Raft, actors, the management API and the gateway, in one unprivileged process. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "control/control.h"

static const char usage[] =
	"usage: berthd --config=FILE          run the node until SIGTERM; SIGHUP reads certificates again\n"
	"       berthd --check-config FILE    check the file and print what is in force\n"
	"       berthd --config-reference     print every option with its default\n"
	"       berthd --version\n";

static int check(const char *path)
{
	CLEANUP_BUF struct buf text = {0};
	struct config config;
	struct err err = {0};

	if (config_load(path, &config, &err) < 0) {
		fprintf(stderr, "berthd: %s\n", err.message);
		return 1;
	}
	config_print(&config, &text);
	fputs(buf_cstr(&text), stdout);
	config_done(&config);
	return 0;
}

static int reference(void)
{
	CLEANUP_BUF struct buf text = {0};

	config_reference(&text);
	fputs(buf_cstr(&text), stdout);
	return 0;
}

/* Keys and secrets are in our memory: no core of it, no reading by others of our user; what we make is ours alone.
 * All the open files that we may have. */
static void keep_to_ourselves(void)
{
	struct rlimit files;

	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* shells and init systems begin with 1024 */
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
#ifndef __SANITIZE_ADDRESS__ /* its look for leaks reads our memory */
	prctl(PR_SET_DUMPABLE, 0);
#endif
	umask(0077);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	keep_to_ourselves();
	if (argc == 2 && strncmp(argv[1], "--config=", 9) == 0)
		return control_run(argv[1] + 9);
	if (argc == 3 && strcmp(argv[1], "--config") == 0)
		return control_run(argv[2]);
	if (argc == 3 && strcmp(argv[1], "--check-config") == 0)
		return check(argv[2]);
	if (argc == 2 && strcmp(argv[1], "--config-reference") == 0)
		return reference();
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("berthd " BERTH_VERSION);
		return 0;
	}
	fputs(usage, stderr);
	return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
}
