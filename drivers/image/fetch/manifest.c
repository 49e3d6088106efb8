#include "image_fetch/manifest.h"

#include <errno.h>

#include "json/json.h"

#define INDEX_ENTRIES_MAX 512

static const struct json_bounds bounds = {
	.bytes_max = MANIFEST_BYTES_MAX, .depth_max = 16, .values_max = 65536};

static int read_descriptor(const json_t *from, struct arena *arena, struct descriptor *ret, struct err *err)
{
	struct descriptor d = {0};
	struct str digest;

	if (json_get_str(from, JSON_REQUIRED, IMAGE_DIGEST_BYTES, &digest, err, "digest") < 0 ||
	    json_get_u64(from, JSON_REQUIRED, 0, INT64_MAX, &d.bytes, err, "size") < 0)
		return -EBADMSG;
	if (!image_digest_valid(digest))
		return err_set(err, -EBADMSG, "digest: must be sha256: and 64 hexadecimal digits");
	d.digest = arena_str(arena, digest);
	*ret = d;
	return d.digest.p == NULL ? err_set(err, -ENOMEM, "no memory") : 0;
}

static bool is_platform(const json_t *entry, bool *ret_named)
{
	struct str os = STR_NONE, architecture = STR_NONE;

	*ret_named = json_at(entry, "platform") != NULL;
	if (json_get_str(entry, JSON_REQUIRED, 64, &os, NULL, "platform.os") < 0 ||
	    json_get_str(entry, JSON_REQUIRED, 64, &architecture, NULL, "platform.architecture") < 0)
		return false;
	return str_eq(os, STR("linux")) && str_eq(architecture, STR(MANIFEST_ARCHITECTURE));
}

/* The first entry for this platform; an index of a single entry without a platform (as OCI layouts have) means that. */
static int choose(const json_t *entries, struct arena *arena, struct manifest *ret, struct err *err)
{
	json_t *entry;
	size_t i;
	bool named;

	json_array_foreach(entries, i, entry)
	{
		if (is_platform(entry, &named) || (!named && json_array_size(entries) == 1)) {
			int r = read_descriptor(entry, arena, &ret->chosen, err);

			return r < 0 ? err_wrap(err, "manifests[%zu]", i) : 0;
		}
	}
	return err_set(err, -ENOENT, "the image has no variant for linux/" MANIFEST_ARCHITECTURE);
}

static bool type_known(struct str type, const char *const *known, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (str_eq(type, str_of(known[i])))
			return true;
	}
	return false;
}

#define TYPE_KNOWN(type, list) type_known(type, list, sizeof(list) / sizeof *(list))

/* Layers are tars, plain or packed with gzip or zstd; others (encrypted, held elsewhere, artifacts) are refused. What `urls` says is
 * never asked: a layer comes from the registry that named it, or not at all. */
static const char *const layer_types[] = {
	"application/vnd.oci.image.layer.v1.tar",
	"application/vnd.oci.image.layer.v1.tar+gzip",
	"application/vnd.oci.image.layer.v1.tar+zstd",
	"application/vnd.docker.image.rootfs.diff.tar",
	"application/vnd.docker.image.rootfs.diff.tar.gzip",
	"application/vnd.docker.image.rootfs.diff.tar.zstd",
};
static const char *const config_types[] = {
	"application/vnd.oci.image.config.v1+json",
	"application/vnd.docker.container.image.v1+json",
};
static const char *const index_types[] = {
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
};
static const char *const manifest_types[] = {
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.v2+json",
};

static int read_layers(const json_t *layers, struct arena *arena, struct manifest *m, struct err *err)
{
	json_t *layer;
	size_t i;

	m->layers = arena_array(arena, json_array_size(layers), sizeof *m->layers);
	if (m->layers == NULL)
		return err_set(err, -ENOMEM, "no memory");
	json_array_foreach(layers, i, layer)
	{
		struct str type;
		int r = json_get_str(layer, JSON_REQUIRED, 128, &type, err, "mediaType");

		if (r == 0 && !TYPE_KNOWN(type, layer_types))
			r = err_set(err, -EBADMSG,
				    "mediaType: '%.*s' is no kind of layer that can be unpacked",
				    STR_ARGS(type));
		if (r == 0)
			r = read_descriptor(layer, arena, &m->layers[i], err);
		if (r < 0) {
			err_wrap(err, "layers[%zu]", i);
			return r == -ENOMEM ? r : -EBADMSG;
		}
	}
	m->n_layers = (uint32_t)json_array_size(layers);
	return 0;
}

static int read_document(const json_t *doc, struct arena *arena, struct manifest *m, struct err *err)
{
	json_t *manifests = NULL, *layers = NULL, *config = NULL;
	struct str type = STR_NONE, config_type = STR_NONE;
	uint64_t version = 0;
	int r;

	if (!json_is_object(doc))
		return err_set(err, -EBADMSG, "must be an object, not %s", json_kind_name(doc));
	if (json_at(doc, "fsLayers") != NULL || json_at(doc, "schemaVersion") == NULL)
		return err_set(err, -EBADMSG, "schemaVersion: only 2 is supported");
	if (json_get_u64(doc, JSON_REQUIRED, 2, 2, &version, err, "schemaVersion") < 0 ||
	    json_get_array(doc, JSON_OPTIONAL, INDEX_ENTRIES_MAX, &manifests, err, "manifests") < 0 ||
	    json_get_array(doc, JSON_OPTIONAL, IMAGE_LAYERS_MAX, &layers, err, "layers") < 0 ||
	    json_get_object(doc, JSON_OPTIONAL, &config, err, "config") < 0 ||
	    json_get_str(doc, JSON_OPTIONAL, 128, &type, err, "mediaType") < 0 ||
	    (config != NULL &&
	     json_get_str(doc, JSON_OPTIONAL, 128, &config_type, err, "config.mediaType") < 0))
		return -EBADMSG;
	/* Something that could be read both ways is neither. */
	if ((manifests != NULL) == (layers != NULL))
		return err_set(err, -EBADMSG, "must have either layers or manifests");
	m->index = manifests != NULL;
	if (type.n > 0 && !(m->index ? TYPE_KNOWN(type, index_types) : TYPE_KNOWN(type, manifest_types)))
		return err_set(err, -EBADMSG, "mediaType: '%.*s' is not that of an image's %s",
			       STR_ARGS(type), m->index ? "index" : "manifest");
	if (m->index)
		return choose(manifests, arena, m, err);
	if (config == NULL)
		return err_set(err, -EBADMSG, "config: is missing");
	if (config_type.n > 0 && !TYPE_KNOWN(config_type, config_types))
		return err_set(err, -EBADMSG, "config: mediaType: '%.*s' is no image's configuration",
			       STR_ARGS(config_type));
	r = read_descriptor(config, arena, &m->config, err);
	if (r < 0) {
		err_wrap(err, "config");
		return r;
	}
	return read_layers(layers, arena, m, err);
}

int manifest_parse(struct str text, struct arena *arena, struct manifest *ret, struct err *err)
{
	json_auto_t *doc = NULL;
	struct manifest m = {0};
	int r = json_parse(text, &bounds, &doc, err);

	if (r == 0)
		r = read_document(doc, arena, &m, err);
	if (r < 0) {
		if (r == -EBADMSG)
			err_wrap(err, "manifest");
		return r == -E2BIG ? -EBADMSG : r;
	}
	*ret = m;
	return 0;
}
