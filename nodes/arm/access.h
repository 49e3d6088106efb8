/* access.h -- what a caller's roles allow at a resource. One table of roles (access.c), one check. */
#ifndef ARM_ACCESS_H
#define ARM_ACCESS_H

#include "arm/arm.h"

enum access_right {
	ACCESS_READ = 1,                                  /* see resources and the cluster */
	ACCESS_WRITE = 2,                                 /* create, change, delete pools; stop sessions */
	ACCESS_EXECUTE = 4,                               /* the calls below a pool's endpoint */
	ACCESS_IDENTIFIERS = 8,                           /* see session identifiers */
	ACCESS_OWNER = ACCESS_WRITE | ACCESS_IDENTIFIERS, /* who belongs to the cluster */
	ACCESS_LOCAL = 16,                                /* the admin socket alone */
};

/* A role at a scope holds for everything below it. `scope` is a resource id or "/". */
bool access_allowed(const struct arm_caller *caller, unsigned rights, struct str scope);
/* The same, or a role on something below the scope: for lists and operations, which show nothing of other resources. */
bool access_near(const struct arm_caller *caller, unsigned rights, struct str scope);

#endif
