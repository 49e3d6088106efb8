#include "image_fetch/import.h"

#include <errno.h>
#include <stdio.h>

#include "crypto/sha256.h"
#include "image_fetch/config.h"
#include "image_fetch/layers.h"
#include "image_fetch/tarball.h"
#include "json/json.h"

static int sink_buf(void *context, const void *p, size_t n)
{
	buf_add(context, p, n);
	return buf_failed(context) ? -E2BIG : 0;
}

/* -- OCI layouts (image-spec v1, image-layout.md) --------------------------------------------------------------- */

/* index.json is read as what the import names: its entry for this platform, or its only one. */
static int layout_manifest(void *context, struct str digest, struct buf *ret, struct err *err)
{
	char name[128] = "index.json";

	if (digest.n > 0)
		snprintf(name, sizeof name, "blobs/sha256/%.*s", STR_ARGS(str_slice(digest, 7, digest.n)));
	return tarball_read(context, name, MANIFEST_BYTES_MAX, sink_buf, ret, err);
}

static int layout_blob(void *context, const struct descriptor *blob, walk_sink *sink, void *sink_context,
		       struct err *err)
{
	char name[128];

	snprintf(name, sizeof name, "blobs/sha256/%.*s",
		 STR_ARGS(str_slice(blob->digest, 7, blob->digest.n)));
	return tarball_read(context, name, blob->bytes, sink, sink_context, err);
}

static int import_layout(const struct tarball *t, const struct walk_bounds *bounds, struct arena *arena,
			 struct image_fetch_result *ret, struct err *err)
{
	const struct walk_source source = {
		.manifest = layout_manifest, .blob = layout_blob, .context = (void *)(uintptr_t)t};
	int r = walk_pull(&source, STR_NONE, bounds, arena, ret, err);

	/* index.json is no index that a registry knows: its digest means nothing elsewhere. */
	if (r == 0)
		ret->digest = ret->manifest;
	return r;
}

/* -- docker-archive ----------------------------------------------------------------------------------------- */

struct saved {
	json_t *layers;
	char config[512];
};

/* manifest.json: [{"Config": name, "RepoTags": [...], "Layers": [name, ...]}] */
static int read_saved(const json_t *doc, struct saved *ret, struct err *err)
{
	struct str config;

	if (!json_is_array(doc) || json_array_size(doc) != 1)
		return err_set(err, -EBADMSG, "manifest.json: must list exactly one image, not %zu",
			       json_array_size(doc));
	if (json_get_str(doc, JSON_REQUIRED, sizeof ret->config - 1, &config, err, "[0].Config") < 0 ||
	    json_get_array(doc, JSON_REQUIRED, IMAGE_LAYERS_MAX, &ret->layers, err, "[0].Layers") < 0) {
		err_wrap(err, "manifest.json");
		return -EBADMSG;
	}
	return str_copy(config, ret->config, sizeof ret->config) < 0 ? -EBADMSG : 0;
}

static int saved_config(const struct tarball *t, const struct saved *saved, struct arena *arena,
			struct image_fetch_result *ret, struct config_diffs *diffs, struct err *err)
{
	CLEANUP_BUF struct buf bytes = BUF_MAX(CONFIG_BYTES_MAX);
	struct sha256 *hash;
	char hex[SHA256_HEX_SIZE];
	int r = tarball_read(t, saved->config, CONFIG_BYTES_MAX, sink_buf, &bytes, err);

	if (r < 0)
		return r;
	hash = sha256_new();
	sha256_add(hash, bytes.p, bytes.n);
	sha256_end(hash, hex);
	ret->digest = ret->manifest = arena_printf(arena, "sha256:%s", hex);
	if (ret->digest.p == NULL)
		return err_set(err, -ENOMEM, "no memory");
	return config_parse(buf_str(&bytes), arena, &ret->config, diffs, err);
}

/* Nothing but the configuration vouches for these layers: unpack compares them with its diff_ids. */
static int saved_layers(const struct tarball *t, const struct saved *saved, const struct config_diffs *diffs,
			const struct walk_bounds *bounds, struct arena *arena, struct image_fetch_result *ret,
			struct err *err)
{
	uint64_t total = 0;

	if (diffs->n != json_array_size(saved->layers))
		return err_set(err, -EBADMSG, "manifest.json: has %zu layers, the configuration %u",
			       json_array_size(saved->layers), diffs->n);
	if (diffs->n > bounds->layers_max)
		return err_set(err, -E2BIG, "the image has %u layers, %u are allowed", diffs->n,
			       bounds->layers_max);
	ret->layers = arena_array(arena, diffs->n, sizeof *ret->layers);
	if (ret->layers == NULL)
		return err_set(err, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < diffs->n; i++) {
		uint64_t left = bounds->bytes_max - total;
		struct layer_sink layer = {
			.offset = total,
			.bytes_max = left < bounds->layer_bytes_max ? left : bounds->layer_bytes_max,
			.hash = sha256_new()};
		char name[512], hex[SHA256_HEX_SIZE];
		struct str text;
		int r = json_get_str(saved->layers, JSON_REQUIRED, sizeof name - 1, &text, err, "[%u]", i);

		if (r == 0)
			r = str_copy(text, name, sizeof name);
		if (r == 0)
			r = tarball_read(t, name, layer.bytes_max, layers_write, &layer, err);
		sha256_end(layer.hash, hex);
		if (r < 0)
			return r;
		ret->layers[i] =
			(struct image_layer){.offset = total, .bytes = layer.bytes, .diff_id = diffs->hex[i]};
		total += layer.bytes;
	}
	ret->n_layers = diffs->n;
	return 0;
}

static int import_saved(const struct tarball *t, struct str text, const struct walk_bounds *bounds,
			struct arena *arena, struct image_fetch_result *ret, struct err *err)
{
	json_auto_t *doc = NULL;
	struct saved saved;
	struct config_diffs diffs;
	int r = json_parse(text, &(struct json_bounds){.bytes_max = MANIFEST_BYTES_MAX, .depth_max = 16},
			   &doc, err);

	if (r < 0) {
		err_wrap(err, "manifest.json");
		return -EBADMSG;
	}
	r = read_saved(doc, &saved, err);
	if (r == 0)
		r = saved_config(t, &saved, arena, ret, &diffs, err);
	return r < 0 ? r : saved_layers(t, &saved, &diffs, bounds, arena, ret, err);
}

int import_image(int fd, const struct walk_bounds *bounds, struct arena *arena,
		 struct image_fetch_result *ret, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_MAX(MANIFEST_BYTES_MAX);
	struct tarball t;
	int r = tarball_open(fd, &t, err);

	if (r == 0)
		r = tarball_read(&t, "oci-layout", 4096, sink_buf, &text, err);
	if (r == 0)
		return import_layout(&t, bounds, arena, ret, err);
	if (r != -ENOENT || t.directory)
		return r == -ENOENT ? err_set(err, -EBADMSG,
					      "the directory is no OCI layout: it has no oci-layout file")
				    : r;
	buf_clear(&text);
	r = tarball_read(&t, "manifest.json", MANIFEST_BYTES_MAX, sink_buf, &text, err);
	if (r == -ENOENT)
		return err_set(err, -EBADMSG,
			       "the archive has neither an oci-layout nor a manifest.json: it is no image");
	return r < 0 ? r : import_saved(&t, buf_str(&text), bounds, arena, ret, err);
}
