/* version.h -- the api-versions of Microsoft.App: the shape of answers follows the version asked for.
 * Accepted is every well-formed version from 2024-02-02-preview on; older or malformed ones are refused. */
#ifndef ARM_VERSION_H
#define ARM_VERSION_H

#include "core/str.h"

/* First and last version of a field, as yyyymmdd. */
#define VERSION_FIRST     20240202u
#define VERSION_SERVER    20240802u /* registryServer became server */
#define VERSION_IDENTITY  20241002u /* identity, managedIdentitySettings */
#define VERSION_LIFECYCLE 20250101u /* lifecycleConfiguration in place of executionType */
#define VERSION_STATUS    20250202u /* templateUpdateStatus */
#define VERSION_ANY       0u

/* "2024-08-02-preview" -> 20240802. -EINVAL: not a version. */
int version_parse(struct str text, uint32_t *ret);
/* For the header api-supported-versions and for messages. */
extern const char version_list[];

#endif
