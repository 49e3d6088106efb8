/* berth-unpack: puts an image's layers into a directory on behalf of sandboxd.
 *
 * It starts as root in namespaces without a network, makes the directory its root, becomes an unprivileged user that may write any
 * owner's files below it, and only then reads. It unpacks all layers, looks the image's user up, writes one result, ends. */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image_child/lockdown.h"
#include "image_child/talk.h"
#include "image_unpack/layer.h"
#include "image_unpack/user.h"

static int unpack(const struct image_unpack_request *q, struct arena *arena, struct image_unpack_result *ret,
		  struct err *err)
{
	struct layer_totals totals = {
		.bytes_max = q->bytes_max, .entries_max = q->entries_max, .depth_max = q->depth_max};
	struct tree *tree = tree_new();
	int r = tree == NULL ? err_set(err, -ENOMEM, "no memory") : 0;

	for (uint32_t i = 0; r == 0 && i < q->n_layers; i++) {
		r = layer_unpack(IMAGE_FD_BLOBS, &q->layers[i], tree, &totals, err);
		if (r < 0)
			err_wrap(err, "layer %u", i + 1);
	}
	tree_free(tree);
	if (r < 0)
		return r;
	ret->bytes = totals.bytes;
	ret->entries = totals.entries;
	ret->skipped = totals.skipped;
	return user_resolve(q->user, arena, ret, err);
}

/* A name that libarchive cannot convert is refused; UTF-8 passes as it is. */
static void set_locale(void)
{
	if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
		setlocale(LC_CTYPE, "C.utf8");
}

static int serve(char **argv, struct arena *arena, struct image_unpack_result *ret, struct err *err)
{
	struct image_unpack_request q = {0};
	unsigned long uid = strtoul(argv[1], NULL, 10), gid = strtoul(argv[2], NULL, 10);
	int r;

	if (uid == 0 || gid == 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return err_set(err, -EINVAL, "uid and gid must be numbers above 0");
	set_locale();
	umask(0);
	r = lockdown_unpack(IMAGE_FD_SOURCE, (uint32_t)uid, (uint32_t)gid, UINT64_MAX, err);
	if (r == 0)
		r = talk_request(&image_unpack_request_codec, arena, &q, err);
	return r < 0 ? r : unpack(&q, arena, ret, err);
}

int main(int argc, char **argv)
{
	CLEANUP_ARENA struct arena arena = {.max = 64u << 20};
	struct image_unpack_result result = {0};
	struct err err = {0};

	if (argc != 3) {
		fprintf(stderr, "usage: berth-unpack UID GID, started by sandboxd\n");
		return 2;
	}
	int r = serve(argv, &arena, &result, &err);

	if (r < 0)
		result = (struct image_unpack_result){.code = r, .message = str_of(err.message)};
	return talk_result(&image_unpack_result_codec, &result) < 0 ? 1 : 0;
}
