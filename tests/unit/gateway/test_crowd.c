/* Who counts as one: an IPv4 address, mapped or not; an IPv6 /64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <arpa/inet.h>
#include <netinet/in.h>

#include "gateway/limits/crowd.h"

static const struct sockaddr *at(const char *text)
{
	static struct sockaddr_storage a[8];
	static unsigned next;
	struct sockaddr_storage *to = &a[next++ % 8];

	*to = (struct sockaddr_storage){.ss_family = AF_INET};
	if (inet_pton(AF_INET, text, &((struct sockaddr_in *)to)->sin_addr) == 1)
		return (struct sockaddr *)to;
	to->ss_family = AF_INET6;
	assert_int_equal(inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)to)->sin6_addr), 1);
	return (struct sockaddr *)to;
}

static void test_one_address(void **state)
{
	static const struct {
		const char *first, *second;
		int error;
	} rows[] = {
		{"10.0.0.1", "10.0.0.1", -EUSERS},
		{"10.0.0.1", "10.0.0.2", 0},
		{"10.0.0.1", "::ffff:10.0.0.1", -EUSERS},
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff::9", -EUSERS},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", 0},
		{"0.0.0.0", "::", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct crowd *c = crowd_new(10, 1);

		assert_int_equal(crowd_enter(c, at(rows[i].first)), 0);
		assert_int_equal(crowd_enter(c, at(rows[i].second)), rows[i].error);
		if (!rows[i].error)
			crowd_leave(c, at(rows[i].second));
		crowd_leave(c, at(rows[i].first));
		assert_int_equal(crowd_enter(c, at(rows[i].second)), 0);
		crowd_leave(c, at(rows[i].second));
		crowd_free(c);
	}
}

static void test_all(void **state)
{
	struct crowd *c = crowd_new(3, 2);

	(void)state;
	assert_int_equal(crowd_enter(c, at("10.0.0.1")), 0);
	assert_int_equal(crowd_enter(c, at("10.0.0.1")), 0);
	assert_int_equal(crowd_enter(c, at("10.0.0.1")), -EUSERS);
	assert_int_equal(crowd_enter(c, at("10.0.0.2")), 0);
	assert_int_equal(crowd_enter(c, at("10.0.0.3")), -ENFILE);
	crowd_leave(c, at("10.0.0.1"));
	assert_int_equal(crowd_enter(c, at("10.0.0.3")), 0);
	crowd_leave(c, at("10.0.0.1"));
	crowd_leave(c, at("10.0.0.2"));
	crowd_leave(c, at("10.0.0.3"));
	crowd_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_address), cmocka_unit_test(test_all)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
