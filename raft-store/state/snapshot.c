/* snapshot.c -- the tables as bytes, and back.
 *
 * Format: 7 bytes of magic and the format's number, then frames of [kind u8][length u32 big endian][msgpack]. The first frame is the header (
 * feature level, incarnation, index, hash of the tables), then the rows kind by kind in the order of their keys, last an
 * end frame with the number of rows and an FNV-1a sum of everything before it.
 * Happy path: state_snapshot_new() shares the trees; writing walks them, on any thread.
 * Failure modes of restore: whatever is cut, garbled, out of order, double, refers to nothing or breaks an invariant is
 * -EBADMSG, a newer format or feature level -EPROTO; the tables stay as they were. Rows are built beside the old ones. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"
#include "state/apply/apply.h"
#include "state/store.h"

#define FORMAT       1
#define PIECE_BYTES  (256u * 1024)
#define FRAME_HEAD   5u
#define FRAME_HEADER 0xf0u
#define FRAME_END    0xffu

/* The eighth byte is the format: what follows it may be anything in another one. */
static const char magic[8] = {'b', 'e', 'r', 't', 'h', 's', 'n', FORMAT};

struct header {
	uint32_t feature_level;
	uint64_t incarnation, index, hash;
};

static const struct codec_field header_fields[] = {
	CODEC_U32(struct header, feature_level),
	CODEC_U64(struct header, incarnation),
	CODEC_U64(struct header, index),
	CODEC_U64(struct header, hash),
};
static const struct codec_type header_codec = CODEC_TYPE(struct header, "snapshot header", header_fields);

struct trailer {
	uint64_t rows, sum;
};

static const struct codec_field trailer_fields[] = {
	CODEC_U64(struct trailer, rows),
	CODEC_U64(struct trailer, sum),
};
static const struct codec_type trailer_codec = CODEC_TYPE(struct trailer, "snapshot end", trailer_fields);

struct state_snapshot {
	struct tree rows[KINDS];
	struct header header;
};

/* -- Writing ---------------------------------------------------------------------------------------------------- */

struct state_snapshot *state_snapshot_new(struct state *s)
{
	struct state_snapshot *snapshot = calloc(1, sizeof *snapshot);
	const struct cluster_row *cluster = state_cluster(s);

	must(snapshot != NULL);
	for (enum kind kind = 0; kind < KINDS; kind++)
		snapshot->rows[kind] = tree_share(&s->rows[kind]);
	snapshot->header = (struct header){.feature_level = cluster->feature_level,
					   .incarnation = cluster->incarnation,
					   .index = s->index,
					   .hash = state_hash(s)};
	return snapshot;
}

void state_snapshot_free(struct state_snapshot *snapshot)
{
	if (snapshot == NULL)
		return;
	for (enum kind kind = 0; kind < KINDS; kind++)
		tree_done(&snapshot->rows[kind]);
	free(snapshot);
}

struct writer {
	struct buf buf;
	uint64_t rows, sum;
	enum kind kind;
	int (*write)(void *to, const void *p, size_t n);
	void *to;
};

static int flush(struct writer *w, bool all)
{
	while (w->buf.n >= PIECE_BYTES || (all && w->buf.n > 0)) {
		size_t n = w->buf.n < PIECE_BYTES ? w->buf.n : PIECE_BYTES;
		int r;

		w->sum = str_hash_stable((struct str){w->buf.p, n}, w->sum);
		r = w->write(w->to, w->buf.p, n);
		if (r < 0)
			return r;
		buf_drop(&w->buf, n);
	}
	return 0;
}

static int frame(struct writer *w, uint8_t kind, const struct codec_type *type, const void *value)
{
	uint8_t head[FRAME_HEAD] = {kind};
	size_t at = w->buf.n, n;

	buf_add(&w->buf, head, sizeof head);
	codec_encode(&w->buf, type, value);
	if (buf_failed(&w->buf))
		return -ENOMEM;
	n = w->buf.n - at - FRAME_HEAD;
	for (unsigned i = 0; i < 4; i++)
		w->buf.p[at + 1 + i] = (char)(uint8_t)(n >> (24 - 8 * i));
	return flush(w, false);
}

static int write_row(void *to, const struct row *row)
{
	struct writer *w = to;

	w->rows++;
	return frame(w, (uint8_t)w->kind, kind_types[w->kind].codec, row->value);
}

int state_snapshot_write(const struct state_snapshot *snapshot,
			 int (*write)(void *to, const void *p, size_t n), void *to)
{
	struct writer w = {.write = write, .to = to};
	struct trailer end;
	int r;

	buf_add(&w.buf, magic, sizeof magic);
	r = frame(&w, FRAME_HEADER, &header_codec, &snapshot->header);
	for (w.kind = 0; w.kind < KINDS && r == 0; w.kind++)
		r = tree_walk(&snapshot->rows[w.kind], write_row, &w);
	if (r == 0)
		r = flush(&w, true);
	if (r == 0) {
		end = (struct trailer){.rows = w.rows, .sum = w.sum};
		r = frame(&w, FRAME_END, &trailer_codec, &end);
	}
	if (r == 0)
		r = flush(&w, true);
	buf_done(&w.buf);
	return r;
}

/* -- Restoring -------------------------------------------------------------------------------------------------- */

struct reader {
	const uint8_t *p;
	size_t n, at;
	struct state fresh;
	struct arena arena; /* of one row */
	struct err *err;
	struct header header;
	enum kind kind;
	const void *last; /* row of this kind */
	uint64_t rows;
};

static int broken(struct reader *r, const char *what)
{
	return err_set(r->err, -EBADMSG, "snapshot, byte %zu: %s", r->at, what);
}

/* The next frame's kind and bytes; r->at stays at its start until `skip`. */
static int next_frame(struct reader *r, uint8_t *ret_kind, struct str *ret_bytes)
{
	const uint8_t *head = r->p + r->at;
	size_t n;

	if (r->n - r->at < FRAME_HEAD)
		return broken(r, "it is cut off");
	n = (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
	if (n > CODEC_BYTES_MAX || n > r->n - r->at - FRAME_HEAD)
		return broken(r, "it is cut off inside a row");
	*ret_kind = head[0];
	*ret_bytes = (struct str){(const char *)head + FRAME_HEAD, n};
	return 0;
}

static int decode(struct reader *r, struct str bytes, const struct codec_type *type, void *ret)
{
	arena_done(&r->arena);
	if (codec_decode(bytes.p, bytes.n, type, &r->arena, ret, r->err) < 0)
		return err_wrap(r->err, "snapshot, byte %zu", r->at);
	r->at += FRAME_HEAD + bytes.n;
	return 0;
}

/* Whether the store can take the row: its maps need the pool, and know nothing of doubles. */
static bool fits(const struct state *s, enum kind kind, const void *value)
{
	const struct session_row *session = value;
	const struct sandbox_row *sandbox = value;
	const struct pool_row *pool = value;

	if (kind == KIND_POOLS)
		return state_pool_by_name(s, pool->subscription, pool->resource_group, pool->name) == NULL;
	if (kind == KIND_SANDBOXES)
		return store_pool_live(s, sandbox->pool) != NULL && state_sandbox(s, sandbox->id) == NULL;
	if (kind == KIND_SESSIONS)
		return store_pool_live(s, session->pool) != NULL &&
		       state_session_by_generation(s, session->generation) == NULL &&
		       state_session(s, session->pool, session->identifier) == NULL;
	return true;
}

static int take_row(struct reader *r, enum kind kind, struct str bytes)
{
	const struct kind_type *type = &kind_types[kind];
	void *value = calloc(1, type->codec->size);
	int code;

	must(value != NULL);
	code = decode(r, bytes, type->codec, value);
	if (code == 0 && kind != r->kind) {
		if (kind < r->kind)
			code = broken(r, "tables out of order");
		r->kind = kind;
		r->last = NULL;
	}
	if (code == 0 && r->last != NULL && tree_key_cmp(type->key(r->last), type->key(value)) >= 0)
		code = broken(r, "rows out of order");
	if (code == 0 && !fits(&r->fresh, kind, value))
		code = broken(r, "a row appears twice, or its pool is missing");
	if (code == 0) {
		r->last = store_put_silent(&r->fresh, kind, value);
		r->rows++;
	}
	free(value);
	return code;
}

static int take_end(struct reader *r, struct str bytes)
{
	uint64_t sum = 0;
	struct trailer end = {0};

	for (size_t at = 0; at < r->at; at += PIECE_BYTES)
		sum = str_hash_stable((struct str){(const char *)r->p + at,
						   r->at - at < PIECE_BYTES ? r->at - at : PIECE_BYTES},
				      sum);
	if (decode(r, bytes, &trailer_codec, &end) < 0)
		return -EBADMSG;
	if (r->at != r->n)
		return broken(r, "bytes behind the end");
	if (end.rows != r->rows || end.sum != sum)
		return broken(r, "its sum is wrong");
	return 0;
}

static int take_header(struct reader *r)
{
	struct str bytes;
	uint8_t kind;

	if (r->n < sizeof magic || memcmp(r->p, magic, sizeof magic - 1) != 0)
		return broken(r, "this is no snapshot");
	if (r->p[sizeof magic - 1] != FORMAT)
		return err_set(r->err, -EPROTO, "snapshot: format %u; this version knows %d",
			       r->p[sizeof magic - 1], FORMAT);
	r->at = sizeof magic;
	if (next_frame(r, &kind, &bytes) < 0)
		return -EBADMSG;
	if (kind != FRAME_HEADER)
		return broken(r, "it has no header");
	if (decode(r, bytes, &header_codec, &r->header) < 0)
		return -EBADMSG;
	if (r->header.feature_level > FEATURE_LEVEL)
		return err_set(r->err, -EPROTO, "snapshot: feature level %u; this version has %d",
			       r->header.feature_level, FEATURE_LEVEL);
	return 0;
}

static int take_all(struct reader *r)
{
	const struct cluster_row *cluster;
	struct str bytes;
	uint8_t kind;
	int code = take_header(r);

	while (code == 0) {
		code = next_frame(r, &kind, &bytes);
		if (code < 0)
			break;
		if (kind == FRAME_END) {
			code = take_end(r, bytes);
			break;
		}
		code = kind < KINDS ? take_row(r, (enum kind)kind, bytes) : broken(r, "an unknown table");
	}
	if (code < 0)
		return code;
	cluster = state_cluster(&r->fresh);
	r->fresh.index = r->header.index;
	if (cluster->incarnation != r->header.incarnation ||
	    cluster->feature_level != r->header.feature_level)
		return broken(r, "header and cluster row differ");
	if (state_hash(&r->fresh) != r->header.hash)
		return broken(r, "the tables' hash is not the header's");
	return state_check(&r->fresh, r->err) < 0 ? err_wrap(r->err, "snapshot") : 0;
}

int state_read(const void *p, size_t n, struct state **ret, struct err *err)
{
	struct reader r = {.p = p, .n = n, .err = err};
	int code;

	store_init(&r.fresh);
	code = take_all(&r);
	arena_done(&r.arena);
	store_begin(&r.fresh);
	if (code < 0) {
		store_done(&r.fresh);
		return code == -EPROTO ? -EPROTO : -EBADMSG;
	}
	*ret = malloc(sizeof **ret);
	must(*ret != NULL);
	**ret = r.fresh;
	return 0;
}

void state_swap(struct state *s, struct state *other)
{
	struct state was = *s;

	*s = *other;
	*other = was;
}

int state_restore(struct state *s, const void *p, size_t n, struct err *err)
{
	struct state *fresh = NULL;
	int code = state_read(p, n, &fresh, err);

	if (code < 0)
		return code;
	state_swap(s, fresh);
	state_free(fresh);
	return 0;
}
