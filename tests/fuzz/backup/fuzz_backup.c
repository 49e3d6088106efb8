/* fuzz_backup.c -- bytes for the reader of backups. The first byte's lowest bit: 0 takes the rest as a file; 1 takes it as
 * pieces, [kind][length of up to 255][bytes]..., encrypts them as a writer would, and so reaches what stands behind the
 * encryption. The second byte says in what portions the reader gets them. What is taken must have been whole. */
#include <string.h>

#include "backup/backup.h"
#include "core/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t recipient[PARCEL_KEY_BYTES], identity[PARCEL_KEY_BYTES];

static void encrypt(const uint8_t *data, size_t size, struct buf *to)
{
	struct parcel_writer *w = parcel_writer_new(recipient, to);

	while (size >= 2) {
		size_t n = data[1] < size - 2 ? data[1] : size - 2;

		parcel_write(w, data[0], data + 2, n, size - 2 - n < 2, to);
		data += 2 + n;
		size -= 2 + n;
	}
	parcel_writer_free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_BUF struct buf text = {0}, bytes = {0};
	struct backup_reader *r;
	struct backup found;
	struct err err = {0};
	int rc = 0;

	if (size < 2)
		return 0;
	if (identity[0] == 0) {
		parcel_key_make(recipient, &text);
		must(parcel_identity_parse(buf_str(&text), identity, NULL) == 0);
	}
	if (data[0] & 1)
		encrypt(data + 2, size - 2, &bytes);
	else
		buf_add(&bytes, data + 2, size - 2);
	r = backup_reader_new(identity);
	for (size_t at = 0, piece = data[1] + 1u; rc == 0 && at < bytes.n; at += piece)
		rc = backup_reader_add(r, bytes.p + at, at + piece < bytes.n ? piece : bytes.n - at, &err);
	if (rc == 0 && backup_reader_end(r, &found, &err) == 0) {
		must(found.manifest.format == 1 && (data[0] & 1));
		backup_done(&found);
	} else {
		must(err.message[0] != '\0');
	}
	backup_reader_free(r);
	return 0;
}
