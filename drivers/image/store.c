/* The table of images: read from the disk at open, changed by pulls, looked up by starts.
 *
 * Happy path: open sweeps work/, reads each images/<hex>/record; acquire and release count users; forget moves the image back to
 * work/ and removes it there. An image without a readable record is swept too: publishing makes both appear at once, so
 * it is damage, and a pull brings it back. */
#include "image/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/map.h"
#include "core/must.h"
#include "image/disk.h"
#include "image/names.h"

#define HEX_DIGITS 64

static const struct codec_field record_fields[] = {
	CODEC_STR(struct image_record, reference, 512),
	CODEC_U64(struct image_record, bytes),
	CODEC_U64(struct image_record, entries),
	CODEC_LIST(struct image_record, layers, IMAGE_LAYERS_MAX, &image_layer_codec),
	CODEC_ONE(struct image_record, config, &image_config_codec),
};
const struct codec_type image_record_codec = CODEC_TYPE(struct image_record, "image record", record_fields);

int store_path(const struct image_store *s, const char *folder, const char *name, const char *file,
	       char ret[PATH_MAX], struct err *err)
{
	int n = snprintf(ret, PATH_MAX, "%s/%s%s%s%s%s", s->options.dir, folder, name == NULL ? "" : "/",
			 name == NULL ? "" : name, file == NULL ? "" : "/", file == NULL ? "" : file);

	return n < PATH_MAX ? 0 : err_set(err, -ENAMETOOLONG, "the image store's path is too long");
}

/* -- The table ---------------------------------------------------------------------------------------------- */

struct image_entry *store_find(struct image_store *s, struct str digest)
{
	for (struct image_entry *e = s->entries; e != NULL; e = e->next) {
		if (str_eq(str_of(e->digest), digest))
			return e;
	}
	for (struct image_alias *a = s->aliases; a != NULL; a = a->next) {
		if (str_eq(str_of(a->digest), digest))
			return a->entry;
	}
	return NULL;
}

static void entry_free(struct image_entry *e)
{
	arena_done(&e->arena);
	free(e);
}

static int read_record(const char *path, struct image_entry *e, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	struct image_record record = {0};
	struct stat st;
	int r = fd_read_file(path, IMAGE_MESSAGE_MAX, &b, err);

	/* Sweeps keep the file's time. */
	e->last_used_ms = stat(path, &st) == 0 ? (uint64_t)st.st_mtime * 1000 : 0;
	if (r == 0)
		r = codec_decode(b.p, b.n, &image_record_codec, &e->arena, &record, err);
	if (r < 0)
		return r;
	e->config = record.config;
	e->image.bytes = record.bytes;
	e->disk_bytes = record.bytes + STORE_ENTRY_BYTES * record.entries;
	e->layers = record.layers;
	e->n_layers = record.n_layers;
	e->image.reference =
		record.reference.n == 0 ? "" : record.reference.p; /* the arena's strings are terminated */
	return 0;
}

int store_load(struct image_store *s, const char *hex, struct image_entry **ret, struct err *err)
{
	char path[PATH_MAX];
	struct stat st;
	struct image_entry *e = calloc(1, sizeof *e);
	int r = e == NULL ? err_set(err, -ENOMEM, "no memory for an image") : 0;

	if (r == 0)
		r = store_path(s, "images", hex, "record", path, err);
	if (r == 0)
		r = read_record(path, e, err);
	if (r == 0)
		r = store_path(s, "images", hex, "disk", path, err);
	if (r == 0) {
		e->packed_path = (char *)(uintptr_t)arena_str(&e->arena, str_of(path)).p;
		e->packed_bytes = stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
		r = store_path(s, "images", hex, "root", path, err);
	}
	if (r < 0) {
		if (e != NULL)
			entry_free(e);
		return r;
	}
	snprintf(e->digest, sizeof e->digest, "sha256:%s", hex);
	e->image.digest = e->digest;
	e->image.config = &e->config;
	e->image.root = arena_str(&e->arena, str_of(path)).p;
	must(e->image.root != NULL && e->packed_path != NULL);
	e->next = s->entries;
	s->entries = e;
	if (ret != NULL)
		*ret = e;
	return 0;
}

static int add_alias(struct image_store *s, struct str digest, struct image_entry *entry, struct err *err)
{
	struct image_alias *a = calloc(1, sizeof *a);

	if (a == NULL)
		return err_set(err, -ENOMEM, "no memory for an image");
	must(str_copy(digest, a->digest, sizeof a->digest) == 0);
	a->entry = entry;
	a->next = s->aliases;
	s->aliases = a;
	return 0;
}

int store_alias(struct image_store *s, struct str digest, struct image_entry *entry, struct err *err)
{
	char path[PATH_MAX];
	int r;

	if (store_find(s, digest) != NULL)
		return 0;
	r = store_path(s, "images", digest.p + 7, NULL, path, err);
	if (r == 0 && symlink(entry->digest + 7, path) < 0)
		r = err_system(err, -errno, "make %s", path);
	return r < 0 ? r : add_alias(s, digest, entry, err);
}

/* -- Opening ------------------------------------------------------------------------------------------------ */

static int take_lock(struct image_store *s, struct err *err)
{
	char path[PATH_MAX];
	int r = store_path(s, "lock", NULL, NULL, path, err);

	if (r < 0)
		return r;
	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0)
		return err_system(err, -errno, "open %s", path);
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, -EBUSY, "the image store %s is in use by another process",
			       s->options.dir);
	return 0;
}

static bool is_hex_name(const char *name)
{
	char digest[IMAGE_DIGEST_SIZE];

	return strlen(name) == HEX_DIGITS && snprintf(digest, sizeof digest, "sha256:%s", name) > 0 &&
	       image_digest_valid(str_of(digest));
}

/* Links are seen in a second pass, when all that they can lead to is known; others are removed. */
static int load_name(struct image_store *s, const char *name, bool links, struct err *err)
{
	char path[PATH_MAX], digest[IMAGE_DIGEST_SIZE], target[HEX_DIGITS + 8] = "";
	struct stat st;
	int r = store_path(s, "images", name, NULL, path, err);

	if (r < 0)
		return r;
	if (lstat(path, &st) < 0)
		return err_system(err, -errno, "stat %s", path);
	if (S_ISLNK(st.st_mode) != links)
		return 0;
	if (!is_hex_name(name))
		return disk_remove(path, err);
	if (!links)
		return store_load(s, name, NULL, NULL) < 0 ? disk_remove(path, err) : 0;
	ssize_t n = readlink(path, target, sizeof target - 1);

	target[n < 0 ? 0 : n] = '\0';
	snprintf(digest, sizeof digest, "sha256:%.64s", target);
	struct image_entry *entry = store_find(s, str_of(digest));

	if (entry == NULL)
		return disk_remove(path, err);
	snprintf(digest, sizeof digest, "sha256:%.64s", name);
	return add_alias(s, str_of(digest), entry, err);
}

static int load_all(struct image_store *s, bool links, struct err *err)
{
	char path[PATH_MAX];
	struct dirent *e;
	int r = store_path(s, "images", NULL, NULL, path, err);
	DIR *d = r < 0 ? NULL : opendir(path);

	if (d == NULL)
		return r < 0 ? r : err_system(err, -errno, "open %s", path);
	while (r == 0 && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = load_name(s, e->d_name, links, err);
	}
	closedir(d);
	return r;
}

static int make_folders(struct image_store *s, struct err *err)
{
	char path[PATH_MAX];
	int r = fd_make_directory(s->options.dir, 0700, err);

	if (r == 0)
		r = take_lock(s, err);
	if (r == 0)
		r = store_path(s, "images", NULL, NULL, path, err);
	if (r == 0)
		r = fd_make_directory(path, 0700, err);
	if (r == 0)
		r = store_path(s, "work", NULL, NULL, path, err);
	if (r == 0)
		r = fd_make_directory(path, 0700, err);
	return r < 0 ? r : disk_clear(path, err);
}

static const char *copy_text(struct image_store *s, const char *text)
{
	return text == NULL ? NULL : arena_str(&s->arena, str_of(text)).p;
}

static const struct str *copy_list(struct image_store *s, const struct str *list, uint32_t n)
{
	struct str *copy = arena_array(&s->arena, n, sizeof *copy);

	must(copy != NULL);
	for (uint32_t i = 0; i < n; i++)
		copy[i] = arena_str(&s->arena, list[i]);
	return copy;
}

static int copy_options(struct image_store *s, const struct image_options *from, struct err *err)
{
	struct image_options *o = &s->options;
	CLEANUP_BUF struct buf pem = {0};
	int r;

	*o = *from;
	if (o->dir == NULL || o->fetch_program == NULL || o->unpack_program == NULL || o->uid == 0 ||
	    o->gid == 0)
		return err_set(err, -EINVAL, "image store: dir, programs, uid and gid must be set");
	if (o->n_registries > IMAGE_HOSTS_MAX || o->n_insecure > IMAGE_HOSTS_MAX ||
	    o->n_token_hosts > IMAGE_HOSTS_MAX || o->n_mirrors > IMAGE_HOSTS_MAX)
		return err_set(err, -EINVAL, "image store: a list of hosts has more than %d",
			       IMAGE_HOSTS_MAX);
	o->dir = copy_text(s, from->dir);
	o->fetch_program = copy_text(s, from->fetch_program);
	o->unpack_program = copy_text(s, from->unpack_program);
	o->pack_program = copy_text(s, from->pack_program);
	o->registries = copy_list(s, from->registries, from->n_registries);
	o->insecure = copy_list(s, from->insecure, from->n_insecure);
	o->token_hosts = copy_list(s, from->token_hosts, from->n_token_hosts);
	o->mirrors = copy_list(s, from->mirrors, from->n_mirrors);
	o->fetched_bytes_max = o->fetched_bytes_max == 0 ? 8ull << 30 : o->fetched_bytes_max;
	o->unpacked_bytes_max = o->unpacked_bytes_max == 0 ? 16ull << 30 : o->unpacked_bytes_max;
	o->layer_bytes_max = o->layer_bytes_max == 0 ? 4ull << 30 : o->layer_bytes_max;
	o->entries_max = o->entries_max == 0 ? 1000000 : o->entries_max;
	o->layers_max = o->layers_max == 0 ? 128 : o->layers_max;
	o->depth_max = o->depth_max == 0 ? 64 : o->depth_max;
	o->parallel = o->parallel == 0 ? 3 : o->parallel;
	o->unused_ms_max = o->unused_ms_max == 0 ? 30ull * 24 * 3600 * 1000 : o->unused_ms_max;
	o->connect_ms = o->connect_ms == 0 ? 10000 : o->connect_ms;
	o->stall_ms = o->stall_ms == 0 ? 30000 : o->stall_ms;
	o->total_ms = o->total_ms == 0 ? 30 * 60 * 1000 : o->total_ms;
	if (from->ca_file == NULL)
		return 0;
	r = fd_read_file(from->ca_file, IMAGE_PEM_MAX, &pem, err);
	if (r == 0)
		s->ca_pem = arena_str(&s->arena, buf_str(&pem));
	return r;
}

/* Half of the disk, unless the options say. */
static int bound_disk(struct image_store *s, struct err *err)
{
	struct statvfs fs;

	if (s->options.disk_bytes_max != 0)
		return 0;
	if (statvfs(s->options.dir, &fs) < 0)
		return err_system(err, -errno, "the file system of %s", s->options.dir);
	s->options.disk_bytes_max = (uint64_t)fs.f_blocks * fs.f_frsize / 2;
	return 0;
}

uint64_t image_disk_bytes_max(const struct image_store *s)
{
	return s->options.disk_bytes_max;
}

int image_store_open(const struct image_options *options, struct image_store **ret, struct err *err)
{
	struct image_store *s = calloc(1, sizeof *s);
	int r;

	if (s == NULL)
		return err_set(err, -ENOMEM, "no memory for the image store");
	s->lock_fd = -1;
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->changed, NULL);
	r = copy_options(s, options, err);
	if (r == 0)
		r = make_folders(s, err);
	if (r == 0)
		r = bound_disk(s, err);
	if (r == 0)
		r = load_all(s, false, err);
	if (r == 0)
		r = load_all(s, true, err);
	if (r == 0)
		r = names_load(s, err);
	if (r < 0) {
		image_store_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void image_store_close(struct image_store *s)
{
	if (s == NULL)
		return;
	must(s->flights == NULL);
	while (s->aliases != NULL) {
		struct image_alias *a = s->aliases;

		s->aliases = a->next;
		free(a);
	}
	while (s->entries != NULL) {
		struct image_entry *e = s->entries;

		s->entries = e->next;
		entry_free(e);
	}
	fd_close(&s->lock_fd);
	arena_done(&s->arena);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->mutex);
	free(s);
}

/* -- Use ---------------------------------------------------------------------------------------------------- */

int image_acquire(struct image_store *s, struct str digest, const struct image **ret, struct err *err)
{
	struct image_entry *e;

	pthread_mutex_lock(&s->mutex);
	e = store_find(s, digest);
	if (e != NULL) {
		e->users++;
		e->last_used_ms = clock_wall_ms();
		*ret = &e->image;
	}
	pthread_mutex_unlock(&s->mutex);
	return e != NULL ? 0 : err_set(err, -ENOENT, "image %.*s is not on this node", STR_ARGS(digest));
}

void image_release(struct image_store *s, const struct image *image)
{
	struct image_entry *e = container_of((struct image *)(uintptr_t)image, struct image_entry, image);

	pthread_mutex_lock(&s->mutex);
	must(e->users > 0);
	e->users--;
	e->last_used_ms = clock_wall_ms();
	pthread_mutex_unlock(&s->mutex);
}

struct image_state store_state(const struct image_entry *e, struct arena *arena)
{
	return (struct image_state){.digest = arena_str(arena, str_of(e->digest)),
				    .reference = arena_str(arena, str_of(e->image.reference)),
				    .bytes = e->image.bytes + e->packed_bytes,
				    .last_used_ms = e->last_used_ms,
				    .users = e->users};
}

int image_list(struct image_store *s, struct arena *arena, struct image_state **ret, size_t *ret_n)
{
	struct image_state *list;
	size_t n = 0, i = 0;

	pthread_mutex_lock(&s->mutex);
	for (struct image_entry *e = s->entries; e != NULL; e = e->next)
		n++;
	for (struct image_alias *a = s->aliases; a != NULL; a = a->next)
		n++;
	list = arena_array(arena, n, sizeof *list);
	for (struct image_entry *e = s->entries; list != NULL && e != NULL; e = e->next) {
		list[i++] = store_state(e, arena);
	}
	for (struct image_alias *a = s->aliases; list != NULL && a != NULL; a = a->next) {
		list[i++] =
			(struct image_state){.digest = arena_str(arena, str_of(a->digest)),
					     .reference = arena_str(arena, str_of(a->entry->image.reference)),
					     .last_used_ms = a->entry->last_used_ms,
					     .users = a->entry->users};
	}
	pthread_mutex_unlock(&s->mutex);
	if (list == NULL)
		return -ENOMEM;
	*ret = list;
	*ret_n = n;
	return 0;
}

/* Aliases first, so that a crash leaves no link into nothing for long: the next open sweeps it anyway. */
static void drop_aliases(struct image_store *s, const struct image_entry *entry)
{
	struct image_alias **at = &s->aliases;
	char path[PATH_MAX];

	while (*at != NULL) {
		struct image_alias *a = *at;

		if (a->entry != entry) {
			at = &a->next;
			continue;
		}
		if (store_path(s, "images", a->digest + 7, NULL, path, NULL) == 0)
			(void)unlink(path);
		*at = a->next;
		free(a);
	}
}

int store_take_out(struct image_store *s, struct image_entry *e, char gone[PATH_MAX], struct err *err)
{
	struct image_entry **at = &s->entries;
	char path[PATH_MAX], name[128];
	int r;

	must(e->users == 0);
	snprintf(name, sizeof name, "gone-%" PRIu64, s->next_work++);
	r = store_path(s, "work", name, NULL, gone, err);
	if (r == 0)
		r = store_path(s, "images", e->digest + 7, NULL, path, err);
	if (r == 0 && rename(path, gone) < 0)
		r = err_system(err, -errno, "remove %s", path);
	if (r < 0)
		return r;
	drop_aliases(s, e);
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	entry_free(e);
	return 0;
}

int image_forget(struct image_store *s, struct str digest, struct err *err)
{
	struct image_entry *e;
	char gone[PATH_MAX];
	int r;

	pthread_mutex_lock(&s->mutex);
	e = store_find(s, digest);
	if (e == NULL)
		r = err_set(err, -ENOENT, "image %.*s is not on this node", STR_ARGS(digest));
	else if (e->users > 0)
		r = err_set(err, -EBUSY, "image %.*s is used by %u sandboxes", STR_ARGS(digest), e->users);
	else if (e->wanted)
		r = err_set(err, -EBUSY, "image %.*s is that of a pool", STR_ARGS(digest));
	else
		r = store_take_out(s, e, gone, err);
	pthread_mutex_unlock(&s->mutex);
	return r < 0 ? r : disk_remove(gone, err);
}
