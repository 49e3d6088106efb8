#include "page.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/fd.h"

void page_check(const char *path, const char *mark, struct str text, const char *source)
{
	CLEANUP_BUF struct buf page = {0}, wanted = {0};
	struct err err = {0};
	char begin[80], end[80];

	snprintf(begin, sizeof begin, "<!-- %s -->\n", mark);
	snprintf(end, sizeof end, "<!-- end of %s -->\n", mark);
	if (fd_read_file(path, 1 << 20, &page, &err) < 0)
		fail_msg("%s", err.message);
	const char *whole = buf_cstr(&page), *from = strstr(whole, begin), *to = strstr(whole, end);

	assert_non_null(from);
	assert_non_null(to);
	buf_add(&wanted, whole, (size_t)(from - whole));
	buf_printf(&wanted, "%s", begin);
	buf_add_str(&wanted, text);
	buf_printf(&wanted, "%s", to);
	if (strcmp(whole, buf_cstr(&wanted)) == 0)
		return;
	if (getenv("BERTH_UPDATE_DOCS") == NULL)
		fail_msg("%s is not what %s: run this test with BERTH_UPDATE_DOCS=1", path, source);
	assert_int_equal(fd_write_file(path, 0644, wanted.p, wanted.n, &err), 0);
}
