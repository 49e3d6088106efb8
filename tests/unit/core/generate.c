/* generate.c -- walks a type's fields and draws each: often an edge (0, the maximum), else anything in between. */
#include "generate/generate.h"

#include <string.h>

#include "core/must.h"

uint64_t generate_u64(struct generate *g)
{
	uint64_t z = g->seed += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

uint64_t generate_below(struct generate *g, uint64_t below)
{
	return below == 0 ? 0 : generate_u64(g) % below;
}

static uint64_t draw(struct generate *g, uint64_t max)
{
	switch (generate_below(g, 6)) {
	case 0:
		return 0;
	case 1:
		return max;
	case 2:
		return max < 200 ? max / 2 : generate_below(g, 200);
	default:
		return max == UINT64_MAX ? generate_u64(g) : generate_below(g, max + 1);
	}
}

static struct str draw_str(struct generate *g, uint64_t max)
{
	uint64_t n = draw(g, max < g->length_max ? max : g->length_max);
	char *p;

	if (n == 0)
		return STR_NONE;
	p = arena_alloc(g->arena, n);
	must(p != NULL);
	for (uint64_t i = 0; i < n; i++)
		p[i] = (char)generate_u64(g);
	return (struct str){p, n};
}

static void put_uint(void *to, uint32_t size, uint64_t x)
{
	uint8_t u8 = (uint8_t)x;
	uint16_t u16 = (uint16_t)x;
	uint32_t u32 = (uint32_t)x;

	memcpy(to,
	       size == 1   ? (void *)&u8
	       : size == 2 ? (void *)&u16
	       : size == 4 ? (void *)&u32
			   : (void *)&x,
	       size);
}

static void draw_list(struct generate *g, const struct codec_field *f, void *value)
{
	uint64_t bound = f->max < g->length_max ? f->max : g->length_max;
	uint32_t n = (uint32_t)generate_below(g, (bound < 6 ? bound : 6) + 1);
	size_t size = f->kind == CODEC_KIND_LIST   ? f->type->size
		      : f->kind == CODEC_KIND_STRS ? sizeof(struct str)
						   : 8;
	char *items = n == 0 ? NULL : arena_array(g->arena, n, size);

	for (uint32_t i = 0; i < n; i++) {
		uint64_t x = draw(g, UINT64_MAX);

		if (f->kind == CODEC_KIND_LIST) {
			generate_value(g, f->type, items + i * size);
		} else if (f->kind == CODEC_KIND_STRS) {
			struct str s = draw_str(g, 32768);

			memcpy(items + i * size, &s, sizeof s);
		} else {
			memcpy(items + i * size, &x, sizeof x);
		}
	}
	memcpy((char *)value + f->offset, &items, sizeof items);
	memcpy((char *)value + f->count_offset, &n, sizeof n);
}

static void draw_field(struct generate *g, const struct codec_field *f, void *value)
{
	void *to = (char *)value + f->offset;

	switch (f->kind) {
	case CODEC_KIND_UINT:
		put_uint(to, f->size, draw(g, f->max));
		return;
	case CODEC_KIND_INT:
		put_uint(to, f->size, draw(g, UINT64_MAX));
		return;
	case CODEC_KIND_BOOL:
		*(bool *)to = generate_below(g, 2) == 1;
		return;
	case CODEC_KIND_STR: {
		struct str s = draw_str(g, f->max);

		memcpy(to, &s, sizeof s);
		return;
	}
	case CODEC_KIND_ONE:
		generate_value(g, f->type, to);
		return;
	case CODEC_KIND_LIST:
	case CODEC_KIND_STRS:
	case CODEC_KIND_UINTS:
		draw_list(g, f, value);
		return;
	}
	must(false);
}

void generate_value(struct generate *g, const struct codec_type *type, void *ret)
{
	memset(ret, 0, type->size);
	for (size_t i = 0; i < type->n_fields; i++)
		draw_field(g, &type->fields[i], ret);
}
