/* parcel.h -- a stream of pieces that one recipient alone can open, for backups.
 *
 * Head: 8 bytes of magic, the format (u32 big endian), a key of its own for this parcel sealed to the recipient's X25519 key
 * (libsodium's sealed box, 80 bytes), and the stream's header (24 bytes). Then chunks of [length u32 big endian][ciphertext]
 * (libsodium's secretstream over XChaCha20-Poly1305, the length as associated data); a chunk's plaintext is one byte that says
 * what it is, then at most PARCEL_PIECE_MAX bytes. The last chunk carries the stream's final tag: a parcel that was cut, or to
 * which something was added, is refused, as is one of which any byte was changed.
 * Nothing is written here but ciphertext. Memory: one chunk. Any thread, one at a time. */
#ifndef CRYPTO_PARCEL_H
#define CRYPTO_PARCEL_H

#include "core/buf.h"
#include "core/err.h"

#define PARCEL_KEY_BYTES 32
#define PARCEL_PIECE_MAX (64u * 1024)
#define PARCEL_KEY_TEXT  (4 + 64 + 8 + 1) /* "bpk-", the key, four bytes of its hash; a NUL */

struct parcel_writer;
struct parcel_reader;

/* A recipient's key as people pass it on, with a sum that finds a slip of the pen. -EINVAL. */
void parcel_key_text(const uint8_t key[PARCEL_KEY_BYTES], char ret[PARCEL_KEY_TEXT]);
int parcel_key_parse(struct str text, uint8_t ret[PARCEL_KEY_BYTES], struct err *err);
/* A new pair. `ret_identity` is the text of an identity file; the caller wipes it. */
void parcel_key_make(uint8_t ret_public[PARCEL_KEY_BYTES], struct buf *ret_identity);
/* The private half, of an identity file's text. -EINVAL. */
int parcel_identity_parse(struct str text, uint8_t ret[PARCEL_KEY_BYTES], struct err *err);

/* Appends the head to `to`. */
struct parcel_writer *parcel_writer_new(const uint8_t recipient[PARCEL_KEY_BYTES], struct buf *to);
/* Appends one chunk; n at most PARCEL_PIECE_MAX. `last`: the final one. */
void parcel_write(struct parcel_writer *w, uint8_t kind, const void *p, size_t n, bool last, struct buf *to);
void parcel_writer_free(struct parcel_writer *w); /* wipes; NULL is fine */

/* `taken` answers 0 or an error, which ends the reading. */
typedef int parcel_taken(void *context, uint8_t kind, const void *p, size_t n, struct err *err);
struct parcel_reader *parcel_reader_new(const uint8_t identity[PARCEL_KEY_BYTES], parcel_taken *taken,
					void *context);
/* The next bytes of the parcel, however many. -EBADMSG: not a parcel, damaged, or more behind its end; -ENOKEY: for another
 * recipient; -EPROTO: a newer format. After an error no more may be read. */
int parcel_read(struct parcel_reader *r, const void *p, size_t n, struct err *err);
/* All bytes were read. -EBADMSG: the end is missing. */
int parcel_end(const struct parcel_reader *r, struct err *err);
void parcel_reader_free(struct parcel_reader *r);

#endif
