#include "sandboxd/jobs/image_source.h"

#include <errno.h>
#include <stdio.h>

#include "core/arena.h"
#include "image/image.h"

#define HOSTS_MAX  64
#define CONNECT_MS 10000u /* and less if a registry may be silent for less */

/* "a:5000,b" */
static uint32_t split(const char *list, struct str *ret)
{
	struct str rest = str_of(list), word;
	uint32_t n = 0;

	while (rest.n > 0 && n < HOSTS_MAX) {
		str_cut(rest, ',', &word, &rest);
		while (word.n > 0 && word.p[0] == ' ')
			word = str_slice(word, 1, word.n);
		while (word.n > 0 && word.p[word.n - 1] == ' ')
			word.n--;
		if (word.n > 0)
			ret[n++] = word;
	}
	return n;
}

int image_source_open(const struct settings *s, const char *bin_dir, struct image_store **ret,
		      struct err *err)
{
	char dir[SETTINGS_PATH_MAX + 16], fetch[SETTINGS_PATH_MAX + 16], unpack[SETTINGS_PATH_MAX + 16];
	struct str registries[HOSTS_MAX], insecure[HOSTS_MAX];
	struct image_options o = {.dir = dir,
				  .fetch_program = fetch,
				  .unpack_program = unpack,
				  .uid = s->uid_base + 65535, /* of the range that no sandbox has */
				  .gid = s->uid_base + 65535,
				  .ca_file = s->image_ca[0] != '\0' ? s->image_ca : NULL,
				  .connect_ms =
					  s->image_stall_ms < CONNECT_MS ? s->image_stall_ms : CONNECT_MS,
				  .stall_ms = s->image_stall_ms,
				  .registries = registries,
				  .n_registries = split(s->allowed_registries, registries),
				  .insecure = insecure,
				  .n_insecure = split(s->insecure_registries, insecure)};

	snprintf(dir, sizeof dir, "%s/store", s->state_dir);
	snprintf(fetch, sizeof fetch, "%s/berth-fetch", bin_dir);
	snprintf(unpack, sizeof unpack, "%s/berth-unpack", bin_dir);
	return image_store_open(&o, ret, err);
}
