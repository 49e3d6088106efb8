/* What makes a clone another machine than its template, with the calls recorded instead of made: the host's seed goes into the
 * kernel's generator, which is made to forget what it had, before all else; and a machine that cannot be seeded does not start.
 * What becomes of it in a real machine: tests/component/guest. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "identity.h"

enum call { ADD, RESEED, CLOCK, HOSTNAME, CALLS };

static struct {
	enum call made[8];
	int n;
	int fails; /* this one, with EPERM; CALLS: none */
	char seed[GUEST_SEED_BYTES], device[64];
	int bits;
	time_t s;
} seen;

static int take(enum call which)
{
	assert_true((size_t)seen.n < sizeof seen.made / sizeof *seen.made);
	seen.made[seen.n++] = which;
	errno = EPERM;
	return seen.fails == (int)which ? -1 : 0;
}

/* Instead of libc's, see CMakeLists.txt. */
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_clock_settime(clockid_t clock, const struct timespec *t);
int __wrap_sethostname(const char *name, size_t n);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	char path[32];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	n = readlink(path, seen.device, sizeof seen.device - 1);
	assert_true(n > 0);
	seen.device[n] = '\0';
	assert_string_equal(seen.device, "/dev/urandom");
	if (request == RNDRESEEDCRNG)
		return take(RESEED);
	assert_int_equal(request, RNDADDENTROPY);
	va_list more;

	va_start(more, request);
	const struct rand_pool_info *given = va_arg(more, const struct rand_pool_info *);

	va_end(more);
	seen.bits = given->entropy_count;
	assert_int_equal(given->buf_size, sizeof seen.seed);
	memcpy(seen.seed, given->buf, sizeof seen.seed);
	return take(ADD);
}

int __wrap_clock_settime(clockid_t clock, const struct timespec *t)
{
	assert_int_equal(clock, CLOCK_REALTIME);
	seen.s = t->tv_sec;
	return take(CLOCK);
}

int __wrap_sethostname(const char *name, size_t n)
{
	assert_int_equal(n, 8);
	assert_memory_equal(name, "host-two", 8);
	return take(HOSTNAME);
}

static char seed[GUEST_SEED_BYTES];

/* Of a machine without a network. */
static int apply(int fails, struct err *err)
{
	const struct guest_start s = {
		.seed = {seed, sizeof seed}, .wall_ns = 1700000000000000000u, .hostname = STR("host-two")};

	for (size_t i = 0; i < sizeof seed; i++)
		seed[i] = (char)(i * 37 + 11);
	memset(&seen, 0, sizeof seen);
	seen.fails = fails;
	return identity_apply(&s, err);
}

static void the_seed_goes_first_and_the_generator_is_reseeded(void **state)
{
	static const enum call order[] = {ADD, RESEED, CLOCK, HOSTNAME};
	struct err err = {0};

	(void)state;
	assert_int_equal(apply(CALLS, &err), 0);
	assert_int_equal(seen.n, sizeof order / sizeof *order);
	assert_memory_equal(seen.made, order, sizeof order);
	assert_memory_equal(seen.seed, seed, sizeof seed);
	assert_int_equal(seen.bits, 8 * sizeof seed);
	assert_int_equal(seen.s, 1700000000);
}

static void a_machine_that_cannot_be_seeded_does_not_start(void **state)
{
	(void)state;
	for (int fails = ADD; fails < CALLS; fails++) {
		struct err err = {0};

		assert_int_equal(apply(fails, &err), -EPERM);
		assert_int_equal(seen.n, fails + 1); /* nothing comes after it */
		assert_int_equal(seen.made[fails], fails);
		assert_true(err.message[0] != '\0');
	}
}

int main(void)
{
	static const struct CMUnitTest cases[] = {
		cmocka_unit_test(the_seed_goes_first_and_the_generator_is_reseeded),
		cmocka_unit_test(a_machine_that_cannot_be_seeded_does_not_start),
	};

	return cmocka_run_group_tests(cases, NULL, NULL);
}
