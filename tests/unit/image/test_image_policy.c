/* Which hosts may give images, be redirected to, see credentials; which addresses are public. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "image_fetch/policy.h"

static void lists_hosts(void **state)
{
	struct str registries[] = {STR("r.example"), STR("*.cloud.example"), STR("10.0.0.1:5000")};
	struct str insecure[] = {STR("127.0.0.1:5000")}, tokens[] = {STR("auth.elsewhere.example")};
	struct image_fetch_request q = {.registries = registries,
					.n_registries = 3,
					.insecure = insecure,
					.n_insecure = 1,
					.token_hosts = tokens,
					.n_token_hosts = 1};
	struct image_fetch_request open = {0};

	(void)state;
	assert_true(policy_registry(&q, "r.example") && policy_registry(&q, "a.b.cloud.example"));
	assert_true(policy_registry(&q, "127.0.0.1:5000") && policy_registry(&q, "10.0.0.1:5000"));
	assert_false(policy_registry(&q, "cloud.example") || policy_registry(&q, "xcloud.example"));
	assert_false(policy_registry(&q, "r.example:5000") || policy_registry(&q, "a.cloud.example:5000"));
	assert_false(policy_registry(&q, "auth.elsewhere.example"));
	/* A suffix lets in, but only who is named in full may have a private address. */
	assert_true(policy_private(&q, "r.example") && policy_private(&q, "10.0.0.1:5000"));
	assert_true(policy_private(&q, "127.0.0.1:5000") && policy_private(&q, "auth.elsewhere.example"));
	assert_false(policy_private(&q, "a.b.cloud.example") || policy_private(&q, "other.example"));
	assert_true(policy_registry(&open, "anything.example") && !policy_named(&open, "anything.example"));
	assert_true(policy_insecure(&q, "127.0.0.1:5000") && !policy_insecure(&q, "r.example"));

	assert_true(policy_redirect(&q, "r.example", "x.cloud.example", true));
	assert_false(policy_redirect(&q, "r.example", "evil.example", true));
	assert_false(policy_redirect(&q, "r.example", "r.example", false));
	assert_true(policy_redirect(&open, "r.example", "storage.other.example", true));
}

static void shows_credentials_to_few(void **state)
{
	static const struct {
		const char *registry, *host;
		bool tls, allowed;
	} cases[] = {
		{"registry-1.docker.io", "auth.docker.io", true, true},
		{"registry.gitlab.com", "gitlab.com", true, true},
		{"ghcr.io", "ghcr.io", true, true},
		{"ghcr.io", "other.io", true, false},
		{"r.example.co.uk", "auth.example.co.uk", true, true},
		{"example.co.uk", "evil.co.uk", true, false},
		{"example.com", "com", true, false},
		{"registry-1.docker.io", "auth.docker.io", false, false},
		{"registry-1.docker.io", "evildocker.io", true, false},
		{"10.0.0.1", "9.0.0.1", true, false},
		{"10.0.0.1:5000", "10.0.0.1:6000", true, false},
		{"r.example.com:5000", "auth.example.com", true, false},
		{"r.corp.example", "auth.elsewhere.example", true, true},
	};
	struct str tokens[] = {STR("auth.elsewhere.example")};
	struct image_fetch_request q = {.token_hosts = tokens, .n_token_hosts = 1};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (policy_token(&q, cases[i].registry, cases[i].host, cases[i].tls) != cases[i].allowed)
			fail_msg("%s to %s", cases[i].registry, cases[i].host);
	}
}

static bool is_public(const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct sockaddr_in6 b = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &a.sin_addr) == 1)
		return policy_address_public((struct sockaddr *)&a);
	assert_int_equal(inet_pton(AF_INET6, text, &b.sin6_addr), 1);
	return policy_address_public((struct sockaddr *)&b);
}

static void knows_public_addresses(void **state)
{
	static const char *const special[] = {
		"0.0.0.0",         "10.1.2.3",       "100.64.0.1",      "127.0.0.1",   "169.254.169.254",
		"172.16.0.1",      "172.31.255.255", "192.0.0.1",       "192.168.1.1", "198.18.0.1",
		"198.19.255.255",  "224.0.0.1",      "255.255.255.255", "::",          "::1",
		"::ffff:10.0.0.1", "fe80::1",        "fd00::1",         "ff02::1",     "64:ff9b::a00:1",
		"2001::1",         "2001:db8::1",    "2002:a00:1::",
	};
	static const char *const open[] = {"8.8.8.8",     "1.1.1.1",         "172.32.0.1",
					   "100.128.0.1", "2606:4700::1111", "2001:4860::8888"};

	(void)state;
	for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
		if (is_public(special[i]))
			fail_msg("%s", special[i]);
	}
	for (size_t i = 0; i < sizeof open / sizeof *open; i++) {
		if (!is_public(open[i]))
			fail_msg("%s", open[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_hosts),
		cmocka_unit_test(shows_credentials_to_few),
		cmocka_unit_test(knows_public_addresses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
