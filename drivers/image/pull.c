/* Pulls: berth-fetch brings layers and a configuration, berth-unpack makes a root of them, and one rename
 * publishes it.
 *
 * Failure modes: any error, a child's death and the end of the time remove the work directory; a crash of this process leaves it to the
 * next open. Who wants the same image from the same place with the same credentials waits for that pull and shares its end; others
 * pull beside it, for a registry that stalls or lies must harm nobody who does not ask it. Children are not trusted: what their results say is checked again before it becomes a path or an id. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"
#include "image/disk.h"
#include "image/kept.h"
#include "image/names.h"
#include "image/pull.h"
#include "image/spawn.h"
#include "image/store.h"

#define RESOLVE_MS 120000
#define SIGNAL_MAX 64
#define TRIES_MAX  2 /* more: one without what is kept, one after room was made */

/* One pull's place and what it has found. */
struct work {
	struct image_store *store;
	struct arena arena;
	char dir[PATH_MAX]; /* <store>/work/<n> */
	int blobs;
	bool uses_kept;
	struct image_fetch_result fetched;
	struct image_unpack_result unpacked;
};

/* -- The children ------------------------------------------------------------------------------------------- */

static int failed(const char *name, int32_t code, struct str message, struct err *err)
{
	if (code >= 0 || code < -4095)
		return err_set(err, -EBADMSG, "%s: its result is malformed", name);
	return err_set(err, code, "%.*s", STR_ARGS(message));
}

static int run_fetch(struct image_store *s, struct image_fetch_request *q, struct spawn *spawn,
		     struct arena *arena, struct image_fetch_result *ret, struct err *err)
{
	const struct image_options *o = &s->options;
	int r;

	q->ca_pem = s->ca_pem;
	q->registries = (struct str *)(uintptr_t)o->registries;
	q->n_registries = o->n_registries;
	q->insecure = (struct str *)(uintptr_t)o->insecure;
	q->n_insecure = o->n_insecure;
	q->token_hosts = (struct str *)(uintptr_t)o->token_hosts;
	q->n_token_hosts = o->n_token_hosts;
	q->mirrors = (struct str *)(uintptr_t)o->mirrors;
	q->n_mirrors = o->n_mirrors;
	q->bytes_max = o->fetched_bytes_max;
	q->layer_bytes_max = o->layer_bytes_max;
	q->layers_max = o->layers_max;
	q->parallel = o->parallel;
	q->connect_ms = o->connect_ms;
	q->stall_ms = o->stall_ms;
	spawn->name = "berth-fetch";
	spawn->program = o->fetch_program;
	spawn->uid = o->uid;
	spawn->gid = o->gid;
	spawn->request_type = &image_fetch_request_codec;
	spawn->request = q;
	spawn->result_type = &image_fetch_result_codec;
	r = spawn_run(spawn, arena, ret, err);
	if (r == 0 && ret->code != 0)
		r = failed(spawn->name, ret->code, ret->message, err);
	return r;
}

static int run_unpack(struct work *w, image_progress *progress, void *context, struct err *err)
{
	const struct image_options *o = &w->store->options;
	struct image_unpack_request q = {.layers = w->fetched.layers,
					 .n_layers = w->fetched.n_layers,
					 .user = w->fetched.config.user,
					 .bytes_max = o->unpacked_bytes_max,
					 .entries_max = o->entries_max,
					 .depth_max = o->depth_max};
	char root[PATH_MAX + 8];
	int r;

	snprintf(root, sizeof root, "%s/root", w->dir);
	if (mkdir(root, 0755) < 0 || chmod(root, 0755) < 0)
		return err_system(err, -errno, "make %s", root);
	CLEANUP_FD int source = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (source < 0)
		return err_system(err, -errno, "open %s", root);
	r = spawn_run(&(struct spawn){.name = "berth-unpack",
				      .program = o->unpack_program,
				      .uid = o->uid,
				      .gid = o->gid,
				      .as_root = true,
				      .no_network = true,
				      .request_type = &image_unpack_request_codec,
				      .request = &q,
				      .result_type = &image_unpack_result_codec,
				      .blobs = w->blobs,
				      .source = source,
				      .total_ms = o->total_ms,
				      .progress = progress,
				      .context = context,
				      .stage = IMAGE_STAGE_UNPACK},
		      &w->arena, &w->unpacked, err);
	if (r == 0 && w->unpacked.code != 0)
		r = failed("berth-unpack", w->unpacked.code, w->unpacked.message, err);
	return r;
}

/* -- Checks ------------------------------------------------------------------------------------------------- */

static bool has_nul(struct str s)
{
	return s.n > 0 && memchr(s.p, '\0', s.n) != NULL;
}

static bool strings_sane(const struct str *strings, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (has_nul(strings[i]))
			return false;
	}
	return true;
}

static bool numbers_sane(const uint64_t *numbers, uint32_t n, uint64_t min)
{
	for (uint32_t i = 0; i < n; i++) {
		if (numbers[i] < min || numbers[i] > 65535)
			return false;
	}
	return true;
}

static int check(const struct work *w, struct err *err)
{
	const struct image_config *c = &w->fetched.config;
	const struct image_unpack_result *u = &w->unpacked;

	if (!image_digest_valid(w->fetched.digest) || !image_digest_valid(w->fetched.manifest) ||
	    !strings_sane(c->entrypoint, c->n_entrypoint) || !strings_sane(c->cmd, c->n_cmd) ||
	    !strings_sane(c->env, c->n_env) || has_nul(c->user) || has_nul(c->working_dir) ||
	    (c->working_dir.n > 0 && c->working_dir.p[0] != '/') || c->stop_signal > SIGNAL_MAX ||
	    !numbers_sane(c->exposed_ports, c->n_exposed_ports, 1) || u->uid > IMAGE_ID_MAX ||
	    u->gid > IMAGE_ID_MAX || !numbers_sane(u->groups, u->n_groups, 0))
		return err_set(err, -EBADMSG, "the image's description is malformed");
	return 0;
}

/* -- Work --------------------------------------------------------------------------------------------------- */

static int work_begin(struct work *w, struct image_store *s, struct err *err)
{
	char name[32], path[PATH_MAX + 8];
	int r;

	*w = (struct work){.store = s, .blobs = -1};
	pthread_mutex_lock(&s->mutex);
	snprintf(name, sizeof name, "%" PRIu64, s->next_work++);
	pthread_mutex_unlock(&s->mutex);
	r = store_path(s, "work", name, NULL, w->dir, err);
	if (r == 0 && mkdir(w->dir, 0700) < 0)
		r = err_system(err, -errno, "make %s", w->dir);
	if (r < 0) {
		w->dir[0] = '\0'; /* nothing of ours to remove */
		return r;
	}
	snprintf(path, sizeof path, "%s/blobs", w->dir);
	w->blobs = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (w->blobs < 0 || unlink(path) < 0)
		return err_system(err, -errno, "make %s", path);
	return 0;
}

static void work_end(struct work *w)
{
	fd_close(&w->blobs);
	if (w->dir[0] != '\0')
		(void)disk_remove(w->dir, NULL); /* what is left, the next open removes */
	arena_done(&w->arena);
}

/* Each layer that has a name, once. */
static void list_kept(struct work *w, struct image_record *record)
{
	const struct image_fetch_result *f = &w->fetched;

	record->layers = arena_array(&w->arena, f->n_layers, sizeof *record->layers);
	must(record->layers != NULL || f->n_layers == 0);
	for (uint32_t i = 0; i < f->n_layers; i++) {
		bool there = f->layers[i].digest.n == 0;

		for (uint32_t k = 0; k < record->n_layers; k++)
			there = there || str_eq(record->layers[k].digest, f->layers[i].digest);
		if (!there)
			record->layers[record->n_layers++] = (struct image_layer){
				.digest = f->layers[i].digest, .bytes = f->layers[i].bytes};
	}
}

/* What of it other images do not have yet, about. */
static uint64_t new_bytes(const struct work *w)
{
	uint64_t total = w->unpacked.bytes + STORE_ENTRY_BYTES * w->unpacked.entries;

	for (uint32_t i = 0; i < w->fetched.n_layers; i++)
		total += w->fetched.layers[i].cached ? 0 : w->fetched.layers[i].bytes;
	return total;
}

static int write_record(struct work *w, struct str reference, struct err *err)
{
	CLEANUP_BUF struct buf b = BUF_MAX(IMAGE_MESSAGE_MAX);
	struct image_record record = {.reference = reference,
				      .bytes = w->unpacked.bytes,
				      .entries = w->unpacked.entries,
				      .config = w->fetched.config};
	char path[PATH_MAX + 8];

	list_kept(w, &record);
	record.config.uid = w->unpacked.uid;
	record.config.gid = w->unpacked.gid;
	record.config.groups = w->unpacked.groups;
	record.config.n_groups = w->unpacked.n_groups;
	codec_encode(&b, &image_record_codec, &record);
	if (buf_failed(&b))
		return err_set(err, -E2BIG, "the image's configuration is too long");
	snprintf(path, sizeof path, "%s/record", w->dir);
	return fd_write_file(path, 0600, b.p, b.n, err);
}

/* What takes long, writing it all to the disk, is done without the mutex: starts wait for nothing but a rename. That may find that
 * another reference's pull was first: then that one stays. */
static int publish(struct work *w, char ret_digest[IMAGE_DIGEST_SIZE], struct err *err)
{
	struct image_store *s = w->store;
	const char *hex = w->fetched.manifest.p + 7;
	char path[PATH_MAX];
	struct image_entry *entry;
	int r = store_path(s, "images", hex, NULL, path, err);

	if (r < 0)
		return r;
	r = disk_sync(w->dir, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&s->mutex);
	entry = store_find(s, w->fetched.manifest);
	if (entry == NULL)
		r = sweep_make_room(s, new_bytes(w), err);
	if (entry == NULL && r == 0 && rename(w->dir, path) < 0)
		r = err_system(err, -errno, "publish %s", path);
	if (entry == NULL && r == 0)
		r = store_load(s, hex, &entry, err);
	if (r == 0)
		entry->came_ms = clock_boot_ms();
	if (r == 0)
		r = store_alias(s, w->fetched.digest, entry, err);
	pthread_mutex_unlock(&s->mutex);
	if (r == 0)
		r = store_path(s, "images", NULL, NULL, path, err);
	if (r == 0)
		r = disk_sync_names(path, err);
	image_clean(s);
	if (r == 0)
		memcpy(ret_digest, entry->digest, IMAGE_DIGEST_SIZE);
	return r;
}

/* Is what was fetched here already? Then the rest need not be done: a tag was pulled whose image has another name. */
static bool present(struct work *w, char ret_digest[IMAGE_DIGEST_SIZE])
{
	struct image_store *s = w->store;
	struct image_entry *entry = NULL;

	if (!image_digest_valid(w->fetched.manifest) || !image_digest_valid(w->fetched.digest))
		return false;
	pthread_mutex_lock(&s->mutex);
	entry = store_find(s, w->fetched.manifest);
	if (entry != NULL) {
		(void)store_alias(s, w->fetched.digest, entry, NULL);
		memcpy(ret_digest, entry->digest, IMAGE_DIGEST_SIZE);
	}
	pthread_mutex_unlock(&s->mutex);
	return entry != NULL;
}

/* What is kept of other images, and what of this one. */
static int fetch_all(struct work *w, struct image_fetch_request *q, int source, image_progress *progress,
		     void *context, struct err *err)
{
	struct image_store *s = w->store;
	char layers[PATH_MAX + 8];
	int r = run_fetch(s, q,
			  &(struct spawn){.blobs = w->blobs,
					  .source = source,
					  .no_network = q->op == IMAGE_FETCH_IMPORT,
					  .total_ms = s->options.total_ms,
					  .progress = progress,
					  .context = context,
					  .stage = IMAGE_STAGE_FETCH},
			  &w->arena, &w->fetched, err);

	if (r < 0)
		return r;
	snprintf(layers, sizeof layers, "%s/layers", w->dir);
	if (mkdir(layers, 0700) < 0)
		return err_system(err, -errno, "make %s", layers);
	for (uint32_t i = 0; i < w->fetched.n_layers; i++)
		w->uses_kept = w->uses_kept || w->fetched.layers[i].cached;
	return kept_take(s, layers, w->blobs, w->fetched.layers, w->fetched.n_layers, err);
}

static int unpack_all(struct work *w, struct str name, image_progress *progress, void *context,
		      struct err *err)
{
	char layers[PATH_MAX + 8];
	int r = run_unpack(w, progress, context, err);

	snprintf(layers, sizeof layers, "%s/layers", w->dir);
	if (r == 0)
		r = check(w, err);
	if (r == 0)
		r = kept_add(layers, w->blobs, w->fetched.layers, w->fetched.n_layers, err);
	return r < 0 ? r : write_record(w, name, err);
}

/* *ret_stale: it failed, perhaps for what was kept. */
static int make(struct image_store *s, struct image_fetch_request *q, int source, struct str name,
		image_progress *progress, void *context, bool *ret_stale, char ret_digest[IMAGE_DIGEST_SIZE],
		struct err *err)
{
	struct work w;
	int r = work_begin(&w, s, err);

	if (r == 0)
		r = fetch_all(&w, q, source, progress, context, err);
	if (r == 0 && present(&w, ret_digest)) {
		work_end(&w);
		return 0;
	}
	if (r == 0)
		r = unpack_all(&w, name, progress, context, err);
	if (r == -ENOSPC || r == -EDQUOT)
		err_wrap(err, "the disk of the image store is full");
	*ret_stale = w.uses_kept && (r == -ESTALE || r == -EBADMSG || r == -E2BIG);
	if (r == 0)
		r = publish(&w, ret_digest, err);
	work_end(&w);
	return r;
}

/* A disk that others fill knows no bound of ours: what nothing uses goes then, and the pull is made once more. */
static bool made_room(struct image_store *s, int code, int source)
{
	bool again = source < 0 || lseek(source, 0, SEEK_SET) == 0; /* a pipe is read once */

	if ((code != -ENOSPC && code != -EDQUOT) || !again || sweep_unused(s) == 0)
		return false;
	image_clean(s);
	return true;
}

int pull_make(struct image_store *s, struct image_fetch_request *q, int source, struct str name,
	      image_progress *progress, void *context, char ret_digest[IMAGE_DIGEST_SIZE], struct err *err)
{
	bool kept_ones = true;

	for (int tries = 0;; tries++) {
		CLEANUP_ARENA struct arena arena = {0};
		bool stale = false;
		int r = kept_ones ? kept_list(s, &arena, &q->cached, &q->n_cached) : 0;

		if (r < 0)
			return err_set(err, r, "no memory for a pull");
		if (!kept_ones)
			q->n_cached = 0;
		r = make(s, q, source, name, progress, context, &stale, ret_digest, err);
		if (r == 0 || tries == TRIES_MAX || (!stale && !made_room(s, r, source)))
			return r;
		kept_ones = kept_ones && !stale;
	}
}

/* -- Pulls share ---------------------------------------------------------------------------------------------- */

static uint64_t hash_credentials(const struct image_credentials *c)
{
	return c == NULL ? 0 : str_hash(c->username) ^ (str_hash(c->password) * 31);
}

static struct image_flight *find_flight(struct image_store *s, const struct image_flight *like)
{
	struct image_flight *f = s->flights;

	while (f != NULL &&
	       (f->done || !str_eq(f->digest_wanted, like->digest_wanted) ||
		!str_eq(f->reference, like->reference) || f->credentials_hash != like->credentials_hash))
		f = f->next;
	return f;
}

/* Takes part in such a pull if there is one. 1: none, the caller pulls. Mutex held. */
static int join_flight(struct image_store *s, const struct image_flight *like, char digest[IMAGE_DIGEST_SIZE],
		       struct err *err)
{
	struct image_flight *f = find_flight(s, like);

	if (f == NULL)
		return 1;
	f->waiters++;
	while (!f->done)
		pthread_cond_wait(&s->changed, &s->mutex);
	int code = f->code;

	if (code < 0)
		err_set(err, code, "%s", f->err.message);
	memcpy(digest, f->digest, IMAGE_DIGEST_SIZE);
	f->waiters--;
	pthread_cond_broadcast(&s->changed);
	return code;
}

static void land(struct image_store *s, struct image_flight *f)
{
	struct image_flight **at = &s->flights;

	f->done = true;
	pthread_cond_broadcast(&s->changed);
	while (f->waiters > 0)
		pthread_cond_wait(&s->changed, &s->mutex);
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
}

int pull_check(struct str reference, struct str digest, const struct image_credentials *c, struct err *err)
{
	if (reference.n == 0 || reference.n > 512)
		return err_set(err, -EINVAL, "image: must have 1 to 512 bytes, not %zu", reference.n);
	if (digest.n > 0 && !image_digest_valid(digest))
		return err_set(err, -EINVAL, "digest: must be sha256: and 64 hexadecimal digits");
	if (c != NULL && (c->username.n > 256 || c->password.n > 16384))
		return err_set(err, -EINVAL,
			       "registry credentials: at most 256 bytes of user name and 16384 of password");
	return 0;
}

int image_pull(struct image_store *s, struct str reference, struct str digest,
	       const struct image_credentials *credentials, image_progress *progress, void *context,
	       char ret_digest[IMAGE_DIGEST_SIZE], struct err *err)
{
	struct image_flight flight = {.reference = reference,
				      .digest_wanted = digest,
				      .credentials_hash = hash_credentials(credentials)};
	char got[IMAGE_DIGEST_SIZE];
	int r = pull_check(reference, digest, credentials, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&s->mutex);
	struct image_entry *here = digest.n > 0 ? store_find(s, digest) : NULL;

	if (here != NULL)
		memcpy(got, here->digest, IMAGE_DIGEST_SIZE);
	else
		r = join_flight(s, &flight, got, err);
	if (r > 0) {
		struct image_fetch_request q = {
			.op = IMAGE_FETCH_PULL, .reference = reference, .digest = digest};

		if (credentials != NULL) {
			q.username = credentials->username;
			q.password = credentials->password;
		}
		flight.next = s->flights;
		s->flights = &flight;
		pthread_mutex_unlock(&s->mutex);
		r = pull_make(s, &q, -1, reference, progress, context, flight.digest, &flight.err);
		pthread_mutex_lock(&s->mutex);
		flight.code = r;
		if (r < 0)
			err_set(err, r, "%s", flight.err.message);
		memcpy(got, flight.digest, IMAGE_DIGEST_SIZE);
		land(s, &flight);
	}
	pthread_mutex_unlock(&s->mutex);
	if (r == 0 && ret_digest != NULL)
		memcpy(ret_digest, got, IMAGE_DIGEST_SIZE);
	return r;
}

int image_resolve(struct image_store *s, struct str reference, const struct image_credentials *credentials,
		  char ret_digest[IMAGE_DIGEST_SIZE], struct err *err)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct image_fetch_request q = {.op = IMAGE_FETCH_RESOLVE, .reference = reference};
	struct image_fetch_result result = {0};
	int r = pull_check(reference, STR_NONE, credentials, err);

	if (r < 0)
		return r;
	if (names_get(s, reference, ret_digest) == 0)
		return 0;
	if (credentials != NULL) {
		q.username = credentials->username;
		q.password = credentials->password;
	}
	r = run_fetch(s, &q, &(struct spawn){.blobs = -1, .source = -1, .total_ms = RESOLVE_MS}, &arena,
		      &result, err);
	if (r == 0 && !image_digest_valid(result.digest))
		r = err_set(err, -EBADMSG, "berth-fetch: its result is malformed");
	if (r == 0)
		r = str_copy(result.digest, ret_digest, IMAGE_DIGEST_SIZE);
	return r;
}
