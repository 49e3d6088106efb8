/* berth-fetch: asks a registry, or reads an archive, on behalf of sandboxd.
 *
 * It starts unprivileged, locks itself down, reads one request, writes layers to the blobs file and one result, ends.
 * It gets its descriptors from the parent (image_protocol/protocol.h) and opens nothing that can be written. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image_child/lockdown.h"
#include "image_child/talk.h"
#include "image_fetch/import.h"
#include "image_fetch/reference.h"
#include "image_fetch/registry.h"

static int from_host(const struct image_fetch_request *q, const char *mirror,
		     const struct walk_bounds *bounds, struct arena *arena, struct image_fetch_result *ret,
		     struct err *err)
{
	struct registry *registry = NULL;
	int r = registry_open(q, mirror, &registry, err);

	if (r < 0)
		return r;
	struct walk_source source = registry_source(registry);
	struct str pinned = registry_pinned(registry), digest = q->digest.n > 0 ? q->digest : pinned;

	if (q->op == IMAGE_FETCH_PULL)
		r = walk_pull(&source, digest, bounds, arena, ret, err);
	else
		r = walk_resolve(&source, arena, ret, err);
	if (r == 0 && pinned.n > 0 && !str_eq(ret->digest, pinned))
		r = err_set(err, -EBADMSG, "the registry gave %.*s for %.*s", STR_ARGS(ret->digest),
			    STR_ARGS(pinned));
	registry_close(registry);
	return r;
}

/* What another host would not change. */
static bool is_ours(int code)
{
	return code == -ENOMEM || code == -ENOSPC || code == -EDQUOT || code == -EFBIG;
}

/* The mirrors of the image's host, whatever goes wrong with them, then the host itself. */
static int from_registry(const struct image_fetch_request *q, const struct walk_bounds *bounds,
			 struct arena *arena, struct image_fetch_result *ret, struct err *err)
{
	struct err missed = {0};
	struct reference ref;
	int r = reference_parse(q->reference, &ref, err);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < q->n_mirrors; i++) {
		struct image_fetch_result found = {0};
		struct str host, mirror;
		char name[256];

		if (!str_cut(q->mirrors[i], ' ', &host, &mirror) || !str_eq(host, str_of(ref.host)) ||
		    str_copy(mirror, name, sizeof name) < 0)
			continue;
		r = from_host(q, name, bounds, arena, &found, &missed);
		if (r == 0) {
			*ret = found;
			return 0;
		}
		if (is_ours(r))
			return err_set(err, r, "%s", missed.message);
	}
	r = from_host(q, NULL, bounds, arena, ret, err);
	if (r < 0 && missed.message[0] != '\0' && err->message[0] != '\0') {
		struct err own = *err;

		err_set(err, r, "%.180s; its mirror: %.180s", own.message, missed.message);
	}
	return r;
}

static int serve(struct arena *arena, struct image_fetch_result *ret, struct err *err)
{
	struct image_fetch_request q = {0};
	int r = talk_request(&image_fetch_request_codec, arena, &q, err);

	if (r < 0)
		return r;
	r = lockdown_fetch(q.op != IMAGE_FETCH_IMPORT, q.bytes_max, err);
	if (r < 0)
		return r;
	const struct walk_bounds bounds = {.bytes_max = q.bytes_max,
					   .layer_bytes_max = q.layer_bytes_max,
					   .layers_max = q.layers_max,
					   .parallel = q.parallel,
					   .cached = q.cached,
					   .n_cached = q.n_cached};

	if (q.op == IMAGE_FETCH_IMPORT)
		return import_image(IMAGE_FD_SOURCE, &bounds, arena, ret, err);
	return from_registry(&q, &bounds, arena, ret, err);
}

int main(void)
{
	CLEANUP_ARENA struct arena arena = {.max = 64u << 20};
	struct image_fetch_result result = {0};
	struct err err = {0};
	int r = serve(&arena, &result, &err);

	if (r < 0)
		result = (struct image_fetch_result){.code = r, .message = str_of(err.message)};
	r = talk_result(&image_fetch_result_codec, &result);
	if (r == -E2BIG) {
		result = (struct image_fetch_result){.code = -E2BIG,
						     .message = STR("the image's configuration is too long")};
		r = talk_result(&image_fetch_result_codec, &result);
	}
	return r < 0 ? 1 : 0;
}
