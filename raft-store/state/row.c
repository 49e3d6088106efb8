#include "row.h"

#include <stdlib.h>
#include <string.h>

#include "core/must.h"

/* The copy runs twice over the fields: first with to == NULL to measure, then to place strings and lists behind the
 * struct, each at `used`. */
struct packer {
	char *base; /* NULL while measuring */
	size_t used;
};

static void *place(struct packer *p, size_t n, size_t align)
{
	p->used = (p->used + align - 1) & ~(align - 1);
	void *to = p->base == NULL ? NULL : p->base + p->used;

	p->used += n;
	return to;
}

static struct str pack_str(struct packer *p, struct str s)
{
	if (s.n == 0)
		return STR_NONE;
	char *to = place(p, s.n, 1);

	if (to != NULL)
		memcpy(to, s.p, s.n);
	return (struct str){to, s.n};
}

static void pack_fields(struct packer *p, const struct codec_type *type, const char *from, char *to);

static void pack_list(struct packer *p, const struct codec_field *f, const char *from, char *to)
{
	uint32_t n = *(const uint32_t *)(const void *)(from + f->count_offset);
	size_t size = f->kind == CODEC_KIND_LIST   ? f->type->size
		      : f->kind == CODEC_KIND_STRS ? sizeof(struct str)
						   : sizeof(uint64_t);
	const char *items;
	char *mine;

	memcpy(&items, from + f->offset, sizeof items);
	mine = n == 0 ? NULL : place(p, n * size, 16);
	if (mine != NULL)
		memcpy(mine, items, n * size);
	for (uint32_t i = 0; i < n && f->kind != CODEC_KIND_UINTS; i++) {
		if (f->kind == CODEC_KIND_LIST) {
			pack_fields(p, f->type, items + i * size, mine == NULL ? NULL : mine + i * size);
			continue;
		}
		struct str s = pack_str(p, ((const struct str *)(const void *)items)[i]);

		if (mine != NULL)
			((struct str *)(void *)mine)[i] = s;
	}
	if (to != NULL)
		memcpy(to + f->offset, &mine, sizeof mine);
}

static void pack_fields(struct packer *p, const struct codec_type *type, const char *from, char *to)
{
	for (size_t i = 0; i < type->n_fields; i++) {
		const struct codec_field *f = &type->fields[i];

		if (f->kind == CODEC_KIND_STR) {
			struct str s = pack_str(p, *(const struct str *)(const void *)(from + f->offset));

			if (to != NULL)
				memcpy(to + f->offset, &s, sizeof s);
		} else if (f->kind == CODEC_KIND_ONE) {
			pack_fields(p, f->type, from + f->offset, to == NULL ? NULL : to + f->offset);
		} else if (f->kind == CODEC_KIND_LIST || f->kind == CODEC_KIND_STRS ||
			   f->kind == CODEC_KIND_UINTS) {
			pack_list(p, f, from, to);
		}
	}
}

struct row *row_new(const struct codec_type *type, const void *value)
{
	struct packer p = {.used = type->size};
	struct row *row;

	pack_fields(&p, type, value, NULL);
	row = malloc(sizeof *row + p.used);
	must(row != NULL);
	*row = (struct row){.holders = 1};
	memcpy(row->value, value, type->size);
	p = (struct packer){.base = row->value, .used = type->size};
	pack_fields(&p, type, value, row->value);
	return row;
}

void row_drop(struct row *row)
{
	if (row != NULL && atomic_fetch_sub_explicit(&row->holders, 1, memory_order_acq_rel) == 1)
		free(row);
}
