#include "must.h"

#include <stdio.h>
#include <stdlib.h>

void must_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "berth: impossible state at %s:%d: %s\n", file, line, what);
	abort();
}
