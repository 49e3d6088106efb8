/* billing.h -- what pools consumed, as JSON or CSV. Units: vCPU-seconds, GiB-seconds (2^30 bytes), sandbox-seconds (ready to
 * stopped) and session-seconds, beside the ledger's exact integers as decimal text (milli-vCPU x ms, bytes x ms, ms). */
#ifndef ARM_BILLING_H
#define ARM_BILLING_H

#include "arm/call.h"

/* GET /.berth/v1/billing?from=&to=&format= */
call_handler billing_export;

#endif
