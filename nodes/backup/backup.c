#include "backup/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/codec.h"
#include "core/fd.h"
#include "core/must.h"
#include "crypto/digest.h"

#define FORMAT       1
#define RING_MAX     65536
#define IDENTITY_MAX 4096
#define READ_BYTES   65536

enum piece { PIECE_MANIFEST = 1, PIECE_RING, PIECE_TABLES, PIECE_END };

struct end {
	uint64_t tables_bytes;
};

static const struct codec_field manifest_fields[] = {
	CODEC_U32(struct backup_manifest, format),      CODEC_STR(struct backup_manifest, cluster, 64),
	CODEC_U64(struct backup_manifest, incarnation), CODEC_U64(struct backup_manifest, index),
	CODEC_U64(struct backup_manifest, time_ms),     CODEC_U64(struct backup_manifest, taken_ms),
	CODEC_U64(struct backup_manifest, node),        CODEC_STR(struct backup_manifest, version, 64),
};
static const struct codec_type manifest_codec =
	CODEC_TYPE(struct backup_manifest, "manifest", manifest_fields);

static const struct codec_field end_fields[] = {
	CODEC_U64(struct end, tables_bytes),
};
static const struct codec_type end_codec = CODEC_TYPE(struct end, "end", end_fields);

/* -- Writing --------------------------------------------------------------------------------------------------------- */

struct parcel_writer *backup_begin(const uint8_t recipient[PARCEL_KEY_BYTES],
				   const struct backup_manifest *manifest, struct str ring, struct buf *to)
{
	struct parcel_writer *w = parcel_writer_new(recipient, to);
	struct backup_manifest mine = *manifest;
	CLEANUP_BUF struct buf bytes = {0};

	mine.format = FORMAT;
	codec_encode(&bytes, &manifest_codec, &mine);
	parcel_write(w, PIECE_MANIFEST, bytes.p, bytes.n, false, to);
	must(ring.n <= RING_MAX);
	parcel_write(w, PIECE_RING, ring.p, ring.n, false, to);
	return w;
}

void backup_tables(struct parcel_writer *w, const void *p, size_t n, struct buf *to)
{
	const char *from = p;

	for (size_t part; n > 0; n -= part, from += part) {
		part = n < PARCEL_PIECE_MAX ? n : PARCEL_PIECE_MAX;
		parcel_write(w, PIECE_TABLES, from, part, false, to);
	}
}

void backup_finish(struct parcel_writer *w, uint64_t tables_bytes, struct buf *to)
{
	CLEANUP_BUF struct buf bytes = {0};

	codec_encode(&bytes, &end_codec, &(struct end){tables_bytes});
	parcel_write(w, PIECE_END, bytes.p, bytes.n, true, to);
}

/* -- Reading --------------------------------------------------------------------------------------------------------- */

struct backup_reader {
	struct parcel_reader *parcel;
	struct backup found;
	uint8_t last; /* enum piece; 0: none yet */
};

static void wipe(struct buf *b)
{
	if (b->p != NULL)
		crypto_wipe(b->p, b->n);
	buf_done(b);
}

void backup_done(struct backup *b)
{
	wipe(&b->ring);
	wipe(&b->tables);
	arena_done(&b->memory);
}

static int take_manifest(struct backup_reader *r, const void *p, size_t n, struct err *err)
{
	int rc = codec_decode(p, n, &manifest_codec, &r->found.memory, &r->found.manifest, err);

	if (rc < 0)
		return err_wrap(err, "backup");
	if (r->found.manifest.format != FORMAT)
		return err_set(err, -EPROTO, "backup: contents of format %u; this version knows %d",
			       r->found.manifest.format, FORMAT);
	return 0;
}

static int take_end(struct backup_reader *r, const void *p, size_t n, struct err *err)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct end end;
	int rc = codec_decode(p, n, &end_codec, &arena, &end, err);

	if (rc < 0)
		return err_wrap(err, "backup");
	if (end.tables_bytes != r->found.tables.n)
		return err_set(err, -EBADMSG, "backup: %zu bytes of tables; its end says %" PRIu64,
			       r->found.tables.n, end.tables_bytes);
	return 0;
}

static int take(void *context, uint8_t kind, const void *p, size_t n, struct err *err)
{
	struct backup_reader *r = context;
	bool follows = kind == r->last + 1 || (kind == PIECE_TABLES && r->last == PIECE_TABLES);

	if (!follows || kind > PIECE_END)
		return err_set(err, -EBADMSG, "backup: a piece of kind %u behind one of kind %u", kind,
			       r->last);
	r->last = kind;
	if (kind == PIECE_MANIFEST)
		return take_manifest(r, p, n, err);
	if (kind == PIECE_END)
		return take_end(r, p, n, err);
	buf_add(kind == PIECE_RING ? &r->found.ring : &r->found.tables, p, n);
	if (buf_failed(&r->found.tables) || buf_failed(&r->found.ring))
		return err_set(err, -EFBIG, "backup: more than %llu bytes of tables, or no memory for them",
			       (unsigned long long)BACKUP_TABLES_MAX);
	return 0;
}

struct backup_reader *backup_reader_new(const uint8_t identity[PARCEL_KEY_BYTES])
{
	struct backup_reader *r = calloc(1, sizeof *r);

	must(r != NULL);
	r->found.ring = BUF_MAX(RING_MAX);
	r->found.tables = BUF_MAX(BACKUP_TABLES_MAX);
	r->parcel = parcel_reader_new(identity, take, r);
	return r;
}

void backup_reader_free(struct backup_reader *r)
{
	if (r == NULL)
		return;
	parcel_reader_free(r->parcel);
	backup_done(&r->found);
	free(r);
}

int backup_reader_add(struct backup_reader *r, const void *p, size_t n, struct err *err)
{
	return parcel_read(r->parcel, p, n, err);
}

int backup_reader_end(struct backup_reader *r, struct backup *ret, struct err *err)
{
	int rc = parcel_end(r->parcel, err);

	if (rc == 0 && r->last != PIECE_END)
		rc = err_set(err, -EBADMSG, "backup: it ends behind a piece of kind %u", r->last);
	if (rc < 0)
		return rc;
	*ret = r->found;
	r->found = (struct backup){0};
	return 0;
}

static int read_identity(const char *path, uint8_t ret[PARCEL_KEY_BYTES], struct err *err)
{
	CLEANUP_BUF struct buf text = {0};
	int rc = fd_read_file(path, IDENTITY_MAX, &text, err);

	if (rc == 0)
		rc = parcel_identity_parse(buf_str(&text), ret, err);
	if (text.p != NULL)
		crypto_wipe(text.p, text.n);
	return rc < 0 ? err_wrap(err, "%s", path) : 0;
}

static int add_file(struct backup_reader *r, const char *path, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = -1;
	int rc = 0;

	if (fd < 0)
		return err_system(err, -errno, "%s", path);
	CLEANUP_FREE char *bytes = malloc(READ_BYTES);

	must(bytes != NULL);
	while (rc == 0 && (got = read(fd, bytes, READ_BYTES)) > 0)
		rc = backup_reader_add(r, bytes, (size_t)got, err);
	if (rc == 0 && got < 0)
		rc = err_system(err, -errno, "%s", path);
	return rc;
}

int backup_read(const char *path, const char *identity_path, struct backup *ret, struct err *err)
{
	uint8_t identity[PARCEL_KEY_BYTES];
	struct backup_reader *r;
	int rc = read_identity(identity_path, identity, err);

	if (rc < 0)
		return rc;
	r = backup_reader_new(identity);
	crypto_wipe(identity, sizeof identity);
	rc = add_file(r, path, err);
	if (rc == 0)
		rc = backup_reader_end(r, ret, err);
	backup_reader_free(r);
	return rc < 0 ? err_wrap(err, "%s", path) : 0;
}
