/* Addresses of nodes as people write them. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "mesh/mesh.h"

int mesh_address(struct str text, struct sockaddr_storage *ret, struct err *err)
{
	char host[64];
	size_t colon = text.n;
	uint64_t port;

	while (colon > 0 && text.p[colon - 1] != ':')
		colon--;
	if (colon < 2 || str_u64(str_slice(text, colon, text.n), 65535, &port) < 0)
		return err_set(err, -EINVAL, "%.*s: not host:port", STR_ARGS(text));
	struct str name = str_slice(text, 0, colon - 1);
	bool six = name.n > 2 && name.p[0] == '[';

	if (six)
		name = str_slice(name, 1, name.n - 1);
	memset(ret, 0, sizeof *ret);
	if (str_copy(name, host, sizeof host) < 0)
		return err_set(err, -EINVAL, "%.*s: the host is too long", STR_ARGS(text));
	struct sockaddr_in *four = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *sixth = (struct sockaddr_in6 *)ret;

	if (!six && inet_pton(AF_INET, host, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)port);
		return 0;
	}
	if (six && inet_pton(AF_INET6, host, &sixth->sin6_addr) == 1) {
		sixth->sin6_family = AF_INET6;
		sixth->sin6_port = htons((uint16_t)port);
		return 0;
	}
	return err_set(err, -EINVAL, "%.*s: an IP address and a port are needed", STR_ARGS(text));
}
