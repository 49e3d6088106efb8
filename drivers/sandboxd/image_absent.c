#include <errno.h>

#include "image/image.h"

int image_store_open(const struct image_options *options, struct image_store **ret, struct err *err)
{
	(void)options;
	(void)err;
	*ret = NULL;
	return 0;
}

static int absent(struct err *err)
{
	return err_set(err, -ENOTSUP, "this build has no image store");
}

int image_resolve(struct image_store *s, struct str reference, const struct image_credentials *credentials,
                  char ret_digest[IMAGE_DIGEST_SIZE], struct err *err)
{
	(void)s;
	(void)reference;
	(void)credentials;
	(void)ret_digest;
	return absent(err);
}

int image_pull(struct image_store *s, struct str reference, struct str digest,
               const struct image_credentials *credentials, image_progress *progress, void *context,
               char ret_digest[IMAGE_DIGEST_SIZE], struct err *err)
{
	(void)s;
	(void)reference;
	(void)digest;
	(void)credentials;
	(void)progress;
	(void)context;
	(void)ret_digest;
	return absent(err);
}

int image_import(struct image_store *s, int fd, struct str name, char ret_digest[IMAGE_DIGEST_SIZE], struct err *err)
{
	(void)s;
	(void)fd;
	(void)name;
	(void)ret_digest;
	return absent(err);
}

int image_acquire(struct image_store *s, struct str digest, const struct image **ret, struct err *err)
{
	(void)s;
	(void)digest;
	(void)ret;
	return absent(err);
}

void image_release(struct image_store *s, const struct image *image)
{
	(void)s;
	(void)image;
}

int image_list(struct image_store *s, struct arena *arena, struct image_state **ret, size_t *ret_n)
{
	(void)s;
	(void)arena;
	(void)ret;
	(void)ret_n;
	return -ENOTSUP;
}

int image_forget(struct image_store *s, struct str digest, struct err *err)
{
	(void)s;
	(void)digest;
	return absent(err);
}
