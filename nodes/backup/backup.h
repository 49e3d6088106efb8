/* backup.h -- what a backup of a cluster holds, inside of the parcel (crypto/parcel.h) that its operator alone can open:
 * a manifest, the key ring that the keys in the tables are sealed under, the tables as a snapshot has them, and an end that
 * counts. It and the operator's identity are all that a restore needs.
 *
 * Happy path of writing: backup_begin, backup_tables with pieces of a snapshot, backup_finish; each appends to `to`.
 * Failure modes of reading: whatever is damaged, cut, out of order or too long is refused; nothing read before counts then.
 * Thread: any, one at a time. Pure but for random bytes. */
#ifndef BACKUP_BACKUP_H
#define BACKUP_BACKUP_H

#include "core/arena.h"
#include "crypto/parcel.h"

#define BACKUP_TABLES_MAX (8ull << 30)

struct backup_manifest {
	uint32_t format;
	struct str cluster;
	uint64_t incarnation, index, time_ms; /* of the tables */
	uint64_t taken_ms;                    /* wall clock */
	uint64_t node;                        /* that made it */
	struct str version;                   /* its program's */
};

/* -- Writing */
struct parcel_writer *backup_begin(const uint8_t recipient[PARCEL_KEY_BYTES],
				   const struct backup_manifest *manifest, struct str ring, struct buf *to);
void backup_tables(struct parcel_writer *w, const void *p, size_t n, struct buf *to);
/* tables_bytes: of all pieces. */
void backup_finish(struct parcel_writer *w, uint64_t tables_bytes, struct buf *to);

/* -- Reading */
struct backup {
	struct arena memory;
	struct backup_manifest manifest;
	struct buf ring, tables; /* secret; backup_done wipes them */
};
struct backup_reader;
struct backup_reader *backup_reader_new(const uint8_t identity[PARCEL_KEY_BYTES]);
/* -EBADMSG, -ENOKEY, -EPROTO as parcel_read. */
int backup_reader_add(struct backup_reader *r, const void *p, size_t n, struct err *err);
/* All was added: gives it out, or -EBADMSG. */
int backup_reader_end(struct backup_reader *r, struct backup *ret, struct err *err);
void backup_reader_free(struct backup_reader *r);
/* The same of a file; `identity_path` is an identity file. */
int backup_read(const char *path, const char *identity_path, struct backup *ret, struct err *err);
void backup_done(struct backup *b);

#endif
