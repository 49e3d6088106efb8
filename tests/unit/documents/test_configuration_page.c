/* test_configuration_page.c -- docs/configuration.md holds the table that the program's own options print.
 * After a change of the options, run it with BERTH_UPDATE_DOCS=1: it writes the page anew. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "core/buf.h"
#include "core/fd.h"

static const char begin[] = "<!-- options -->\n", end[] = "<!-- end of options -->\n";

static void page_is_current(void **state)
{
	CLEANUP_BUF struct buf page = {0}, wanted = {0};
	struct err err = {0};

	(void)state;
	if (fd_read_file(PAGE, 1 << 20, &page, &err) < 0)
		fail_msg("%s", err.message);
	const char *text = buf_cstr(&page), *from = strstr(text, begin), *to = strstr(text, end);

	assert_non_null(from);
	assert_non_null(to);
	buf_add(&wanted, text, (size_t)(from - text));
	buf_printf(&wanted, "%s", begin);
	config_reference(&wanted);
	buf_printf(&wanted, "%s", to);
	if (strcmp(text, buf_cstr(&wanted)) == 0)
		return;
	if (getenv("BERTH_UPDATE_DOCS") == NULL)
		fail_msg("%s is not what the options say: run this test with BERTH_UPDATE_DOCS=1", PAGE);
	assert_int_equal(fd_write_file(PAGE, 0644, wanted.p, wanted.n, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(page_is_current)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
