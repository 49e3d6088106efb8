/* Everything of a registry that is text: the first byte says what the rest is. What parses must keep its bounds and
 * fit into the result. */
#include <stddef.h>
#include <stdint.h>

#include "core/must.h"
#include "image_fetch/challenge.h"
#include "image_fetch/config.h"
#include "image_fetch/manifest.h"
#include "image_fetch/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_manifest(struct str text, struct arena *arena, struct err *err)
{
	struct manifest m;

	if (manifest_parse(text, arena, &m, err) < 0)
		return;
	must(m.n_layers <= IMAGE_LAYERS_MAX);
	must(image_digest_valid(m.index ? m.chosen.digest : m.config.digest));
	for (uint32_t i = 0; i < m.n_layers; i++)
		must(image_digest_valid(m.layers[i].digest));
}

static void check_config(struct str text, struct arena *arena, struct err *err)
{
	struct image_fetch_result result = {0};
	CLEANUP_BUF struct buf b = {0};
	struct config_diffs diffs;

	if (config_parse(text, arena, &result.config, &diffs, err) == 0)
		codec_encode(&b, &image_fetch_result_codec, &result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_ARENA struct arena arena = {.max = 64u << 20};
	struct err err = {0};
	struct reference reference;
	struct challenge challenge;

	if (size == 0)
		return 0;
	struct str text = {(const char *)data + 1, size - 1};

	switch (data[0]) {
	case 'm':
		check_manifest(text, &arena, &err);
		break;
	case 'c':
		check_config(text, &arena, &err);
		break;
	case 'r':
		(void)reference_parse(text, &reference, &err);
		break;
	case 'w':
		(void)challenge_parse(text, &challenge, &err);
		break;
	default:
		break;
	}
	return 0;
}
