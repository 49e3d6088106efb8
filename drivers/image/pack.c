/* An image's disk: the root as one file, made by berth-pack when the first machine wants it.
 *
 * Happy path: made in work/, written to the disk, given to root with mode 0444, renamed to images/<hex>/disk. From then on it goes where
 * the image goes. One try at a time for an image; who comes meanwhile shares its end. A crash leaves the file in work/, which
 * the next open clears. When the disk of the store is full, what nothing uses goes and it is tried once more. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/map.h"
#include "image/disk.h"
#include "image/spawn.h"
#include "image/store.h"

#define PACK_MS 600000
#define SPARE   (16ull << 20)

static int run_pack(const struct image_store *s, const struct image_entry *e, int file, struct err *err)
{
	const struct image_options *o = &s->options;
	/* Uncompressed it is about what the root is. */
	struct image_pack_request q = {.bytes_max = e->disk_bytes + SPARE};
	CLEANUP_ARENA struct arena arena = {0};
	CLEANUP_FD int root = open(e->image.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (root < 0)
		return err_system(err, -errno, "open %s", e->image.root);
	r = spawn_run(&(struct spawn){.name = "berth-pack",
				      .program = o->pack_program,
				      .uid = o->uid,
				      .gid = o->gid,
				      .as_root = true,
				      .no_network = true,
				      .request_type = &image_pack_request_codec,
				      .request = &q,
				      .blobs = file,
				      .source = root,
				      .total_ms = PACK_MS},
		      &arena, NULL, err);
	/* mkfs.erofs runs without a locale: it says it in these words. */
	if (r == -EIO && err != NULL && strstr(err->message, strerror(ENOSPC)) != NULL)
		r = err_set(err, -ENOSPC, "the disk of the image store is full");
	return r;
}

/* *ret_bytes: that it takes. */
static int make_file(const struct image_store *s, const struct image_entry *e, const char *path,
		     uint64_t *ret_bytes, struct err *err)
{
	CLEANUP_FD int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;
	int r;

	if (file < 0 || fchown(file, s->options.uid, s->options.gid) < 0)
		return err_system(err, -errno, "make %s", path);
	r = run_pack(s, e, file, err);
	if (r < 0)
		return r;
	if (fchown(file, 0, 0) < 0 || fchmod(file, 0444) < 0 || fsync(file) < 0 || fstat(file, &st) < 0)
		return err_system(err, -errno, "write %s", path);
	if (st.st_size == 0)
		return err_set(err, -EIO, "berth-pack: made nothing");
	*ret_bytes = (uint64_t)st.st_blocks * 512;
	return 0;
}

static int publish(const struct image_store *s, const struct image_entry *e, const char *path,
		   struct err *err)
{
	char directory[PATH_MAX];

	if (rename(path, e->packed_path) < 0)
		return err_system(err, -errno, "publish %s", e->packed_path);
	int r = store_path(s, "images", e->digest + 7, NULL, directory, err);

	return r < 0 ? r : disk_sync_names(directory, err);
}

static int try_once(struct image_store *s, struct image_entry *e, uint64_t *ret_bytes, struct err *err)
{
	char path[PATH_MAX], name[32];
	int r;

	pthread_mutex_lock(&s->mutex);
	snprintf(name, sizeof name, "%" PRIu64, s->next_work++);
	r = sweep_make_room(s, e->disk_bytes, err);
	pthread_mutex_unlock(&s->mutex);
	if (r == 0)
		r = store_path(s, "work", name, NULL, path, err);
	if (r < 0)
		return r;
	r = make_file(s, e, path, ret_bytes, err);
	if (r == 0)
		r = publish(s, e, path, err);
	if (r < 0)
		(void)unlink(path);
	return r;
}

static int make(struct image_store *s, struct image_entry *e, uint64_t *ret_bytes, struct err *err)
{
	int r;

	if (s->options.pack_program == NULL)
		return err_set(err, -ENOTSUP, "this image store makes no disks");
	r = try_once(s, e, ret_bytes, err);
	image_clean(s);
	if (r == -ENOSPC && sweep_unused(s) > 0) {
		image_clean(s);
		r = try_once(s, e, ret_bytes, err);
	}
	return r;
}

int image_disk(struct image_store *s, const struct image *image, const char **ret_path, struct err *err)
{
	struct image_entry *e = container_of((struct image *)(uintptr_t)image, struct image_entry, image);
	int r = 0;

	pthread_mutex_lock(&s->mutex);
	if (e->packing) {
		uint64_t tries = e->pack_tries;

		while (e->packing && e->pack_tries == tries)
			pthread_cond_wait(&s->changed, &s->mutex);
		if (e->packed_bytes == 0)
			r = err_set(err, e->pack_err.code, "%s", e->pack_err.message);
	} else if (e->packed_bytes == 0) {
		struct err why = {0};
		uint64_t bytes = 0;

		e->packing = true;
		pthread_mutex_unlock(&s->mutex);
		r = make(s, e, &bytes, &why);
		pthread_mutex_lock(&s->mutex);
		e->packing = false;
		e->pack_tries++;
		e->packed_bytes = bytes;
		e->pack_err = why;
		if (r < 0)
			err_set(err, r, "%s", why.message);
		pthread_cond_broadcast(&s->changed);
	}
	if (r == 0)
		*ret_path = e->packed_path;
	pthread_mutex_unlock(&s->mutex);
	return r;
}
