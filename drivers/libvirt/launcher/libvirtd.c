#include "libvirtd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/process.h"

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
	int r, status = 0;
	pid_t pid;

	snprintf(path, sizeof path, "%s/berth-libvirtd", bin_dir);
	snprintf(where, sizeof where, "%s", dir);
	r = process_spawn(path, argv, env, -1, NULL, 0, &pid);
	if (r < 0)
		return err_system(err, r, "run %s", path);
	/* It goes into the background once it has the lock, or has seen that another has. */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(err, -EIO, "berth-libvirtd %s could not begin", dir);
	return 0;
}
