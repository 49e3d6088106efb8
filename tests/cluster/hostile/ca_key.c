/* test-ca-key KEYRING FIRST-KEYS CLUSTER-ID: prints the private key of a new cluster's CA, which is nowhere in the clear, so that a
 * test can make certificates that the cluster itself never would. */
#include <stdio.h>

#include "core/must.h"
#include "keys/keys.h"

int main(int argc, char **argv)
{
	CLEANUP_ARENA struct arena arena = {0};
	CLEANUP_BUF struct buf pem = {0};
	struct keyring *ring = NULL;
	struct keys_first first;
	struct err err = {0};
	int r = argc == 4 ? keyring_load(argv[1], &ring, &err) : -1;

	if (r == 0)
		r = keys_load_first(argv[2], str_of(argv[3]), &arena, &first, &err);
	for (uint32_t i = 0; r == 0 && i < first.n_keys; i++) {
		const struct key_put *k = &first.keys[i];

		if (k->kind == KEY_CA)
			r = keys_open(ring, str_of(argv[3]), k->kind, k->sealed, k->public_part, &pem, &err);
	}
	if (r < 0)
		fprintf(stderr, "test-ca-key: %s\n", err.message);
	else
		fputs(buf_cstr(&pem), stdout);
	keyring_free(ring);
	return r < 0;
}
