/* Everything of a registry that is text: the first byte says what the rest is. What parses must keep its bounds and
 * fit into the result. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/must.h"
#include "fetch/fetch.h"
#include "image_fetch/challenge.h"
#include "image_fetch/config.h"
#include "image_fetch/manifest.h"
#include "image_fetch/policy.h"
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

/* Lines: the hosts of four lists, a registry, a host. Whoever may see credentials or have a private address was named. */
static void check_policy(struct str text)
{
	struct str lines[6] = {{0}}, mirror[1];
	char registry[256], host[256];
	bool tls = text.n > 0 && text.p[0] == 's';

	for (int i = 0; i < 6; i++)
		str_cut(text, '\n', &lines[i], &text);
	mirror[0] = lines[3];
	struct image_fetch_request q = {.registries = &lines[0],
					.n_registries = lines[0].n > 0,
					.insecure = &lines[1],
					.n_insecure = lines[1].n > 0,
					.token_hosts = &lines[2],
					.n_token_hosts = lines[2].n > 0,
					.mirrors = mirror,
					.n_mirrors = 1};

	if (str_copy(lines[4], registry, sizeof registry) < 0 || str_copy(lines[5], host, sizeof host) < 0)
		return;
	if (policy_private(&q, host) && !policy_named(&q, host))
		must(str_ends(lines[3], str_of(host)));
	if (policy_token(&q, registry, host, tls))
		must(tls || policy_insecure(&q, host));
	if (policy_redirect(&q, registry, host, tls))
		must(tls || policy_insecure(&q, host));
}

static void check_url(struct str text)
{
	char url[2048], host[300];
	bool tls;

	if (str_copy(text, url, sizeof url) == 0 && fetch_url_host(url, &tls, host, sizeof host, NULL) == 0)
		must(strpbrk(host, "/@ ?#\r\n") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_ARENA struct arena arena = {.max = 64u << 20};
	struct err err = {0};
	struct reference reference;
	struct challenge challenge;
	static char token[CHALLENGE_TOKEN_MAX + 1];

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
	case 't':
		if (challenge_token(text, token, &err) == 0)
			must(strpbrk(token, " \r\n") == NULL);
		break;
	case 'p':
		check_policy(text);
		break;
	case 'u':
		check_url(text);
		break;
	default:
		break;
	}
	return 0;
}
