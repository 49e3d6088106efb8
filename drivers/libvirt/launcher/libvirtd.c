#include "libvirtd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int libvirtd_uri(const char *dir, char *ret, size_t size, struct err *err)
{
	/* Characters that mean something in a URI are in no path that we make; an operator's state_dir might have them. */
	if (strlen(dir) > LIBVIRTD_DIR_MAX)
		return err_set(err, -ENAMETOOLONG, "%s: longer than %d bytes", dir, LIBVIRTD_DIR_MAX);
	if (strpbrk(dir, "?#&% ") != NULL)
		return err_set(err, -EINVAL, "%s: must not contain ?, #, &, %% or spaces", dir);
	snprintf(ret, size, "qemu+unix:///system?socket=%s/run/libvirt-sock", dir);
	return 0;
}

int libvirtd_begin(const char *dir, const char *bin_dir, struct err *err)
{
	char path[300], name[] = "berth-libvirtd", where[LIBVIRTD_DIR_MAX + 1];
	char *const argv[] = {name, where, NULL};
	char *const env[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, (char[]){"LC_ALL=C"}, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r, status = 0;
	pid_t pid;

	snprintf(path, sizeof path, "%s/berth-libvirtd", bin_dir);
	snprintf(where, sizeof where, "%s", dir);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&files, 0, 1);
	posix_spawn_file_actions_adddup2(&files, 0, 2);
	posix_spawn_file_actions_addclosefrom_np(&files, 3);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = posix_spawn(&pid, path, &files, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	if (r != 0)
		return err_system(err, -r, "run %s", path);
	/* It goes into the background once it has the lock, or has seen that another has. */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(err, -EIO, "berth-libvirtd %s could not begin", dir);
	return 0;
}
