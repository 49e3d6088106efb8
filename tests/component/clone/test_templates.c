/* The list of templates, with a maker that writes a few bytes instead of booting a machine. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/fd.h"
#include "libvirt_clone/templates.h"

#define BYTES  (1u << 20)
#define STARTS 8

static struct templates *templates;
static struct err err;

/* What a maker does, and how often it was asked. */
struct maker {
	atomic_int made;
	int result;
	unsigned sleep_ms;
	void *mapped; /* of the one that leaves it mapped, shared and writable */
	bool leaves_mapped, saves_nothing;
};

static int make(void *arg, int memory, int state, struct err *e)
{
	struct maker *m = arg;

	m->made++;
	usleep(m->sleep_ms * 1000);
	if (m->result < 0)
		return err_set(e, m->result, "no guest answered");
	if (m->leaves_mapped)
		m->mapped = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	assert_int_equal(pwrite(memory, "memory", 6, 0), 6);
	if (!m->saves_nothing)
		assert_int_equal(write(state, "state", 5), 5);
	return 0;
}

static struct templates_key key(uint64_t pool, const char *version)
{
	return (struct templates_key){.pool_uid = pool,
				      .digest = "sha256:00",
				      .version = version,
				      .cpu_model = "tcg qemu64",
				      .memory_bytes = BYTES,
				      .vcpus = 1};
}

static int get(uint64_t pool, const char *version, struct maker *m, struct templates_entry **ret)
{
	struct templates_key k = key(pool, version);

	err = (struct err){.code = 0};
	return templates_get(templates, &k, make, m, ret, &err);
}

static int open_templates(void **state)
{
	(void)state;
	return templates_new(&templates, &err);
}

static int close_templates(void **state)
{
	(void)state;
	templates_free(templates);
	return 0;
}

/* -- */

static void what_is_made_is_sealed(void **state)
{
	struct maker m = {.result = 0};
	struct templates_entry *e;
	char text[8] = "";
	int fd;

	(void)state;
	assert_int_equal(get(1, "v", &m, &e), 0);
	int memory = templates_memory(e);

	assert_int_equal(pread(memory, text, 6, 0), 6);
	assert_string_equal(text, "memory");
	assert_int_equal(pwrite(memory, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_ptr_equal(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0), MAP_FAILED);
	assert_int_equal(ftruncate(memory, 0), -1);
	assert_int_equal(fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	/* Two that load read from their own beginning. */
	for (int i = 0; i < 2; i++) {
		memset(text, 0, sizeof text);
		assert_int_equal(templates_state(e, &fd, &err), 0);
		assert_int_equal(read(fd, text, sizeof text), 5);
		assert_string_equal(text, "state");
		close(fd);
	}
	templates_put(templates, e);
}

static void one_key_is_made_once(void **state)
{
	struct maker m = {.result = 0};
	struct templates_entry *a, *b, *c;

	(void)state;
	assert_int_equal(get(1, "v", &m, &a), 0);
	assert_int_equal(get(1, "v", &m, &b), 0);
	assert_ptr_equal(a, b);
	assert_int_equal(m.made, 1);
	assert_int_equal(get(2, "v", &m, &c), 0);
	assert_ptr_not_equal(a, c);
	assert_int_equal(m.made, 2);
	templates_put(templates, a);
	templates_put(templates, b);
	templates_put(templates, c);
}

static struct maker slow;
static atomic_int succeeded, refused;

static void *start(void *arg)
{
	struct templates_key k = key(1, "v");
	struct templates_entry *e;
	struct err why = {.code = 0};

	(void)arg;
	if (templates_get(templates, &k, make, &slow, &e, &why) == 0) {
		succeeded++;
		templates_put(templates, e);
	} else if (strstr(why.message, "no guest answered") != NULL) {
		refused++;
	}
	return NULL;
}

static void start_at_once(void)
{
	pthread_t threads[STARTS];

	succeeded = refused = 0;
	for (int i = 0; i < STARTS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, start, NULL), 0);
	for (int i = 0; i < STARTS; i++)
		pthread_join(threads[i], NULL);
}

static void others_wait_for_it(void **state)
{
	(void)state;
	slow = (struct maker){.sleep_ms = 300};
	start_at_once();
	assert_int_equal(slow.made, 1);
	assert_int_equal(succeeded, STARTS);
}

static void all_are_told_of_a_failure(void **state)
{
	(void)state;
	slow = (struct maker){.sleep_ms = 300, .result = -ETIMEDOUT};
	start_at_once();
	assert_int_equal(slow.made, 1);
	assert_int_equal(refused, STARTS);
}

static void a_failure_is_backed_off_and_told_once(void **state)
{
	struct maker m = {.result = -ETIMEDOUT};
	struct templates_entry *e;

	(void)state;
	assert_int_equal(templates_tend(templates, &err), 0);
	assert_int_equal(get(1, "v", &m, &e), -ETIMEDOUT);
	assert_int_equal(get(1, "v", &m, &e), -EAGAIN);
	assert_non_null(strstr(err.message, "no guest answered"));
	assert_int_equal(m.made, 1);
	assert_int_equal(templates_tend(templates, &err), -EIO);
	assert_string_equal(err.message, "template of pool 1: no guest answered");
	assert_int_equal(templates_tend(templates, &err), 0);
	/* Of this key alone. */
	m.result = 0;
	assert_int_equal(get(2, "v", &m, &e), 0);
	templates_put(templates, e);
}

static void nothing_saved_is_a_failure(void **state)
{
	struct maker m = {.saves_nothing = true};
	struct templates_entry *e;

	(void)state;
	assert_int_equal(get(1, "v", &m, &e), -EIO);
}

static void what_is_still_mapped_is_a_failure(void **state)
{
	struct maker m = {.leaves_mapped = true};
	struct templates_entry *e;

	(void)state;
	assert_int_equal(get(1, "v", &m, &e), -EBUSY);
	assert_int_equal(munmap(m.mapped, BYTES), 0);
}

static void a_spoiled_one_is_not_used_again(void **state)
{
	struct maker m = {.result = 0};
	struct templates_entry *a, *b;
	struct err why = {.code = -EIO, .message = "it does not answer"};
	char text[8];

	(void)state;
	assert_int_equal(get(1, "v", &m, &a), 0);
	assert_int_equal(get(1, "v", &m, &b), 0);
	templates_spoil(templates, a, &why);
	/* Who has it keeps it. */
	assert_int_equal(pread(templates_memory(b), text, 6, 0), 6);
	templates_spoil(templates, b, &why);
	assert_int_equal(get(1, "v", &m, &a), -EAGAIN);
	assert_non_null(strstr(err.message, "it does not answer"));
	assert_int_equal(templates_tend(templates, &err), -EIO);
	assert_int_equal(m.made, 1);
}

static void another_version_drops_them(void **state)
{
	struct maker m = {.result = 0};
	struct templates_entry *a, *b;
	char text[8];

	(void)state;
	assert_int_equal(get(1, "old", &m, &a), 0);
	assert_int_equal(get(2, "new", &m, &b), 0);
	templates_put(templates, b);
	assert_int_equal(pread(templates_memory(a), text, 6, 0), 6);
	templates_put(templates, a);
	assert_int_equal(get(1, "old", &m, &a), 0);
	assert_int_equal(m.made, 3);
	templates_put(templates, a);
}

static void the_oldest_makes_room(void **state)
{
	struct maker m = {.result = 0};
	struct templates_entry *e, *held[TEMPLATES_MAX];

	(void)state;
	for (uint64_t i = 0; i < TEMPLATES_MAX; i++)
		assert_int_equal(get(i, "v", &m, &held[i]), 0);
	assert_int_equal(get(TEMPLATES_MAX, "v", &m, &e), -EAGAIN);
	for (uint64_t i = 0; i < TEMPLATES_MAX; i++)
		templates_put(templates, held[i]);
	assert_int_equal(get(TEMPLATES_MAX, "v", &m, &e), 0);
	templates_put(templates, e);
	assert_int_equal(m.made, TEMPLATES_MAX + 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_templates, close_templates)

int main(void)
{
	const struct CMUnitTest cases[] = {
		T(what_is_made_is_sealed),
		T(one_key_is_made_once),
		T(others_wait_for_it),
		T(all_are_told_of_a_failure),
		T(a_failure_is_backed_off_and_told_once),
		T(nothing_saved_is_a_failure),
		T(what_is_still_mapped_is_a_failure),
		T(a_spoiled_one_is_not_used_again),
		T(another_version_drops_them),
		T(the_oldest_makes_room),
	};

	return cmocka_run_group_tests_name("templates", cases, NULL, NULL);
}
