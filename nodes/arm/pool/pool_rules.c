/* pool_rules.c -- the table. Sources: the OpenAPI of Microsoft.App (2024-02-02-preview to 2026-01-01), the help texts of
 * the containerapp extension (cpu, memory), ContainerAppProbe (probes), and recorded requests (ignored fields). */
#include <ctype.h>
#include <string.h>

#include "arm/pool/pool_rules.h"
#include "arm/version.h"

#define INT32_TOP 2147483647

bool pool_name_good(struct str s)
{
	if (s.n < 3 || s.n > 63 || s.p[0] < 'a' || s.p[0] > 'z' || s.p[s.n - 1] == '-')
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && !(c == '-' && s.p[i - 1] != '-'))
			return false;
	}
	return true;
}

/* Container Apps' secret names: lower case letters, digits, '-' and '.'. */
bool pool_secret_name_good(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

		if (!letter && !((c == '-' || c == '.') && i > 0 && i + 1 < s.n))
			return false;
	}
	return s.n > 0;
}

/* POSIX: anything but '=' (and NUL, which JSON parsing refuses); not a digit first. */
static bool env_name_good(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] == '=' || (unsigned char)s.p[i] <= 0x20 || s.p[i] == 0x7f)
			return false;
	return s.n > 0 && !isdigit((unsigned char)s.p[0]);
}

/* A reference: printable, without spaces; the registry's rules are checked when it is resolved. */
static bool image_good(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!isalnum((unsigned char)s.p[i]) && strchr("./:@_-+", s.p[i]) == NULL)
			return false;
	return s.n > 0 && isalnum((unsigned char)s.p[0]) && str_find(s, '@') + 1 != s.n &&
	       s.p[s.n - 1] != ':' && s.p[s.n - 1] != '/';
}

static bool container_name_good(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!isalnum((unsigned char)s.p[i]) && s.p[i] != '-' && s.p[i] != '_' && s.p[i] != '.')
			return false;
	return s.n > 0;
}

static bool server_good(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!isalnum((unsigned char)s.p[i]) && strchr(".-:[]", s.p[i]) == NULL)
			return false;
	return s.n > 0;
}

static bool identity_good(struct str s)
{
	return str_eq_nocase(s, STR("system")) || s.p[0] == '/';
}

static bool resource_id_good(struct str s)
{
	return s.p[0] == '/';
}

static bool token_good(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!isalnum((unsigned char)s.p[i]) && strchr("!#$%&'*+-.^_`|~", s.p[i]) == NULL)
			return false;
	return true;
}

static bool line_good(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return false;
	return true;
}

static bool url_path_good(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= 0x20 || s.p[i] == 0x7f)
			return false;
	return s.p[0] == '/';
}

#define P    "properties."
#define T    P "customContainerTemplate."
#define C    T "containers[]."
#define B    C "probes[]."
#define H    B "httpGet."
#define D    P "dynamicPoolConfiguration."
#define L    D "lifecycleConfiguration."
#define NEED .required = true

static const struct rule rules[] = {
	{.path = "id", .kind = RULE_IGNORED},
	{.path = "name", .kind = RULE_IGNORED},
	{.path = "type", .kind = RULE_IGNORED},
	{.path = "apiVersion", .kind = RULE_IGNORED}, /* of a template */
	{.path = "dependsOn", .kind = RULE_IGNORED},
	{.path = "systemData", .kind = RULE_IGNORED},
	{.path = "etag", .kind = RULE_IGNORED},
	{.path = "location",
	 .kind = RULE_STRING,
	 .min = 1,
	 .max = 128,
	 .good = line_good,
	 .allowed = "without control characters",
	 NEED},
	{.path = "tags", .kind = RULE_MAP, .min = 0, .max = 50},
	{.path = "identity", .kind = RULE_OBJECT},
	{.path = "identity.type",
	 .kind = RULE_ENUM,
	 .words = "None|SystemAssigned|UserAssigned|SystemAssigned,UserAssigned|"
		  "SystemAssigned, UserAssigned",
	 NEED},
	{.path = "identity.principalId", .kind = RULE_IGNORED},
	{.path = "identity.tenantId", .kind = RULE_IGNORED},
	/* identity.userAssignedIdentities has keys of its own: pool_document.c takes it out first */
	{.path = "properties", .kind = RULE_OBJECT, NEED},
	{.path = P "environmentId",
	 .kind = RULE_STRING,
	 .min = 1,
	 .max = 1024,
	 .good = resource_id_good,
	 .allowed = "a resource id, beginning with '/'"},
	{.path = P "poolManagementType", .kind = RULE_ENUM, .words = "Dynamic"},
	{.path = P "containerType", .kind = RULE_ENUM, .words = "CustomContainer"},
	{.path = P "nodeCount", .kind = RULE_IGNORED},
	{.path = P "poolManagementEndpoint", .kind = RULE_IGNORED},
	{.path = P "provisioningState", .kind = RULE_IGNORED},
	{.path = P "templateUpdateStatus", .kind = RULE_IGNORED},
	{.path = P "mcpServerSettings", .kind = RULE_IGNORED},
	{.path = P "scaleConfiguration", .kind = RULE_OBJECT, NEED},
	{.path = P "scaleConfiguration.maxConcurrentSessions",
	 .kind = RULE_INTEGER,
	 .min = 1,
	 .max = 1000000,
	 NEED},
	{.path = P "scaleConfiguration.readySessionInstances",
	 .kind = RULE_INTEGER,
	 .min = 0,
	 .max = 1000000},
	{.path = P "secrets", .kind = RULE_ARRAY, .min = 0, .max = 64},
	{.path = P "secrets[]", .kind = RULE_OBJECT},
	{.path = P "secrets[].name",
	 .kind = RULE_STRING,
	 .min = 1,
	 .max = 253,
	 .good = pool_secret_name_good,
	 .allowed = "lower case letters, digits, and inside also '-' and '.'",
	 NEED},
	{.path = P "secrets[].value", .kind = RULE_STRING, .min = 1, .max = SECRET_MAX},
	{.path = P "secrets[].keyVaultUrl", .kind = RULE_STRING, .min = 0, .max = 0},
	{.path = P "secrets[].identity", .kind = RULE_STRING, .min = 0, .max = 0},
	{.path = P "dynamicPoolConfiguration", .kind = RULE_OBJECT},
	{.path = D "executionType", .kind = RULE_ENUM, .words = "Timed", .until = VERSION_LIFECYCLE - 1},
	{.path = D "cooldownPeriodInSeconds",
	 .kind = RULE_INTEGER,
	 .min = RULE_COOLDOWN_MIN,
	 .max = 3600,
	 .until = VERSION_LIFECYCLE - 1},
	{.path = D "lifecycleConfiguration", .kind = RULE_OBJECT, .since = VERSION_LIFECYCLE},
	{.path = L "lifecycleType", .kind = RULE_ENUM, .words = "Timed|OnContainerExit"},
	{.path = L "cooldownPeriodInSeconds", .kind = RULE_INTEGER, .min = RULE_COOLDOWN_MIN, .max = 3600},
	{.path = L "maxAlivePeriodInSeconds",
	 .kind = RULE_INTEGER,
	 .min = RULE_COOLDOWN_MIN,
	 .max = INT32_TOP},
	{.path = P "customContainerTemplate", .kind = RULE_OBJECT, NEED},
	{.path = T "registryCredentials", .kind = RULE_OBJECT},
	{.path = T "registryCredentials.registryServer",
	 .kind = RULE_STRING,
	 .min = 1,
	 .max = 256,
	 .good = server_good,
	 .allowed = "host or host:port",
	 .until = VERSION_SERVER - 1},
	{.path = T "registryCredentials.server",
	 .kind = RULE_STRING,
	 .min = 1,
	 .max = 256,
	 .good = server_good,
	 .allowed = "host or host:port",
	 .since = VERSION_SERVER},
	{.path = T "registryCredentials.username",
	 .kind = RULE_STRING,
	 .min = 0,
	 .max = 256,
	 .good = line_good,
	 .allowed = "without control characters"},
	{.path = T "registryCredentials.passwordSecretRef", .kind = RULE_STRING, .min = 0, .max = 253},
	{.path = T "registryCredentials.identity",
	 .kind = RULE_STRING,
	 .min = 0,
	 .max = 1024,
	 .good = identity_good,
	 .allowed = "the resource id of an identity, or 'system'"},
	{.path = T "containers", .kind = RULE_ARRAY, .min = 1, .max = 1, NEED},
	{.path = T "containers[]", .kind = RULE_OBJECT},
	{.path = C "image",
	 .kind = RULE_STRING,
	 .min = 1,
	 .max = IMAGE_REFERENCE_MAX,
	 .good = image_good,
	 .allowed = "an image reference such as registry/name:tag",
	 NEED},
	{.path = C "name",
	 .kind = RULE_STRING,
	 .min = 1,
	 .max = 253,
	 .good = container_name_good,
	 .allowed = "letters, digits, '-', '_' and '.'"},
	{.path = C "command", .kind = RULE_ARRAY, .min = 0, .max = TEMPLATE_ARGS_MAX},
	{.path = C "command[]", .kind = RULE_STRING, .min = 0, .max = TEMPLATE_STRING_MAX},
	{.path = C "args", .kind = RULE_ARRAY, .min = 0, .max = TEMPLATE_ARGS_MAX},
	{.path = C "args[]", .kind = RULE_STRING, .min = 0, .max = TEMPLATE_STRING_MAX},
	{.path = C "env", .kind = RULE_ARRAY, .min = 0, .max = TEMPLATE_ENV_MAX},
	{.path = C "env[]", .kind = RULE_OBJECT},
	{.path = C "env[].name",
	 .kind = RULE_STRING,
	 .min = 1,
	 .max = 512,
	 .good = env_name_good,
	 .allowed = "without '=', spaces and control characters, and not begin with a digit",
	 NEED},
	{.path = C "env[].value", .kind = RULE_STRING, .min = 0, .max = TEMPLATE_STRING_MAX},
	{.path = C "env[].secretRef", .kind = RULE_STRING, .min = 0, .max = 253},
	{.path = C "resources", .kind = RULE_OBJECT, NEED},
	{.path = C "resources.cpu", .kind = RULE_CPU, .min = 250, .max = 2000, NEED},
	{.path = C "resources.memory", .kind = RULE_MEMORY, .min = 512, .max = 4096, NEED},
	{.path = C "resources.ephemeralStorage", .kind = RULE_IGNORED},
	{.path = C "resources.gpu", .kind = RULE_INTEGER, .min = 0, .max = 0},
	{.path = C "volumeMounts", .kind = RULE_ARRAY, .min = 0, .max = 0},
	{.path = C "probes", .kind = RULE_ARRAY, .min = 0, .max = TEMPLATE_PROBES_MAX},
	{.path = C "probes[]", .kind = RULE_OBJECT},
	{.path = B "type", .kind = RULE_ENUM, .words = "Liveness|Startup", NEED},
	{.path = B "httpGet", .kind = RULE_OBJECT},
	{.path = H "host",
	 .kind = RULE_STRING,
	 .min = 0,
	 .max = 255,
	 .good = server_good,
	 .allowed = "a host name"},
	{.path = H "path",
	 .kind = RULE_STRING,
	 .min = 0,
	 .max = 2048,
	 .good = url_path_good,
	 .allowed = "a path beginning with '/', without spaces"},
	{.path = H "port", .kind = RULE_INTEGER, .min = 1, .max = 65535, NEED},
	{.path = H "scheme", .kind = RULE_ENUM, .words = "HTTP|HTTPS"},
	{.path = H "httpHeaders", .kind = RULE_ARRAY, .min = 0, .max = TEMPLATE_HEADERS_MAX},
	{.path = H "httpHeaders[]", .kind = RULE_OBJECT},
	{.path = H "httpHeaders[].name",
	 .kind = RULE_STRING,
	 .min = 1,
	 .max = 256,
	 .good = token_good,
	 .allowed = "a header's name",
	 NEED},
	{.path = H "httpHeaders[].value",
	 .kind = RULE_STRING,
	 .min = 0,
	 .max = 4096,
	 .good = line_good,
	 .allowed = "without control characters",
	 NEED},
	{.path = B "tcpSocket", .kind = RULE_OBJECT},
	{.path = B "tcpSocket.host",
	 .kind = RULE_STRING,
	 .min = 0,
	 .max = 255,
	 .good = server_good,
	 .allowed = "a host name"},
	{.path = B "tcpSocket.port", .kind = RULE_INTEGER, .min = 1, .max = 65535, NEED},
	{.path = B "failureThreshold", .kind = RULE_INTEGER, .min = 1, .max = 10},
	{.path = B "initialDelaySeconds", .kind = RULE_INTEGER, .min = 0, .max = 60},
	{.path = B "periodSeconds", .kind = RULE_INTEGER, .min = 1, .max = 240},
	{.path = B "successThreshold", .kind = RULE_INTEGER, .min = 1, .max = 10},
	{.path = B "timeoutSeconds", .kind = RULE_INTEGER, .min = 1, .max = 240},
	{.path = B "terminationGracePeriodSeconds", .kind = RULE_INTEGER, .min = 0, .max = 3600},
	{.path = T "ingress", .kind = RULE_OBJECT, NEED},
	{.path = T "ingress.targetPort", .kind = RULE_INTEGER, .min = 1, .max = 65535, NEED},
	{.path = P "sessionNetworkConfiguration", .kind = RULE_OBJECT},
	{.path = P "sessionNetworkConfiguration.status",
	 .kind = RULE_ENUM,
	 .words = "EgressEnabled|EgressDisabled"},
	{.path = P "managedIdentitySettings", .kind = RULE_ARRAY, .min = 0, .max = 64},
	{.path = P "managedIdentitySettings[]", .kind = RULE_OBJECT},
	{.path = P "managedIdentitySettings[].identity",
	 .kind = RULE_STRING,
	 .min = 1,
	 .max = 1024,
	 .good = identity_good,
	 .allowed = "the resource id of an identity, or 'system'",
	 NEED},
	{.path = P "managedIdentitySettings[].lifecycle", .kind = RULE_ENUM, .words = "None|Main"},
};

const struct rule_table pool_rules = {rules, sizeof rules / sizeof *rules};
