#include "image_fetch/walk.h"

#include <errno.h>

#include "crypto/sha256.h"
#include "image_fetch/config.h"
#include "image_fetch/layers.h"

#define INDEX_DEPTH_MAX 3

static struct str digest_of(struct str bytes, struct arena *arena)
{
	struct sha256 *hash = sha256_new();
	char hex[SHA256_HEX_SIZE];

	sha256_add(hash, bytes.p, bytes.n);
	sha256_end(hash, hex);
	return arena_printf(arena, "sha256:%s", hex);
}

static int mismatch(struct err *err, const char *what, struct str wanted, struct str got)
{
	return err_set(err, -EBADMSG, "the %s has digest %.*s, not %.*s", what, STR_ARGS(got),
		       STR_ARGS(wanted));
}

/* Bytes and true digest of a manifest; compared if one is wanted. */
static int get_manifest(const struct walk_source *source, struct str wanted, struct arena *arena,
			struct buf *bytes, struct str *ret_digest, struct err *err)
{
	int r = source->manifest(source->context, wanted, bytes, err);

	if (r < 0)
		return r;
	*ret_digest = digest_of(buf_str(bytes), arena);
	if (ret_digest->p == NULL)
		return err_set(err, -ENOMEM, "no memory");
	if (wanted.n > 0 && !str_eq(*ret_digest, wanted))
		return mismatch(err, "manifest", wanted, *ret_digest);
	return 0;
}

int walk_resolve(const struct walk_source *source, struct arena *arena, struct image_fetch_result *ret,
		 struct err *err)
{
	CLEANUP_BUF struct buf bytes = BUF_MAX(MANIFEST_BYTES_MAX);
	struct manifest m;
	struct str digest;
	int r = get_manifest(source, STR_NONE, arena, &bytes, &digest, err);

	/* Parsed too, so that what cannot be pulled later is refused now. */
	if (r == 0)
		r = manifest_parse(buf_str(&bytes), arena, &m, err);
	if (r == 0)
		ret->digest = digest;
	return r;
}

static int sink_buf(void *context, const void *p, size_t n)
{
	buf_add(context, p, n);
	return buf_failed(context) ? -E2BIG : 0;
}

static int get_config(const struct walk_source *source, const struct descriptor *d, struct arena *arena,
		      struct image_fetch_result *ret, struct config_diffs *diffs, struct err *err)
{
	CLEANUP_BUF struct buf bytes = BUF_MAX(CONFIG_BYTES_MAX);
	int r;

	if (d->bytes > CONFIG_BYTES_MAX)
		return err_set(err, -E2BIG, "the image's configuration has %llu bytes, %u are allowed",
			       (unsigned long long)d->bytes, CONFIG_BYTES_MAX);
	r = source->blob(source->context, d, sink_buf, &bytes, err);
	if (r < 0)
		return r;
	struct str digest = digest_of(buf_str(&bytes), arena);

	if (bytes.n != d->bytes)
		return err_set(err, -EBADMSG, "the image's configuration has %zu bytes, not %llu", bytes.n,
			       (unsigned long long)d->bytes);
	if (!str_eq(digest, d->digest))
		return mismatch(err, "image's configuration", d->digest, digest);
	return config_parse(buf_str(&bytes), arena, &ret->config, diffs, err);
}

int walk_pull(const struct walk_source *source, struct str digest, const struct walk_bounds *bounds,
	      struct arena *arena, struct image_fetch_result *ret, struct err *err)
{
	struct manifest m = {0};
	struct config_diffs diffs;
	int depth = 0, r;

	do {
		CLEANUP_BUF struct buf bytes = BUF_MAX(MANIFEST_BYTES_MAX);
		struct descriptor wanted = depth == 0 ? (struct descriptor){.digest = digest} : m.chosen;

		if (depth == INDEX_DEPTH_MAX)
			return err_set(err, -EBADMSG, "index: leads to more than %d indexes",
				       INDEX_DEPTH_MAX - 1);
		r = get_manifest(source, wanted.digest, arena, &bytes, &ret->manifest, err);
		if (r == 0 && depth > 0 && bytes.n != wanted.bytes)
			r = err_set(err, -EBADMSG, "the manifest has %zu bytes, the index says %llu", bytes.n,
				    (unsigned long long)wanted.bytes);
		if (r == 0)
			r = manifest_parse(buf_str(&bytes), arena, &m, err);
		if (r < 0)
			return r;
		if (depth++ == 0)
			ret->digest = ret->manifest;
	} while (m.index);
	r = get_config(source, &m.config, arena, ret, &diffs, err);
	if (r < 0)
		return r;
	if (diffs.n != m.n_layers)
		return err_set(err, -EBADMSG, "the manifest has %u layers, the configuration %u", m.n_layers,
			       diffs.n);
	return layers_get(source, &m, &diffs, bounds, arena, ret, err);
}
