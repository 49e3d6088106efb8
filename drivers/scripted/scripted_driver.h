/* scripted_driver.h -- sandboxes that are played: no process, no privileges. For sandboxd's own tests.
 *
 * The program's words (argv) are the script:
 *   serve            listens on 127.0.0.1 and answers each connection with an HTTP 200, unless it is frozen; ends at its stop signal
 *   count [N]        as serve, and each answer's body is one more than the last: what can be saved; the first N saves fail
 *   deaf             as serve, but ignores the stop signal
 *   exit N           is over at once with exit code N
 *   signal N, oom    is over at once, by a signal or for want of memory
 *   fail TEXT        cannot be started, for this reason
 *   debris N         cannot be started, and leaves something that only the stop after N others removes
 *   sticky N         as serve, but the first N stops fail
 *   slow MS ...      takes so long to start, then goes on as the words behind say
 * Nothing outlives the process: adopt() finds nothing. */
#ifndef SCRIPTED_SCRIPTED_DRIVER_H
#define SCRIPTED_SCRIPTED_DRIVER_H

#include "drivers/driver.h"

int scripted_driver_new(struct driver **ret, struct err *err);

#endif
