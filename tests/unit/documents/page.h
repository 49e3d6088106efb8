/* page.h -- pages of docs/ that hold what the program itself prints, between two marks.
 * With BERTH_UPDATE_DOCS=1 in the environment such a test writes the page anew. For cmocka tests: fails them. */
#ifndef DOCUMENTS_PAGE_PAGE_H
#define DOCUMENTS_PAGE_PAGE_H

#include "core/str.h"

/* Between the lines "<!-- MARK -->" and "<!-- end of MARK -->" the page has to hold `text`, which `source` says. */
void page_check(const char *path, const char *mark, struct str text, const char *source);

#endif
