#include "image/names.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "crypto/digest.h"

static int path_of(const struct image_store *s, struct str name, char path[PATH_MAX], struct err *err)
{
	uint8_t hash[SHA256_BYTES];
	char hex[2 * SHA256_BYTES + 1];

	crypto_sha256(name, hash);
	crypto_hex(hash, sizeof hash, hex);
	return store_path(s, "names", hex, NULL, path, err);
}

static void load_one(struct image_store *s, const char *name)
{
	CLEANUP_BUF struct buf text = {0};
	char path[PATH_MAX];
	struct image_entry *e;

	if (store_path(s, "names", name, NULL, path, NULL) < 0 ||
	    fd_read_file(path, IMAGE_DIGEST_SIZE, &text, NULL) < 0)
		return;
	e = store_find(s, buf_str(&text));
	if (e != NULL)
		e->named = true;
	else
		(void)unlink(path);
}

int names_load(struct image_store *s, struct err *err)
{
	char path[PATH_MAX];
	struct dirent *d;
	int r = store_path(s, "names", NULL, NULL, path, err);
	DIR *names = r < 0 ? NULL : opendir(path);

	if (names == NULL)
		return r < 0 || errno == ENOENT ? r : err_system(err, -errno, "open %s", path);
	pthread_mutex_lock(&s->mutex);
	for (struct image_entry *e = s->entries; e != NULL; e = e->next)
		e->named = false;
	while ((d = readdir(names)) != NULL) {
		if (d->d_name[0] != '.')
			load_one(s, d->d_name);
	}
	pthread_mutex_unlock(&s->mutex);
	closedir(names);
	return 0;
}

int names_set(struct image_store *s, struct str name, const char *digest, struct err *err)
{
	char path[PATH_MAX];
	int r = store_path(s, "names", NULL, NULL, path, err);

	if (r < 0)
		return r;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_system(err, -errno, "make %s", path);
	r = path_of(s, name, path, err);
	if (r == 0)
		r = fd_write_file(path, 0600, digest, strlen(digest), err);
	return r < 0 ? r : names_load(s, err); /* what the name stood for before may have no other */
}

int names_get(struct image_store *s, struct str name, char ret_digest[IMAGE_DIGEST_SIZE])
{
	CLEANUP_BUF struct buf text = {0};
	char path[PATH_MAX];
	const struct image *image;

	if (path_of(s, name, path, NULL) < 0 || fd_read_file(path, IMAGE_DIGEST_SIZE, &text, NULL) < 0 ||
	    image_acquire(s, buf_str(&text), &image, NULL) < 0)
		return -ENOENT;
	strcpy(ret_digest, image->digest);
	image_release(s, image);
	return 0;
}
