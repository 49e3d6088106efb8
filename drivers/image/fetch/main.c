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
#include "image_fetch/registry.h"

static int from_registry(const struct image_fetch_request *q, struct arena *arena,
			 struct image_fetch_result *ret, struct err *err)
{
	struct registry *registry = NULL;
	int r = registry_open(q, &registry, err);

	if (r < 0)
		return r;
	struct walk_source source = registry_source(registry);
	struct str pinned = registry_pinned(registry), digest = q->digest.n > 0 ? q->digest : pinned;

	if (q->op == IMAGE_FETCH_PULL)
		r = walk_pull(&source, digest, q->bytes_max, arena, ret, err);
	else
		r = walk_resolve(&source, arena, ret, err);
	if (r == 0 && pinned.n > 0 && !str_eq(ret->digest, pinned))
		r = err_set(err, -EBADMSG, "the registry gave %.*s for %.*s", STR_ARGS(ret->digest),
			    STR_ARGS(pinned));
	registry_close(registry);
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
	if (q.op == IMAGE_FETCH_IMPORT)
		return import_image(IMAGE_FD_SOURCE, q.bytes_max, arena, ret, err);
	return from_registry(&q, arena, ret, err);
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
