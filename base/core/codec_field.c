#include "codec_field.h"

#include <string.h>

#include "must.h"

const void *field_at(const void *value, const struct codec_field *f)
{
	return (const char *)value + f->offset;
}

uint64_t field_load_uint(const void *p, uint32_t size)
{
	switch (size) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		return *(const uint16_t *)p;
	case 4:
		return *(const uint32_t *)p;
	default:
		must(size == 8);
		return *(const uint64_t *)p;
	}
}

void field_store_uint(void *p, uint32_t size, uint64_t x)
{
	switch (size) {
	case 1:
		*(uint8_t *)p = (uint8_t)x;
		return;
	case 2:
		*(uint16_t *)p = (uint16_t)x;
		return;
	case 4:
		*(uint32_t *)p = (uint32_t)x;
		return;
	default:
		must(size == 8);
		*(uint64_t *)p = x;
	}
}

int64_t field_load_int(const void *p, uint32_t size)
{
	must(size == 4 || size == 8);
	return size == 4 ? *(const int32_t *)p : *(const int64_t *)p;
}

void *field_load_pointer(const void *value, const struct codec_field *f)
{
	void *p;

	memcpy(&p, field_at(value, f), sizeof p);
	return p;
}

uint32_t field_load_count(const void *value, const struct codec_field *f)
{
	return *(const uint32_t *)(const void *)((const char *)value + f->count_offset);
}

void field_store_list(void *value, const struct codec_field *f, void *items, uint32_t n)
{
	memcpy((char *)value + f->offset, &items, sizeof items);
	*(uint32_t *)(void *)((char *)value + f->count_offset) = n;
}

size_t field_element_size(const struct codec_field *f)
{
	return f->kind == CODEC_KIND_LIST   ? f->type->size
	       : f->kind == CODEC_KIND_STRS ? sizeof(struct str)
					    : sizeof(uint64_t);
}
