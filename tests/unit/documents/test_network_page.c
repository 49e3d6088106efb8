/* test_network_page.c -- docs/network.md holds the ranges that sandboxes never reach, as the rules have them, and what is allowed
 * is exactly the rest. After a change of the ranges, run it with BERTH_UPDATE_DOCS=1: it writes the page anew. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "documents_page/page.h"
#include "drivers_net/ranges.h"

static void page_is_current(void **state)
{
	CLEANUP_BUF struct buf text = {0};

	(void)state;
	ranges_reference(&text);
	page_check(PAGE, "ranges", buf_str(&text), "the ranges say");
}

static uint32_t number(const char *address)
{
	struct in_addr a;

	if (inet_pton(AF_INET, address, &a) != 1)
		fail_msg("%s", address);
	return ntohl(a.s_addr);
}

/* Does the text "A-B, C, D-E" hold the address? */
static bool holds(const char *ranges, const char *address)
{
	uint32_t wanted = number(address);
	char copy[4096], *save = NULL;

	snprintf(copy, sizeof copy, "%s", ranges);
	for (char *r = strtok_r(copy, ", ", &save); r != NULL; r = strtok_r(NULL, ", ", &save)) {
		char *last = strchr(r, '-');

		if (last != NULL)
			*last++ = '\0';
		if (number(r) <= wanted && wanted <= number(last != NULL ? last : r))
			return true;
	}
	return false;
}

static void the_rest_is_allowed(void **state)
{
	static const char *const denied[] = {
		"0.0.0.0",        "0.255.255.255",   "10.0.0.1",        "10.255.255.255",  "100.64.0.1",
		"100.127.255.1",  "127.0.0.1",       "168.63.129.16",   "169.254.169.254", "172.16.0.1",
		"172.31.255.255", "192.0.0.192",     "192.0.2.1",       "192.31.196.9",    "192.52.193.1",
		"192.88.99.1",    "192.168.255.255", "192.175.48.6",    "198.18.0.1",      "198.19.255.255",
		"203.0.113.9",    "224.0.0.1",       "239.255.255.255", "240.0.0.1",       "255.255.255.255",
		"9.9.9.0",        "9.9.9.255",       "8.8.4.4",         "20.1.0.0",        "20.1.15.255"};
	static const char *const allowed[] = {
		"1.0.0.0",         "9.255.255.255",  "11.0.0.0",      "100.63.255.255", "100.128.0.0",
		"126.255.255.255", "128.0.0.0",      "168.63.129.15", "168.63.129.17",  "169.253.255.255",
		"169.255.0.0",     "172.15.255.255", "172.32.0.0",    "192.0.1.0",      "192.167.255.255",
		"192.169.0.0",     "198.17.255.255", "198.20.0.0",    "198.51.100.2",   "223.255.255.255",
		"9.9.8.255",       "9.9.10.0",       "8.8.4.3",       "8.8.4.5",        "20.0.255.255",
		"20.1.16.0"};
	CLEANUP_BUF struct buf b = {0}, other = {0};

	(void)state;
	assert_int_equal(ranges_allowed("9.9.9.7/24 8.8.4.4 10.1.0.0/16", 0x14010000, &b), 0);
	for (size_t i = 0; i < sizeof denied / sizeof *denied; i++) {
		if (holds(buf_cstr(&b), denied[i]))
			fail_msg("%s is allowed by %s", denied[i], buf_cstr(&b));
	}
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
		if (!holds(buf_cstr(&b), allowed[i]))
			fail_msg("%s is not allowed by %s", allowed[i], buf_cstr(&b));
	}
	assert_int_equal(ranges_allowed("0.0.0.0/0", 0x64400000, &other), 0);
	assert_int_equal(other.n, 0);
	assert_int_equal(ranges_allowed("1.2.3", 0x64400000, &other), -EINVAL);
	assert_int_equal(ranges_allowed("1.2.3.4/33", 0x64400000, &other), -EINVAL);
	/* Two with one between them: a single address is no range. */
	assert_int_equal(ranges_allowed("1.0.0.0 1.0.0.2", 0x64400000, &other), 0);
	assert_true(strncmp(buf_cstr(&other), "1.0.0.1, 1.0.0.3-", 17) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(page_is_current),
					   cmocka_unit_test(the_rest_is_allowed)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
