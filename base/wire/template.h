/* template.h -- what the sandboxes of a pool's revision run: the container of the resource's
 * customContainerTemplate, after validation, in plain numbers. Shared by tables, messages and drivers' calls. */
#ifndef WIRE_TEMPLATE_H
#define WIRE_TEMPLATE_H

#include "core/codec.h"

#define IDENTIFIER_MIN       4
#define IDENTIFIER_MAX       128 /* bytes; Azure's session identifiers */
#define TEMPLATE_ENV_MAX     256
#define TEMPLATE_ARGS_MAX    256
#define TEMPLATE_PROBES_MAX  2
#define TEMPLATE_HEADERS_MAX 32
#define TEMPLATE_STRING_MAX  32768
#define SECRET_MAX           16384 /* bytes of a value; its ciphertext may be 64 longer */
#define DIGEST_MAX           71    /* "sha256:" and 64 hex digits */
#define IMAGE_REFERENCE_MAX  512

/* What stands between a sandbox and its host. Of a pool, for good. */
enum isolation {
	ISOLATION_CONTAINER, /* namespaces, cgroups, seccomp: the host's kernel is shared */
	ISOLATION_VM,        /* a virtual machine with a kernel of its own */
	ISOLATIONS
};
extern const char *const isolation_name[ISOLATIONS]; /* "container", "vm" */
#define NO_VM_MAX 256                                /* bytes of why a node cannot run virtual machines */

struct env_var {
	struct str name;
	struct str value;      /* empty when secret_ref is set */
	struct str secret_ref; /* name of a secret of the pool */
};

struct http_header {
	struct str name, value;
};

enum probe_kind { PROBE_STARTUP, PROBE_LIVENESS, PROBE_KINDS };
enum probe_how { PROBE_TCP, PROBE_HTTP, PROBE_HTTPS, PROBE_HOWS };

/* Fields and defaults: Azure's ContainerAppProbe. */
struct probe {
	uint8_t kind, how;
	uint16_t port;
	struct str host, path;
	struct http_header *headers;
	uint32_t n_headers;
	uint32_t initial_delay_s, period_s, timeout_s, failure_threshold, success_threshold, grace_s;
};

struct registry_credentials {
	struct str server, username;
	struct str password_secret; /* name of a secret of the pool */
	struct str identity;        /* resource id or "system"; pulls are tried anonymously */
};

struct template
{
	struct str container_name;
	struct str image; /* as written */
	struct str
		digest; /* of the manifest list or manifest that `image` named when resolved; empty before */
	struct registry_credentials registry;
	struct str *command; /* overrides Entrypoint when n_command > 0 */
	uint32_t n_command;
	struct str *args; /* overrides Cmd when n_args > 0 */
	uint32_t n_args;
	struct env_var *env;
	uint32_t n_env;
	struct probe *probes;
	uint32_t n_probes;
	uint32_t cpu_milli;
	uint64_t memory_bytes;
	uint16_t target_port;
	struct str node_labels; /* of the nodes that may run it: "a=b,c=d"; empty: of any */
};

extern const struct codec_type env_var_codec, http_header_codec, probe_codec, registry_credentials_codec,
	template_codec;

#define LABELS_MAX 1024
/* "name=value,name=value" of letters, digits and "._/-", no name twice; empty is good too. */
bool template_labels_good(struct str labels);
/* Whether a node with these labels may run it. */
bool template_labels_fit(const struct template *t, struct str labels);
/* The host, perhaps with a port, that an image's name leads to: "docker.io" when it names none. Borrows from image. */
struct str template_registry_of(struct str image);
/* Credentials go to the server that they are for, never to another one that an image names. */
bool template_credentials_apply(const struct template *t);

#endif
