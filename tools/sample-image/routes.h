/* routes.h -- what the sample server answers; the table of paths is in routes.c. */
#ifndef SAMPLE_ROUTES_H
#define SAMPLE_ROUTES_H

#include "exchange.h"

/* Draws the instance's name: call once, before the first request. */
void routes_init(void);
/* Serves one request. False: the connection cannot be used any more. */
bool routes_serve(struct exchange *x);

#endif
