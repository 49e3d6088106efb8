/* Equality, printing and copying of described structs: all through the same tables as codec.c. */
#include <inttypes.h>
#include <string.h>

#include "codec.h"
#include "codec_field.h"
#include "log.h"
#include "must.h"

static bool equal_list(const struct codec_field *f, const void *a, const void *b)
{
	const char *x = field_load_pointer(a, f), *y = field_load_pointer(b, f);
	uint32_t n = field_load_count(a, f);

	if (n != field_load_count(b, f))
		return false;
	for (uint32_t i = 0; i < n; i++) {
		if (f->kind == CODEC_KIND_LIST
			    ? !codec_equal(f->type, x + i * f->type->size, y + i * f->type->size)
		    : f->kind == CODEC_KIND_STRS ? !str_eq(((const struct str *)(const void *)x)[i],
							   ((const struct str *)(const void *)y)[i])
						 : ((const uint64_t *)(const void *)x)[i] !=
							   ((const uint64_t *)(const void *)y)[i])
			return false;
	}
	return true;
}

static bool equal_field(const struct codec_field *f, const void *a, const void *b)
{
	switch (f->kind) {
	case CODEC_KIND_UINT:
	case CODEC_KIND_INT:
	case CODEC_KIND_BOOL:
		return memcmp(field_at(a, f), field_at(b, f), f->size) == 0;
	case CODEC_KIND_STR:
		return str_eq(*(const struct str *)field_at(a, f), *(const struct str *)field_at(b, f));
	case CODEC_KIND_ONE:
		return codec_equal(f->type, field_at(a, f), field_at(b, f));
	case CODEC_KIND_LIST:
	case CODEC_KIND_STRS:
	case CODEC_KIND_UINTS:
		return equal_list(f, a, b);
	}
	must(false);
	return false;
}

bool codec_equal(const struct codec_type *type, const void *a, const void *b)
{
	for (size_t i = 0; i < type->n_fields; i++) {
		if (!equal_field(&type->fields[i], a, b))
			return false;
	}
	return true;
}

static void print_str(struct buf *to, struct str s, bool secret)
{
	char text[256];

	if (secret) {
		buf_printf(to, "<%zu bytes>", s.n);
		return;
	}
	log_escape(s.p == NULL ? "" : s.p, s.n, text, sizeof text);
	buf_printf(to, "\"%s\"", text);
}

static void print_field(struct buf *to, const struct codec_field *f, const void *value)
{
	switch (f->kind) {
	case CODEC_KIND_UINT:
		buf_printf(to, "%" PRIu64, field_load_uint(field_at(value, f), f->size));
		return;
	case CODEC_KIND_INT:
		buf_printf(to, "%" PRId64, field_load_int(field_at(value, f), f->size));
		return;
	case CODEC_KIND_BOOL:
		buf_printf(to, *(const bool *)field_at(value, f) ? "true" : "false");
		return;
	case CODEC_KIND_STR:
		print_str(to, *(const struct str *)field_at(value, f), f->secret);
		return;
	case CODEC_KIND_ONE:
		codec_print(to, f->type, field_at(value, f));
		return;
	case CODEC_KIND_LIST:
	case CODEC_KIND_STRS:
	case CODEC_KIND_UINTS: {
		const char *items = field_load_pointer(value, f);

		buf_printf(to, "[");
		for (uint32_t i = 0; i < field_load_count(value, f); i++) {
			buf_printf(to, i == 0 ? "" : " ");
			if (f->kind == CODEC_KIND_LIST)
				codec_print(to, f->type, items + i * f->type->size);
			else if (f->kind == CODEC_KIND_STRS)
				print_str(to, ((const struct str *)(const void *)items)[i], f->secret);
			else
				buf_printf(to, "%" PRIu64, ((const uint64_t *)(const void *)items)[i]);
		}
		buf_printf(to, "]");
		return;
	}
	}
	must(false);
}

void codec_print(struct buf *to, const struct codec_type *type, const void *value)
{
	buf_printf(to, "{");
	for (size_t i = 0; i < type->n_fields; i++) {
		buf_printf(to, "%s%s=", i == 0 ? "" : " ", type->fields[i].name);
		print_field(to, &type->fields[i], value);
	}
	buf_printf(to, "}");
}

static bool clone_list(struct arena *arena, const struct codec_field *f, const void *from, void *to)
{
	uint32_t n = field_load_count(from, f);
	const char *source = field_load_pointer(from, f);
	size_t size = field_element_size(f);
	char *items = n == 0 ? NULL : arena_array(arena, n, size);

	if (n > 0 && items == NULL)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		if (f->kind == CODEC_KIND_LIST) {
			void *element = codec_clone(arena, f->type, source + i * size);

			if (element == NULL)
				return false;
			memcpy(items + i * size, element, size);
		} else if (f->kind == CODEC_KIND_STRS) {
			struct str s = arena_str(arena, ((const struct str *)(const void *)source)[i]);

			if (s.p == NULL)
				return false;
			((struct str *)(void *)items)[i] = s;
		} else {
			((uint64_t *)(void *)items)[i] = ((const uint64_t *)(const void *)source)[i];
		}
	}
	field_store_list(to, f, items, n);
	return true;
}

void *codec_clone(struct arena *arena, const struct codec_type *type, const void *value)
{
	char *copy = arena_alloc(arena, type->size);

	if (copy == NULL)
		return NULL;
	memcpy(copy, value, type->size);
	for (size_t i = 0; i < type->n_fields; i++) {
		const struct codec_field *f = &type->fields[i];

		if (f->kind == CODEC_KIND_STR) {
			struct str s = *(const struct str *)field_at(value, f);
			struct str mine = s.n == 0 ? STR_NONE : arena_str(arena, s);

			if (s.n > 0 && mine.p == NULL)
				return NULL;
			memcpy(copy + f->offset, &mine, sizeof mine);
		} else if (f->kind == CODEC_KIND_ONE) {
			void *inner = codec_clone(arena, f->type, field_at(value, f));

			if (inner == NULL)
				return NULL;
			memcpy(copy + f->offset, inner, f->type->size);
		} else if (f->kind == CODEC_KIND_LIST || f->kind == CODEC_KIND_STRS ||
			   f->kind == CODEC_KIND_UINTS) {
			if (!clone_list(arena, f, value, copy))
				return NULL;
		}
	}
	return copy;
}
