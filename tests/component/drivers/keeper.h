/* keeper.h -- ends what a test of drivers left running, also when the test itself was killed.
 *
 * Happy path: keeper_start() before the first sandbox; keeper_end() after the last: the keeper ends what still runs.
 * Failure: the test fails, aborts or is killed by its time limit: the pipe to it ends, and the keeper does the same. It
 * is no child of the test, so that what kills the test with all its children does not reach it. */
#ifndef DRIVERS_WORLD_KEEPER_H
#define DRIVERS_WORLD_KEEPER_H

#include "world.h"

/* The world is copied; it has a directory and a node. Call it while there is one thread. */
int keeper_start(const struct world *w, int *ret_fd);
/* Closes fd and waits until nothing of the world runs and its directory is gone. */
void keeper_end(int *fd);

#endif
