/* joining.h -- nodes that come and go: below /.berth/v1/, the cluster's CA, join tokens, joining, removal. */
#ifndef ARM_JOINING_H
#define ARM_JOINING_H

#include "arm/call.h"

call_handler joining_ca, joining_token, joining_ask, joining_leave;

#endif
