/* policy.h -- which hosts berth-fetch talks to, and which of them may see credentials. Pure. */
#ifndef IMAGE_FETCH_POLICY_H
#define IMAGE_FETCH_POLICY_H

#include <stdbool.h>
#include <sys/socket.h>

#include "image_protocol/protocol.h"

/* Hosts are "name[:port]" in lower case; lists hold such, or "*.suffix" for every name below a domain. */

/* Is the host named by the operator, in any list, by itself or below a suffix? */
bool policy_named(const struct image_fetch_request *q, const char *host);
/* May its addresses be private? Those of a host that is named in full: below a suffix anybody's name may stand. */
bool policy_private(const struct image_fetch_request *q, const char *host);
/* May images come from it? All may if no registries are listed. */
bool policy_registry(const struct image_fetch_request *q, const char *host);
/* Plain http? */
bool policy_insecure(const struct image_fetch_request *q, const char *host);
/* May the registry's redirect lead to this host? Never from TLS to plain. */
bool policy_redirect(const struct image_fetch_request *q, const char *registry, const char *host, bool tls);
/* May the registry's credentials be shown to this token server? The registry's own host, its parent domain and that one's other
 * names, or listed in token_hosts; over TLS unless the host is listed in `insecure`. */
bool policy_token(const struct image_fetch_request *q, const char *registry, const char *host, bool tls);
/* Globally reachable unicast (IANA's special-purpose registries). */
bool policy_address_public(const struct sockaddr *address);

#endif
