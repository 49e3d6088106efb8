#include "sandboxd/jobs/image_source.h"

#include <errno.h>
#include <stdio.h>

#include "core/arena.h"
#include "core/must.h"
#include "image/image.h"

#define HOSTS_MAX  64
#define CONNECT_MS 10000u /* and less if a registry may be silent for less */

/* "a:5000,b" */
static uint32_t split_str(struct str rest, struct str *ret)
{
	struct str word;
	uint32_t n = 0;

	while (rest.n > 0 && n < HOSTS_MAX) {
		str_cut(rest, ',', &word, &rest);
		word = str_trim(word);
		if (word.n > 0)
			ret[n++] = word;
	}
	return n;
}

static uint32_t split(const char *list, struct str *ret)
{
	return split_str(str_of(list), ret);
}

/* "host mirror,other; host2 mirror" becomes "host mirror", "host other", "host2 mirror". */
static uint32_t split_mirrors(const char *list, struct arena *arena, struct str *ret)
{
	struct str rest = str_of(list), one, host, names, mirrors[HOSTS_MAX];
	uint32_t n = 0;

	while (rest.n > 0) {
		str_cut(rest, ';', &one, &rest);
		str_cut(str_trim(one), ' ', &host, &names);
		for (uint32_t i = 0, m = split_str(names, mirrors); i < m && n < HOSTS_MAX; i++) {
			ret[n] = arena_printf(arena, "%.*s %.*s", STR_ARGS(host), STR_ARGS(mirrors[i]));
			must(ret[n++].p != NULL);
		}
	}
	return n;
}

int image_source_open(const struct settings *s, const char *bin_dir, struct image_store **ret,
		      struct err *err)
{
	char dir[SETTINGS_PATH_MAX + 16], fetch[SETTINGS_PATH_MAX + 16], unpack[SETTINGS_PATH_MAX + 16],
		pack[SETTINGS_PATH_MAX + 16];
	struct str registries[HOSTS_MAX], insecure[HOSTS_MAX], tokens[HOSTS_MAX], mirrors[HOSTS_MAX];
	CLEANUP_ARENA struct arena arena = {0};
	struct image_options o = {.dir = dir,
				  .fetch_program = fetch,
				  .unpack_program = unpack,
				  .pack_program = pack,
				  .uid = s->uid_base + 65535, /* of the range that no sandbox has */
				  .gid = s->uid_base + 65535,
				  .ca_file = s->image_ca[0] != '\0' ? s->image_ca : NULL,
				  .connect_ms =
					  s->image_stall_ms < CONNECT_MS ? s->image_stall_ms : CONNECT_MS,
				  .stall_ms = s->image_stall_ms,
				  .registries = registries,
				  .n_registries = split(s->allowed_registries, registries),
				  .insecure = insecure,
				  .n_insecure = split(s->insecure_registries, insecure),
				  .token_hosts = tokens,
				  .n_token_hosts = split(s->registry_token_hosts, tokens),
				  .mirrors = mirrors,
				  .n_mirrors = split_mirrors(s->registry_mirror, &arena, mirrors),
				  .fetched_bytes_max = s->image_fetch_max,
				  .layer_bytes_max = s->image_layer_max,
				  .unpacked_bytes_max = s->image_unpacked_max,
				  .entries_max = s->image_entries_max,
				  .layers_max = s->image_layers_max,
				  .depth_max = s->image_depth_max,
				  .parallel = s->image_parallel,
				  .disk_bytes_max = s->image_disk_max,
				  .unused_ms_max = s->image_retention_ms};

	snprintf(dir, sizeof dir, "%s/store", s->state_dir);
	snprintf(fetch, sizeof fetch, "%s/berth-fetch", bin_dir);
	snprintf(unpack, sizeof unpack, "%s/berth-unpack", bin_dir);
	snprintf(pack, sizeof pack, "%s/berth-pack", bin_dir);
	return image_store_open(&o, ret, err);
}
