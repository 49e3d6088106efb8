/* codec.h -- every message, command and stored row is a plain struct described once by a table of fields;
 * this file turns such structs into msgpack and back.
 *
 * On the wire a struct is an array of its fields in the table's order. Decoding is strict: the bytes come from a
 * network or a disk. A token scan bounds depth and sizes before anything is allocated; wrong types, values above a
 * field's maximum, surplus elements and trailing bytes are errors that name the field. Fewer elements than the table
 * has are allowed (an older writer): the missing fields are zero. New fields are only ever added at the end.
 *
 *   struct greeting { uint64_t id; struct str text; struct point *points; uint32_t n_points; };
 *   static const struct codec_field greeting_fields[] = {
 *           CODEC_U64(struct greeting, id),
 *           CODEC_STR(struct greeting, text, 128),
 *           CODEC_LIST(struct greeting, points, 16, &point_codec),
 *   };
 *   const struct codec_type greeting_codec = CODEC_TYPE(struct greeting, "greeting", greeting_fields);
 *
 * Decoded strings and lists are copies in the arena that the caller passes. */
#ifndef CORE_CODEC_H
#define CORE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "buf.h"
#include "err.h"
#include "str.h"

#define CODEC_DEPTH_MAX 16
#define CODEC_BYTES_MAX (1u << 20) /* of one message or command; snapshots are streams of such */

enum codec_kind {
	CODEC_KIND_UINT,  /* uint8_t, uint16_t, uint32_t, uint64_t by the field's size; bounded by max */
	CODEC_KIND_INT,   /* int32_t, int64_t */
	CODEC_KIND_BOOL,  /* bool */
	CODEC_KIND_STR,   /* struct str, at most max bytes; any bytes */
	CODEC_KIND_ONE,   /* a struct in place */
	CODEC_KIND_LIST,  /* T *x; uint32_t n_x; at most max elements */
	CODEC_KIND_STRS,  /* struct str *x; uint32_t n_x; at most max elements of at most 32 KiB each */
	CODEC_KIND_UINTS, /* uint64_t *x; uint32_t n_x */
};

struct codec_type;

struct codec_field {
	const char *name;
	enum codec_kind kind;
	bool secret; /* codec_print shows its length alone */
	uint32_t offset, size;
	uint32_t count_offset; /* of n_x, for lists */
	uint64_t max;
	const struct codec_type *type;
};

struct codec_type {
	const char *name;
	size_t size;
	const struct codec_field *fields;
	size_t n_fields;
};

#define CODEC_FIELD_(T, f, k, m) \
	.name = #f, .kind = (k), .offset = offsetof(T, f), .size = sizeof(((T *)0)->f), .max = (m)
#define CODEC_U8(T, f)                                         \
	{                                                      \
		CODEC_FIELD_(T, f, CODEC_KIND_UINT, UINT8_MAX) \
	}
#define CODEC_U16(T, f)                                         \
	{                                                       \
		CODEC_FIELD_(T, f, CODEC_KIND_UINT, UINT16_MAX) \
	}
#define CODEC_U32(T, f)                                         \
	{                                                       \
		CODEC_FIELD_(T, f, CODEC_KIND_UINT, UINT32_MAX) \
	}
#define CODEC_U64(T, f)                                         \
	{                                                       \
		CODEC_FIELD_(T, f, CODEC_KIND_UINT, UINT64_MAX) \
	}
/* An enum kept in an unsigned field: values 0 .. count - 1. */
#define CODEC_ENUM(T, f, count)                                \
	{                                                      \
		CODEC_FIELD_(T, f, CODEC_KIND_UINT, (count)-1) \
	}
#define CODEC_I32(T, f)                               \
	{                                             \
		CODEC_FIELD_(T, f, CODEC_KIND_INT, 0) \
	}
#define CODEC_I64(T, f)                               \
	{                                             \
		CODEC_FIELD_(T, f, CODEC_KIND_INT, 0) \
	}
#define CODEC_BOOL(T, f)                               \
	{                                              \
		CODEC_FIELD_(T, f, CODEC_KIND_BOOL, 1) \
	}
#define CODEC_STR(T, f, bytes)                            \
	{                                                 \
		CODEC_FIELD_(T, f, CODEC_KIND_STR, bytes) \
	}
#define CODEC_SECRET(T, f, bytes)                                         \
	{                                                                 \
		CODEC_FIELD_(T, f, CODEC_KIND_STR, bytes), .secret = true \
	}
#define CODEC_ONE(T, f, t)                                         \
	{                                                          \
		CODEC_FIELD_(T, f, CODEC_KIND_ONE, 0), .type = (t) \
	}
#define CODEC_LIST(T, f, elements, t)                                                              \
	{                                                                                          \
		CODEC_FIELD_(T, f, CODEC_KIND_LIST, elements), .count_offset = offsetof(T, n_##f), \
							       .type = (t)                         \
	}
#define CODEC_STRS(T, f, elements)                                                                \
	{                                                                                         \
		CODEC_FIELD_(T, f, CODEC_KIND_STRS, elements), .count_offset = offsetof(T, n_##f) \
	}
#define CODEC_UINTS(T, f, elements)                                                                \
	{                                                                                          \
		CODEC_FIELD_(T, f, CODEC_KIND_UINTS, elements), .count_offset = offsetof(T, n_##f) \
	}

#define CODEC_TYPE(T, n, f)                                  \
	{                                                    \
		(n), sizeof(T), (f), sizeof(f) / sizeof *(f) \
	}

/* Appends the encoding. A value above its field's bound is a bug of the caller (must). */
void codec_encode(struct buf *to, const struct codec_type *type, const void *value);

/* Decodes exactly n bytes into *ret (type->size bytes). -EBADMSG with the field's path in `err`; -ENOMEM. */
int codec_decode(const void *p, size_t n, const struct codec_type *type, struct arena *arena, void *ret,
		 struct err *err);

/* 0 if the bytes are exactly one well-formed msgpack value within depth and size bounds; else -EBADMSG. */
int codec_scan(const void *p, size_t n);

/* Equal field by field (lists element by element). */
bool codec_equal(const struct codec_type *type, const void *a, const void *b);

/* For logs and tests: {id=1 text="x"}; secrets as lengths, strings with control characters escaped. */
void codec_print(struct buf *to, const struct codec_type *type, const void *value);

/* A deep copy into the arena. NULL without memory. */
void *codec_clone(struct arena *arena, const struct codec_type *type, const void *value);

#endif
