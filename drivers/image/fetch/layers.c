#include "image_fetch/layers.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "core/must.h"
#include "crypto/sha256.h"

struct fetching {
	const struct descriptor *wanted;
	struct image_layer *layers;
	const uint32_t *same; /* by layer: an earlier one of the same digest, or itself */
	uint32_t n;
	pthread_mutex_t mutex; /* guards what follows */
	uint32_t next;
	int code;
	struct err err; /* of the first failure */
	bool stop;      /* read without the mutex */
};

struct worker {
	struct fetching *job;
	struct walk_source source;
	pthread_t thread;
};

int layers_write(void *sink, const void *p, size_t n)
{
	struct layer_sink *s = sink;
	const char *from = p;

	if (s->stop != NULL && __atomic_load_n(s->stop, __ATOMIC_RELAXED))
		return -ECANCELED;
	if (n > s->bytes_max - s->bytes)
		return -E2BIG;
	sha256_add(s->hash, p, n);
	while (n > 0) {
		ssize_t wrote = pwrite(IMAGE_FD_BLOBS, from, n, (off_t)(s->offset + s->bytes));

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0)
			return -errno;
		from += wrote;
		n -= (size_t)wrote;
		s->bytes += (uint64_t)wrote;
	}
	return 0;
}

static int get_one(const struct walk_source *source, const struct descriptor *d,
		   const struct image_layer *layer, const bool *stop, struct err *err)
{
	struct layer_sink sink = {
		.offset = layer->offset, .bytes_max = d->bytes, .hash = sha256_new(), .stop = stop};
	char hex[SHA256_HEX_SIZE];
	int r = source->blob(source->context, d, layers_write, &sink, err);

	sha256_end(sink.hash, hex);
	if (r < 0)
		return r;
	if (sink.bytes != d->bytes)
		return err_set(err, -EBADMSG, "layer %.*s has %llu bytes, not %llu", STR_ARGS(d->digest),
			       (unsigned long long)sink.bytes, (unsigned long long)d->bytes);
	if (!str_eq(str_of(hex), layer->digest))
		return err_set(err, -EBADMSG, "layer %.*s has digest sha256:%s", STR_ARGS(d->digest), hex);
	return 0;
}

/* -- Threads ------------------------------------------------------------------------------------------------ */

static bool take_next(struct fetching *f, uint32_t *ret)
{
	bool found = false;

	pthread_mutex_lock(&f->mutex);
	while (!found && f->code == 0 && f->next < f->n) {
		*ret = f->next++;
		found = f->same[*ret] == *ret && !f->layers[*ret].cached;
	}
	pthread_mutex_unlock(&f->mutex);
	return found;
}

static void *work(void *context)
{
	struct worker *w = context;
	struct fetching *f = w->job;
	uint32_t i;

	while (take_next(f, &i)) {
		struct err err = {0};
		int r = get_one(&w->source, &f->wanted[i], &f->layers[i], &f->stop, &err);

		pthread_mutex_lock(&f->mutex);
		if (r < 0 && f->code == 0) {
			f->code = r;
			f->err = err;
			__atomic_store_n(&f->stop, true, __ATOMIC_RELAXED);
		}
		pthread_mutex_unlock(&f->mutex);
	}
	return NULL;
}

static int get_all(const struct walk_source *source, struct fetching *f, uint32_t parallel, struct err *err)
{
	struct worker workers[IMAGE_PARALLEL_MAX] = {{.job = f, .source = *source}};
	uint32_t n = 1;

	pthread_mutex_init(&f->mutex, NULL);
	/* Fewer threads than wished for are no failure. */
	while (source->fork != NULL && n < parallel && n < f->n && n < IMAGE_PARALLEL_MAX) {
		struct worker *w = &workers[n];

		w->job = f;
		if (source->fork(source->context, &w->source, NULL) < 0)
			break;
		if (pthread_create(&w->thread, NULL, work, w) != 0) {
			w->source.end(w->source.context);
			break;
		}
		n++;
	}
	(void)work(&workers[0]);
	while (--n > 0) {
		must(pthread_join(workers[n].thread, NULL) == 0);
		workers[n].source.end(workers[n].source.context);
	}
	pthread_mutex_destroy(&f->mutex);
	return f->code < 0 ? err_set(err, f->code, "%s", f->err.message) : 0;
}

/* -- Before anything is asked for ---------------------------------------------------------------------------------- */

static bool is_cached(const struct walk_bounds *bounds, struct str hex)
{
	for (uint32_t i = 0; i < bounds->n_cached; i++) {
		if (str_eq(bounds->cached[i], hex))
			return true;
	}
	return false;
}

static int check_bounds(const struct manifest *m, const struct walk_bounds *bounds, struct err *err)
{
	uint64_t total = 0;

	if (m->n_layers > bounds->layers_max)
		return err_set(err, -E2BIG, "the image has %u layers, %u are allowed", m->n_layers,
			       bounds->layers_max);
	for (uint32_t i = 0; i < m->n_layers; i++) {
		uint64_t bytes = m->layers[i].bytes;

		if (bytes > bounds->layer_bytes_max)
			return err_set(err, -E2BIG, "layer %u has %llu bytes, %llu are allowed", i + 1,
				       (unsigned long long)bytes,
				       (unsigned long long)bounds->layer_bytes_max);
		if (bytes > bounds->bytes_max - total)
			return err_set(err, -E2BIG, "the image's layers have more than %llu bytes",
				       (unsigned long long)bounds->bytes_max);
		total += bytes;
	}
	return 0;
}

/* Gives each layer its place; *ret_same as in struct fetching. */
static int lay_out(const struct manifest *m, const struct config_diffs *diffs,
		   const struct walk_bounds *bounds, struct arena *arena, struct image_layer *layers,
		   uint32_t **ret_same, struct err *err)
{
	uint32_t *same = arena_array(arena, m->n_layers, sizeof *same);
	uint64_t total = 0;

	if (same == NULL)
		return err_set(err, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct descriptor *d = &m->layers[i];

		same[i] = 0;
		while (same[i] < i && !str_eq(m->layers[same[i]].digest, d->digest))
			same[i]++;
		if (same[i] < i && m->layers[same[i]].bytes != d->bytes)
			return err_set(err, -EBADMSG, "layers %u and %u are one, with different sizes",
				       same[i] + 1, i + 1);
		layers[i] = same[i] < i
				    ? layers[same[i]]
				    : (struct image_layer){.offset = total,
							   .bytes = d->bytes,
							   .digest = str_slice(d->digest, 7, d->digest.n)};
		layers[i].diff_id = diffs->hex[i];
		layers[i].cached = is_cached(bounds, layers[i].digest);
		if (same[i] == i && !layers[i].cached)
			total += d->bytes;
	}
	*ret_same = same;
	return 0;
}

int layers_get(const struct walk_source *source, const struct manifest *m, const struct config_diffs *diffs,
	       const struct walk_bounds *bounds, struct arena *arena, struct image_fetch_result *ret,
	       struct err *err)
{
	struct fetching f = {.wanted = m->layers, .n = m->n_layers};
	uint32_t *same = NULL;
	int r = check_bounds(m, bounds, err);

	if (r < 0)
		return r;
	f.layers = arena_array(arena, m->n_layers, sizeof *f.layers);
	if (f.layers == NULL)
		return err_set(err, -ENOMEM, "no memory");
	r = lay_out(m, diffs, bounds, arena, f.layers, &same, err);
	if (r < 0)
		return r;
	f.same = same;
	r = get_all(source, &f, bounds->parallel, err);
	if (r == 0) {
		ret->layers = f.layers;
		ret->n_layers = f.n;
	}
	return r;
}
