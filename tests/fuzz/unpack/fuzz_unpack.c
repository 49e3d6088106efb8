/* One layer, packed or not, unpacked as berth-unpack does, in a chroot on a tmpfs of its own in a mount namespace of its own.
 * Without root only the names of the entries are tried. The tree must stay within the totals; a canary beside it must
 * stay as it is, which a way out of the tree would change. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/must.h"
#include "image_unpack/layer.h"
#include "image_unpack/user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int outside = -1, blobs = -1;
static bool chrooted;

/* The fuzzer itself keeps working in the old root through the descriptors that it has; its own files (corpus, crashes)
 * need the old root, so the root is changed for each run and changed back. */
static void prepare(void)
{
	if (blobs >= 0)
		return;
	blobs = memfd_create("layer", MFD_CLOEXEC);
	must(blobs >= 0);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", "/mnt", "tmpfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, "size=64m,mode=700") < 0)
		return;
	outside = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(outside >= 0 && mkdir("/mnt/root", 0755) == 0);
	chrooted = true;
}

static void unpack(size_t size)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct layer_totals totals = {.bytes_max = 1u << 20, .entries_max = 500, .depth_max = 64};
	struct image_layer layer = {.bytes = size};
	struct image_unpack_result result = {0};
	struct tree *tree = tree_new();
	struct names all = {.kind = NAMES_OPAQUE, .parent = ".", .base = "x"};
	struct err err = {0};

	must(tree != NULL && chroot("/mnt/root") == 0 && chdir("/") == 0);
	(void)layer_unpack(blobs, &layer, tree, &totals, &err);
	must(totals.bytes <= totals.bytes_max);
	(void)user_resolve(STR("web:extra"), &arena, &result, &err);
	/* All of it goes again, by the code that opaque whiteouts use. */
	tree_next_layer(tree);
	must(tree_opaque(tree, &all, &err) == 0);
	tree_free(tree);
	must(fchdir(outside) == 0 && chroot(".") == 0);
	must(rmdir("/mnt/root") == 0); /* empty, and nothing appeared beside it: */
	must(rmdir("/mnt/beside") < 0 && errno == ENOENT && mkdir("/mnt/root", 0755) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct names names;
	char path[4096];

	prepare();
	if (size < sizeof path) {
		memcpy(path, data, size);
		path[size] = '\0';
		(void)names_parse(path, &names, NULL);
		(void)names_link_target(path, (char[NAMES_PATH_MAX + 2]){0}, NULL);
	}
	if (!chrooted || size == 0)
		return 0;
	must(ftruncate(blobs, 0) == 0 && pwrite(blobs, data, size, 0) == (ssize_t)size);
	unpack(size);
	return 0;
}
