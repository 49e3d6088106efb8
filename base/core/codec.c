/* Happy path: encode walks the table and packs; decode scans the bytes once for sizes and depth, unpacks, and fills the struct.
 * Failure modes: each names type and field; nothing is returned half-filled. */
#include "codec.h"

#include <errno.h>
#include <msgpack.h>
#include <string.h>

#include "codec_field.h"
#include "must.h"

#define STRS_ELEMENT_MAX 32768

/* -- Encoding --------------------------------------------------------------------------------------------- */

static int write_buf(void *data, const char *p, size_t n)
{
	buf_add(data, p, n);
	return buf_failed(data) ? -1 : 0;
}

static void pack_str(msgpack_packer *pk, struct str s, uint64_t max)
{
	must(s.n <= max);
	msgpack_pack_bin(pk, s.n);
	msgpack_pack_bin_body(pk, s.p, s.n);
}

static void pack_struct(msgpack_packer *pk, const struct codec_type *type, const void *value);

static void pack_list(msgpack_packer *pk, const struct codec_field *f, const void *value)
{
	const char *items = field_load_pointer(value, f);
	uint32_t n = field_load_count(value, f);

	must(n <= f->max);
	msgpack_pack_array(pk, n);
	for (uint32_t i = 0; i < n; i++) {
		if (f->kind == CODEC_KIND_LIST)
			pack_struct(pk, f->type, items + i * f->type->size);
		else if (f->kind == CODEC_KIND_STRS)
			pack_str(pk, ((const struct str *)(const void *)items)[i], STRS_ELEMENT_MAX);
		else
			msgpack_pack_uint64(pk, ((const uint64_t *)(const void *)items)[i]);
	}
}

static void pack_field(msgpack_packer *pk, const struct codec_field *f, const void *value)
{
	switch (f->kind) {
	case CODEC_KIND_UINT: {
		uint64_t x = field_load_uint(field_at(value, f), f->size);

		must(x <= f->max);
		msgpack_pack_uint64(pk, x);
		return;
	}
	case CODEC_KIND_INT:
		msgpack_pack_int64(pk, field_load_int(field_at(value, f), f->size));
		return;
	case CODEC_KIND_BOOL:
		if (*(const bool *)field_at(value, f))
			msgpack_pack_true(pk);
		else
			msgpack_pack_false(pk);
		return;
	case CODEC_KIND_STR:
		pack_str(pk, *(const struct str *)field_at(value, f), f->max);
		return;
	case CODEC_KIND_ONE:
		pack_struct(pk, f->type, field_at(value, f));
		return;
	case CODEC_KIND_LIST:
	case CODEC_KIND_STRS:
	case CODEC_KIND_UINTS:
		pack_list(pk, f, value);
		return;
	}
	must(false);
}

static void pack_struct(msgpack_packer *pk, const struct codec_type *type, const void *value)
{
	msgpack_pack_array(pk, type->n_fields);
	for (size_t i = 0; i < type->n_fields; i++)
		pack_field(pk, &type->fields[i], value);
}

void codec_encode(struct buf *to, const struct codec_type *type, const void *value)
{
	msgpack_packer pk;

	msgpack_packer_init(&pk, to, write_buf);
	pack_struct(&pk, type, value);
}

/* -- Scanning: sizes and depth, before the library allocates anything ---------------------------------------- */

struct scan {
	const uint8_t *p;
	size_t n, at;
};

static bool scan_number(struct scan *s, size_t width, uint64_t *ret)
{
	uint64_t x = 0;

	if (s->n - s->at < width)
		return false;
	for (size_t i = 0; i < width; i++)
		x = x << 8 | s->p[s->at++];
	*ret = x;
	return true;
}

static bool scan_skip(struct scan *s, uint64_t n)
{
	if (n > s->n - s->at)
		return false;
	s->at += (size_t)n;
	return true;
}

/* One value's head; *ret_children is how many values follow inside it. */
static bool scan_head(struct scan *s, uint64_t *ret_children)
{
	uint64_t n = 0;
	uint8_t c;

	*ret_children = 0;
	if (s->at == s->n)
		return false;
	c = s->p[s->at++];
	if (c <= 0x7f || c >= 0xe0 || c == 0xc0 || c == 0xc2 || c == 0xc3)
		return true; /* small integers, nil, booleans */
	if (c >= 0xa0 && c <= 0xbf)
		return scan_skip(s, c & 31u);
	if (c >= 0x90 && c <= 0x9f) {
		*ret_children = c & 15u;
		return *ret_children <= s->n - s->at;
	}
	switch (c) {
	case 0xc4:
	case 0xd9:
		return scan_number(s, 1, &n) && scan_skip(s, n);
	case 0xc5:
	case 0xda:
		return scan_number(s, 2, &n) && scan_skip(s, n);
	case 0xc6:
	case 0xdb:
		return scan_number(s, 4, &n) && scan_skip(s, n);
	case 0xcc:
	case 0xd0:
		return scan_skip(s, 1);
	case 0xcd:
	case 0xd1:
		return scan_skip(s, 2);
	case 0xce:
	case 0xd2:
		return scan_skip(s, 4);
	case 0xcf:
	case 0xd3:
		return scan_skip(s, 8);
	case 0xdc:
		return scan_number(s, 2, ret_children) && *ret_children <= s->n - s->at;
	case 0xdd:
		return scan_number(s, 4, ret_children) && *ret_children <= s->n - s->at;
	default:
		return false; /* maps, floats and extensions: no format of ours uses them */
	}
}

int codec_scan(const void *p, size_t n)
{
	struct scan s = {.p = p, .n = n};
	uint64_t left[CODEC_DEPTH_MAX + 1] = {1};
	unsigned depth = 0;

	for (;;) {
		uint64_t children;

		while (left[depth] == 0) {
			if (depth == 0)
				return s.at == s.n ? 0 : -EBADMSG;
			depth--;
		}
		left[depth]--;
		if (!scan_head(&s, &children))
			return -EBADMSG;
		if (children > 0) {
			if (depth == CODEC_DEPTH_MAX)
				return -EBADMSG;
			left[++depth] = children;
		}
	}
}

/* -- Decoding --------------------------------------------------------------------------------------------- */

struct decoder {
	struct arena *arena;
	struct err *err;
};

static int bad(struct decoder *d, const struct codec_type *type, const struct codec_field *f,
	       const char *what)
{
	return err_set(d->err, -EBADMSG, "%s.%s: %s", type->name, f->name, what);
}

static int bad_str(struct decoder *d, const struct codec_type *type, const struct codec_field *f, int code)
{
	if (code == -ENOMEM)
		return err_set(d->err, -ENOMEM, "%s.%s: no memory", type->name, f->name);
	return bad(d, type, f, code == -ERANGE ? "too long" : "not a string");
}

static int take_str(struct decoder *d, const msgpack_object *o, uint64_t max, struct str *ret)
{
	if (o->type != MSGPACK_OBJECT_BIN && o->type != MSGPACK_OBJECT_STR)
		return -EBADMSG;
	struct str s = o->type == MSGPACK_OBJECT_BIN ? (struct str){o->via.bin.ptr, o->via.bin.size}
						     : (struct str){o->via.str.ptr, o->via.str.size};

	if (s.n > max)
		return -ERANGE;
	if (s.n == 0) {
		*ret = STR_NONE;
		return 0;
	}
	*ret = arena_str(d->arena, s);
	return ret->p == NULL ? -ENOMEM : 0;
}

static int take_struct(struct decoder *d, const struct codec_type *type, const msgpack_object *o, void *ret);

static int take_list(struct decoder *d, const struct codec_type *type, const struct codec_field *f,
		     const msgpack_object *o, void *value)
{
	if (o->type != MSGPACK_OBJECT_ARRAY)
		return bad(d, type, f, "not a list");
	uint32_t n = o->via.array.size;

	if (n > f->max)
		return bad(d, type, f, "too many elements");
	size_t size = field_element_size(f);
	char *items = n == 0 ? NULL : arena_array(d->arena, n, size);

	if (n > 0 && items == NULL)
		return err_set(d->err, -ENOMEM, "%s.%s: no memory", type->name, f->name);
	for (uint32_t i = 0; i < n; i++) {
		const msgpack_object *e = &o->via.array.ptr[i];
		int r;

		if (f->kind == CODEC_KIND_LIST) {
			r = take_struct(d, f->type, e, items + i * size);
			if (r < 0)
				return r;
		} else if (f->kind == CODEC_KIND_STRS) {
			r = take_str(d, e, STRS_ELEMENT_MAX, &((struct str *)(void *)items)[i]);
			if (r < 0)
				return bad_str(d, type, f, r);
		} else if (e->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
			((uint64_t *)(void *)items)[i] = e->via.u64;
		} else {
			return bad(d, type, f, "not an unsigned integer");
		}
	}
	field_store_list(value, f, items, n);
	return 0;
}

static int take_field(struct decoder *d, const struct codec_type *type, const struct codec_field *f,
		      const msgpack_object *o, void *value)
{
	void *to = (char *)value + f->offset;
	int r;

	switch (f->kind) {
	case CODEC_KIND_UINT:
		if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
			return bad(d, type, f, "not an unsigned integer");
		if (o->via.u64 > f->max)
			return bad(d, type, f, "out of range");
		field_store_uint(to, f->size, o->via.u64);
		return 0;
	case CODEC_KIND_INT: {
		bool negative = o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER;
		int64_t limit = f->size == 4 ? INT32_MAX : INT64_MAX;

		if (!negative && o->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
			return bad(d, type, f, "not an integer");
		if (negative ? o->via.i64 < -limit - 1 : o->via.u64 > (uint64_t)limit)
			return bad(d, type, f, "out of range");
		if (f->size == 4)
			*(int32_t *)to = (int32_t)o->via.i64;
		else
			*(int64_t *)to = o->via.i64;
		return 0;
	}
	case CODEC_KIND_BOOL:
		if (o->type != MSGPACK_OBJECT_BOOLEAN)
			return bad(d, type, f, "not a boolean");
		*(bool *)to = o->via.boolean;
		return 0;
	case CODEC_KIND_STR:
		r = take_str(d, o, f->max, to);
		return r == 0 ? 0 : bad_str(d, type, f, r);
	case CODEC_KIND_ONE:
		return take_struct(d, f->type, o, to);
	case CODEC_KIND_LIST:
	case CODEC_KIND_STRS:
	case CODEC_KIND_UINTS:
		return take_list(d, type, f, o, value);
	}
	must(false);
	return -EINVAL;
}

static int take_struct(struct decoder *d, const struct codec_type *type, const msgpack_object *o, void *ret)
{
	if (o->type != MSGPACK_OBJECT_ARRAY)
		return err_set(d->err, -EBADMSG, "%s: not a struct", type->name);
	if (o->via.array.size > type->n_fields)
		return err_set(d->err, -EBADMSG, "%s: %u fields, this version knows %zu", type->name,
			       o->via.array.size, type->n_fields);
	for (uint32_t i = 0; i < o->via.array.size; i++) {
		int r = take_field(d, type, &type->fields[i], &o->via.array.ptr[i], ret);

		if (r < 0)
			return r;
	}
	return 0;
}

int codec_decode(const void *p, size_t n, const struct codec_type *type, struct arena *arena, void *ret,
		 struct err *err)
{
	struct decoder d = {.arena = arena, .err = err};
	msgpack_unpacked u;
	size_t offset = 0;
	void *value;
	int r;

	if (n > CODEC_BYTES_MAX || codec_scan(p, n) < 0)
		return err_set(err, -EBADMSG, "%s: not one well-formed message of at most %u bytes",
			       type->name, CODEC_BYTES_MAX);
	value = arena_alloc(arena, type->size);
	if (value == NULL)
		return err_set(err, -ENOMEM, "%s: no memory", type->name);
	msgpack_unpacked_init(&u);
	if (msgpack_unpack_next(&u, p, n, &offset) == MSGPACK_UNPACK_SUCCESS && offset == n)
		r = take_struct(&d, type, &u.data, value);
	else
		r = err_set(err, -EBADMSG, "%s: unreadable", type->name);
	msgpack_unpacked_destroy(&u);
	if (r == 0)
		memcpy(ret, value, type->size);
	return r;
}
