#include "nft.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fd.h"

#define NFT        "/usr/sbin/nft"
#define ERRORS_MAX 4096

static int spawn(int in, int errors, pid_t *ret_pid)
{
	char *const argv[] = {(char[]){"nft"}, (char[]){"-f"}, (char[]){"-"}, NULL};
	char *const env[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none;
	int r;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, in, 0);
	posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&files, errors, 2);
	posix_spawn_file_actions_addclosefrom_np(&files, 3);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = posix_spawn(ret_pid, NFT, &files, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

int nft_apply(struct str batch, struct err *err)
{
	CLEANUP_FD int in = memfd_create("nft", MFD_CLOEXEC);
	CLEANUP_FD int errors = memfd_create("nft", MFD_CLOEXEC);
	CLEANUP_BUF struct buf said = BUF_MAX(ERRORS_MAX);
	pid_t pid = -1;
	int status = -1, r;

	if (in < 0 || errors < 0)
		return err_system(err, -errno, "nft");
	r = fd_write_all(in, batch.p, batch.n);
	if (r == 0 && lseek(in, 0, SEEK_SET) != 0)
		r = -errno;
	if (r == 0)
		r = spawn(in, errors, &pid);
	if (r < 0)
		return err_system(err, r, "run %s", NFT);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	(void)lseek(errors, 0, SEEK_SET);
	(void)fd_read_all(errors, &said);
	struct str line, rest;

	str_cut(buf_str(&said), '\n', &line, &rest);
	return err_set(err, -EIO, "nft refused the rules: %.*s", STR_ARGS(line));
}

bool nft_has_table(const char *table)
{
	char batch[64];

	snprintf(batch, sizeof batch, "list table %s\n", table);
	return nft_apply(str_of(batch), NULL) == 0;
}
