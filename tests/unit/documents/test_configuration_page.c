/* test_configuration_page.c -- docs/configuration.md holds the table that the program's own options print.
 * After a change of the options, run it with BERTH_UPDATE_DOCS=1: it writes the page anew. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "config/config.h"
#include "core/buf.h"
#include "documents_page/page.h"

static void page_is_current(void **state)
{
	CLEANUP_BUF struct buf text = {0};

	(void)state;
	config_reference(&text);
	page_check(PAGE, "options", buf_str(&text), "the options say");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(page_is_current)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
