/* berth-pack: makes the file system of an image, in one file, on behalf of sandboxd.
 *
 * It starts as root in namespaces without a network, leaves itself only /usr, the image's root and the file, becomes an unprivileged
 * user that may read any owner's files, and then is mkfs.erofs. What that says goes to the result's descriptor as text; the exit
 * code says whether it is done. Not compressed: a guest reads such a disk two or three times as fast as one with LZ4, and the host
 * keeps it in memory once for all guests. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "image_child/lockdown.h"
#include "image_child/talk.h"
#include "image_pack/view.h"

#define MAKER "/usr/bin/mkfs.erofs"

static int prepare(char **argv, struct err *err)
{
	CLEANUP_ARENA struct arena arena = {.max = 1u << 20};
	struct image_pack_request q = {0};
	unsigned long uid = strtoul(argv[1], NULL, 10), gid = strtoul(argv[2], NULL, 10);
	int r;

	if (uid == 0 || gid == 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return err_set(err, -EINVAL, "uid and gid must be numbers above 0");
	r = talk_request(&image_pack_request_codec, &arena, &q, err);
	if (r == 0)
		r = view_enter(IMAGE_FD_SOURCE, IMAGE_FD_BLOBS, err);
	if (r < 0)
		return r;
	if (dup2(IMAGE_FD_RESULT, 1) < 0 || dup2(IMAGE_FD_RESULT, 2) < 0)
		return err_system(err, -errno, "dup2");
	/* Not a descriptor of the machine's own mounts stays. */
	if (close_range(3, ~0u, 0) < 0)
		return err_system(err, -errno, "close_range");
	return lockdown_pack((uint32_t)uid, (uint32_t)gid, q.bytes_max, err);
}

int main(int argc, char **argv)
{
	/* No extended attributes: the image's root has none of its own. Modification times stay: Python's caches go by them. */
	char *const maker[] = {"mkfs.erofs", "--quiet", "-x-1", "/disk", "/image", NULL};
	char *const environment[] = {NULL};
	struct err err = {0};

	if (argc != 3) {
		fprintf(stderr, "usage: berth-pack UID GID, started by sandboxd\n");
		return 2;
	}
	if (prepare(argv, &err) < 0) {
		dprintf(1, "%s\n", err.message);
		return 1;
	}
	execve(MAKER, maker, environment);
	dprintf(1, "%s: %s\n", MAKER,
		errno == ENOENT ? "install the package erofs-utils" : "cannot be executed");
	return 1;
}
