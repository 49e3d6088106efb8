#include "cause.h"

#include <errno.h>
#include <stdio.h>

#define SAY(ret, c, format, ...) \
	((ret)->code = (c), snprintf((ret)->message, sizeof(ret)->message, format, __VA_ARGS__))

static bool unreachable(int32_t code)
{
	return code == -ETIMEDOUT || code == -ECONNREFUSED || code == -EHOSTUNREACH || code == -ENETUNREACH ||
	       code == -ECONNRESET || code == -EPIPE || code == -EHOSTDOWN;
}

bool cause_is_of_node(int32_t code)
{
	return code == -ENOTCONN || code == -EAGAIN || code == -EBUSY || code == -ENOSPC || code == -EDQUOT ||
	       code == -ENOMEM || code == -EINPROGRESS || code == -ENOBUFS;
}

/* The field to look at: of a pull by identity, of one with a password, of one with neither. */
static void denied(struct cause *ret, const struct template *t, struct str message)
{
	if (t->registry.identity.n > 0)
		SAY(ret, "RegistryIdentityRefused",
		    "properties.customContainerTemplate.registryCredentials.identity: the registry refused "
		    "\"%.*s\" "
		    "without credentials, and pulls by identity are tried without any: %.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
	else if (t->registry.username.n > 0 && template_credentials_apply(t))
		SAY(ret, "RegistryCredentialsRefused",
		    "properties.customContainerTemplate.registryCredentials: the registry refused the "
		    "credentials "
		    "for \"%.*s\": %.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
	else if (t->registry.username.n > 0)
		SAY(ret, "RegistryCredentialsRefused",
		    "properties.customContainerTemplate.registryCredentials.server: \"%.*s\" is not the "
		    "registry of "
		    "\"%.*s\", which was asked without credentials and refused: %.*s",
		    STR_ARGS(t->registry.server), STR_ARGS(t->image), STR_ARGS(message));
	else
		SAY(ret, "RegistryCredentialsRefused",
		    "properties.customContainerTemplate.registryCredentials: there are none, and the "
		    "registry refused "
		    "\"%.*s\" without: %.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
}

void cause_of(struct cause *ret, const struct template *t, int32_t code, struct str message)
{
	*ret = (struct cause){.passes = unreachable(code) || cause_is_of_node(code)};
	if (code == -EACCES)
		denied(ret, t, message);
	else if (code == -EPERM)
		SAY(ret, "RegistryNotAllowed",
		    "properties.customContainerTemplate.containers[0].image: \"%.*s\" may not be pulled "
		    "here: %.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
	else if (code == -ENOENT)
		SAY(ret, "ImageNotFound",
		    "properties.customContainerTemplate.containers[0].image: \"%.*s\" does not exist: %.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
	else if (unreachable(code))
		SAY(ret, "RegistryUnreachable",
		    "properties.customContainerTemplate.containers[0].image: the registry of \"%.*s\" did "
		    "not answer: "
		    "%.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
	else
		SAY(ret, "ImagePullFailed",
		    "properties.customContainerTemplate.containers[0].image: \"%.*s\" could not be pulled: "
		    "%.*s",
		    STR_ARGS(t->image), STR_ARGS(message));
}

void cause_unable(struct cause *ret, bool passes, const char *why)
{
	*ret = (struct cause){.passes = passes};
	SAY(ret, "IsolationUnavailable", "tags.berth.isolation: %s", why);
}
