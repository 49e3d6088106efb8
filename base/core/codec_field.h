/* codec_field.h -- a struct's fields by their offsets, for codec.c and codec_walk.c alone. */
#ifndef CORE_CODEC_FIELD_H
#define CORE_CODEC_FIELD_H

#include "codec.h"

const void *field_at(const void *value, const struct codec_field *f);
uint64_t field_load_uint(const void *p, uint32_t size);
void field_store_uint(void *p, uint32_t size, uint64_t x);
int64_t field_load_int(const void *p, uint32_t size);
/* Of lists: the elements and their number. */
void *field_load_pointer(const void *value, const struct codec_field *f);
uint32_t field_load_count(const void *value, const struct codec_field *f);
void field_store_list(void *value, const struct codec_field *f, void *items, uint32_t n);
/* Bytes of one element of a list. */
size_t field_element_size(const struct codec_field *f);

#endif
