/* around.h -- what Azure's clients ask before and beside the pools: the cloud's endpoints, subscriptions, the provider's
 * registration, resource groups and the environment. Berth keeps none of these: each is answered from the settings. */
#ifndef ARM_AROUND_H
#define ARM_AROUND_H

#include "arm/call.h"

call_handler around_endpoints, around_subscriptions, around_subscription, around_provider, around_group,
	around_environment;

#endif
