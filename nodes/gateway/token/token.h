/* token.h -- bearer tokens (JWT, RFC 7519) of the built-in issuer: made and checked with a key that we hold.
 *
 * The algorithm is the key's (ES256 for EC P-256, EdDSA for Ed25519), never the token's; a token's jwk, jku, x5u, x5c and
 * crit are refused; base64url is strict; at most TOKEN_BYTES_MAX. Management and data plane have different audiences,
 * without fallback. Failures answer -EACCES with a reason for the log; the caller's answer is 401, without the reason.
 * token_keys is immutable and counted: any thread. A token_cache belongs to one thread. */
#ifndef GATEWAY_TOKEN_H
#define GATEWAY_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/str.h"

#define TOKEN_BYTES_MAX        8192
#define TOKEN_ROLES_MAX        16
#define TOKEN_SUBJECT_MAX      128
#define TOKEN_SCOPE_MAX        512
#define TOKEN_LIFE_S           3600 /* when not asked otherwise */
#define TOKEN_LIFE_MAX_S       86400
#define TOKEN_SKEW_S           60 /* between the clocks of nodes, for nbf and iat */
#define TOKEN_AUDIENCE_DATA    "https://dynamicsessions.io"
#define TOKEN_ROLE_EXECUTOR    "Azure ContainerApps Session Executor"
#define TOKEN_ROLE_EXECUTOR_ID "0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0"

struct token_keys;
struct token_cache;

struct token_role {
	char role[64], scope[TOKEN_SCOPE_MAX]; /* scope "/" is everything */
};

struct token_claims {
	char subject[TOKEN_SUBJECT_MAX];
	uint64_t expires_s; /* Unix time */
	unsigned n_roles;
	struct token_role roles[TOKEN_ROLES_MAX];
};

enum token_plane { TOKEN_DATA, TOKEN_MANAGEMENT };

#define TOKEN_KEYS_MAX 4

/* `private_pem` (empty on nodes that only check) or `public_pem`; EC P-256 or Ed25519. `issuer` is the exact `iss`;
 * `management_audience` the endpoint's URL, with or without a slash at the end. -EINVAL. */
int token_keys_new(struct str private_pem, struct str public_pem, const char *issuer,
		   const char *management_audience, struct token_keys **ret, struct err *err);
/* Tokens of this key are accepted too: of a former one, or of one to come. Before the set is shared. -EINVAL, -ENOBUFS. */
int token_keys_add(struct token_keys *k, struct str public_pem, struct err *err);
struct token_keys *token_keys_ref(struct token_keys *k);
void token_keys_unref(struct token_keys *k);

struct token_request {
	struct str subject;
	enum token_plane plane;
	const struct token_role *roles;
	unsigned n_roles;
	uint64_t life_s; /* 0: TOKEN_LIFE_S; at most TOKEN_LIFE_MAX_S */
	uint64_t now_s;
};
/* Appends the compact form. -EINVAL names the field; -ENOKEY: only the public key is held. */
int token_issue(const struct token_keys *k, const struct token_request *request, struct buf *to,
		struct err *err);

/* Checks everything but roles. -EACCES. */
int token_verify(const struct token_keys *k, struct str token, enum token_plane plane, uint64_t now_s,
		 struct token_claims *ret, struct err *err);
/* The token of an Authorization header's value ("Bearer x", any case of the scheme). -EACCES. */
int token_of_header(struct str value, struct str *ret_token);
/* The role (by name; the executor's also by its id) is given at `scope` or above it; scopes compare without case. */
bool token_has_role(const struct token_claims *c, struct str role, struct str scope);

/* A fixed number of slots, each with the token that it answers for. Entries die at min(exp, 5 min) and when `keys` changes. */
struct token_cache *token_cache_new(void);
void token_cache_free(struct token_cache *c);
/* As token_verify; *ret is borrowed until the next call. */
int token_cache_verify(struct token_cache *c, const struct token_keys *k, struct str token,
		       enum token_plane plane, uint64_t now_s, const struct token_claims **ret,
		       struct err *err);

#endif
