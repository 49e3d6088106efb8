#include "image/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"

static bool is_listed(const struct str *list, uint32_t n, struct str digest)
{
	for (uint32_t i = 0; i < n; i++) {
		if (str_eq(list[i], digest))
			return true;
	}
	return false;
}

int kept_list(struct image_store *s, struct arena *arena, struct str **ret, uint32_t *ret_n)
{
	struct str *list = arena_array(arena, IMAGE_CACHED_MAX, sizeof *list);
	uint32_t n = 0;

	if (list == NULL)
		return -ENOMEM;
	pthread_mutex_lock(&s->mutex);
	for (const struct image_entry *e = s->entries; e != NULL; e = e->next) {
		for (uint32_t i = 0; i < e->n_layers && n < IMAGE_CACHED_MAX; i++) {
			if (!is_listed(list, n, e->layers[i].digest))
				list[n++] = arena_str(arena, e->layers[i].digest);
		}
	}
	pthread_mutex_unlock(&s->mutex);
	*ret = list;
	*ret_n = n;
	return 0;
}

/* All bytes of a range, copied by the kernel. */
static int copy(int from, uint64_t at, uint64_t n, int to, uint64_t to_at)
{
	off_t in = (off_t)at, out = (off_t)to_at;

	while (n > 0) {
		ssize_t done = copy_file_range(from, &in, to, &out, n, 0);

		if (done <= 0)
			return done < 0 ? -errno : -ESTALE;
		n -= (uint64_t)done;
	}
	return 0;
}

/* Links the layer of some image that has it. */
static int link_one(struct image_store *s, const struct image_layer *layer, const char *to)
{
	char path[PATH_MAX], name[2 * IMAGE_DIGEST_SIZE];
	int r = -ESTALE;

	snprintf(name, sizeof name, "layers/%.*s", STR_ARGS(layer->digest));
	pthread_mutex_lock(&s->mutex);
	for (struct image_entry *e = s->entries; e != NULL && r < 0; e = e->next) {
		for (uint32_t i = 0; i < e->n_layers && r < 0; i++) {
			if (str_eq(e->layers[i].digest, layer->digest) &&
			    e->layers[i].bytes == layer->bytes &&
			    store_path(s, "images", e->digest + 7, name, path, NULL) == 0 &&
			    link(path, to) == 0)
				r = 0;
		}
	}
	pthread_mutex_unlock(&s->mutex);
	return r;
}

static bool name_layer(const struct image_layer *layer, const char *dir, char path[PATH_MAX])
{
	char digest[IMAGE_DIGEST_SIZE];

	snprintf(digest, sizeof digest, "sha256:%.*s", STR_ARGS(layer->digest));
	return layer->digest.n == IMAGE_DIGEST_SIZE - 8 && image_digest_valid(str_of(digest)) &&
	       snprintf(path, PATH_MAX, "%s/%s", dir, digest + 7) < PATH_MAX;
}

int kept_take(struct image_store *s, const char *dir, int blobs, struct image_layer *layers, uint32_t n,
	      struct err *err)
{
	char path[PATH_MAX];

	for (uint32_t i = 0; i < n; i++) {
		struct stat to, from;
		int r = 0;

		if (!layers[i].cached)
			continue;
		if (!name_layer(&layers[i], dir, path))
			return err_set(err, -EBADMSG, "berth-fetch: its result is malformed");
		if (access(path, F_OK) < 0)
			r = link_one(s, &layers[i], path);
		CLEANUP_FD int fd = r < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);

		if (r == 0 && (fd < 0 || fstat(fd, &from) < 0 || fstat(blobs, &to) < 0))
			r = -errno;
		if (r == 0 && (uint64_t)from.st_size != layers[i].bytes)
			r = -ESTALE;
		if (r == 0)
			r = copy(fd, 0, layers[i].bytes, blobs, (uint64_t)to.st_size);
		if (r < 0)
			return err_system(err, r, "take layer %u from the store", i + 1);
		layers[i].offset = (uint64_t)to.st_size;
	}
	return 0;
}

int kept_add(const char *dir, int blobs, const struct image_layer *layers, uint32_t n, struct err *err)
{
	char path[PATH_MAX];

	for (uint32_t i = 0; i < n; i++) {
		if (layers[i].cached || layers[i].digest.n == 0)
			continue;
		if (!name_layer(&layers[i], dir, path))
			return err_set(err, -EBADMSG, "berth-fetch: its result is malformed");
		CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		int r = fd < 0 ? -errno : copy(blobs, layers[i].offset, layers[i].bytes, fd, 0);

		if (r < 0 && r != -EEXIST)
			return err_system(err, r, "keep layer %u", i + 1);
	}
	return 0;
}
