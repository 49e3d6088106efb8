#include "cause.h"

#include <errno.h>
#include <stdio.h>

#define SAY(ret, c, format, ...) \
	((ret)->code = (c), snprintf((ret)->message, sizeof(ret)->message, format, __VA_ARGS__))

static bool refused(int32_t code)
{
	return code == -EACCES || code == -EPERM;
}

static bool unreachable(int32_t code)
{
	return code == -ETIMEDOUT || code == -ECONNREFUSED || code == -EHOSTUNREACH || code == -ENETUNREACH ||
	       code == -ECONNRESET || code == -EPIPE || code == -EHOSTDOWN;
}

static bool local(int32_t code)
{
	return code == -ENOTCONN || code == -EAGAIN || code == -EBUSY || code == -ENOSPC || code == -ENOMEM ||
	       code == -EINPROGRESS || code == -ENOBUFS;
}

void cause_of(struct cause *ret, const struct template *t, int32_t code, struct str message)
{
	*ret = (struct cause){.passes = unreachable(code) || local(code)};
	if (refused(code) && t->registry.identity.n > 0)
		SAY(ret, "RegistryIdentityRefused",
		    "properties.customContainerTemplate.registryCredentials.identity: the registry refused \"%.*s\" "
		    "without credentials, and pulls by identity are tried without any: %.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
	else if (refused(code))
		SAY(ret, "RegistryCredentialsRefused",
		    "properties.customContainerTemplate.registryCredentials: the registry refused the credentials "
		    "for \"%.*s\": %.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
	else if (code == -ENOENT)
		SAY(ret, "ImageNotFound",
		    "properties.customContainerTemplate.containers[0].image: \"%.*s\" does not exist: %.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
	else if (unreachable(code))
		SAY(ret, "RegistryUnreachable",
		    "properties.customContainerTemplate.containers[0].image: the registry of \"%.*s\" did not answer: "
		    "%.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
	else
		SAY(ret, "ImagePullFailed",
		    "properties.customContainerTemplate.containers[0].image: \"%.*s\" could not be pulled: %.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
}
