/* test_map.c -- map.h against an array that says what must be in it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/map.h"

#define ELEMENTS 3000

struct element {
	struct map_node node;
	uint64_t key;
	bool in;
};

static struct element elements[ELEMENTS];

static bool has_key(const struct map_node *node, const void *key)
{
	return container_of(node, struct element, node)->key == *(const uint64_t *)key;
}

static uint64_t hash_of(uint64_t key, bool colliding)
{
	return colliding ? key % 7 : map_hash_u64(key);
}

static void agrees_with_an_array(bool colliding, size_t n)
{
	struct map m = {0};
	size_t in = 0;

	for (size_t i = 0; i < n; i++)
		elements[i] = (struct element){.key = i * 31 + 1};
	for (size_t step = 0; step < 4 * n; step++) {
		struct element *e = &elements[map_hash_u64(step) % n];

		if (e->in)
			map_remove(&m, &e->node);
		else
			assert_int_equal(map_insert(&m, &e->node, hash_of(e->key, colliding)), 0);
		in = e->in ? in - 1 : in + 1;
		e->in = !e->in;
		assert_int_equal(m.n, in);
	}
	for (size_t i = 0; i < n; i++) {
		struct map_node *found =
			map_find(&m, hash_of(elements[i].key, colliding), has_key, &elements[i].key);

		assert_ptr_equal(found, elements[i].in ? &elements[i].node : NULL);
	}
	for (struct map_node *node = map_next(&m, NULL), *next; node != NULL; node = next) {
		next = map_next(&m, node);
		assert_true(container_of(node, struct element, node)->in);
		map_remove(&m, node);
		in--;
	}
	assert_int_equal(in, 0);
	assert_int_equal(m.n, 0);
	map_done(&m);
}

static void spread(void **state)
{
	(void)state;
	agrees_with_an_array(false, ELEMENTS);
}

static void colliding(void **state)
{
	(void)state;
	agrees_with_an_array(true, 300);
}

/* No insert moves more than a few buckets; at every size all is found, and a walk meets each once. */
static void grows_in_small_steps(void **state)
{
	struct map m = {0};
	size_t moved = 0, most = 0, growing = 0;

	(void)state;
	for (size_t i = 0; i < ELEMENTS; i++) {
		elements[i] = (struct element){.key = i};
		moved = m.old != NULL ? m.moved : 0;
		assert_int_equal(map_insert(&m, &elements[i].node, map_hash_u64(i)), 0);
		growing += m.old != NULL;
		if (m.old != NULL && m.moved - moved > most)
			most = m.moved - moved;
		for (uint64_t key = 0; key <= i; key += 1 + i / 50)
			assert_ptr_equal(map_find(&m, map_hash_u64(key), has_key, &key), &elements[key].node);
		if (i % 100 != 50)
			continue;
		size_t met = 0;

		for (struct map_node *node = map_next(&m, NULL); node != NULL; node = map_next(&m, node))
			met++;
		assert_int_equal(met, i + 1);
	}
	assert_true(growing > ELEMENTS / 20);
	assert_true(most > 0 && most <= 8);
	map_done(&m);
}

static void empty(void **state)
{
	struct map m = {0};
	uint64_t key = 1;

	(void)state;
	assert_null(map_find(&m, 1, has_key, &key));
	assert_null(map_next(&m, NULL));
	map_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spread),
		cmocka_unit_test(colliding),
		cmocka_unit_test(grows_in_small_steps),
		cmocka_unit_test(empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
