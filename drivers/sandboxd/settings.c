#include "sandboxd/settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/fd.h"
#include "core/log.h"
#include "core/str.h"

#define FILE_BYTES_MAX 65536
#define MIB            (1024u * 1024)
#define DAY_MS         86400000ull
#define LONGEST_MS     (3650 * DAY_MS)

enum kind { TEXT, LIST, NUMBER32, SIZE, DURATION, ADDRESS, LEVEL, SWITCH };

struct name {
	const char *name;
	enum kind kind;
	size_t offset, size;
	uint64_t min, max;
};

#define TEXT_AT(f) offsetof(struct settings, f), sizeof(((struct settings *)0)->f)

static const struct name names[] = {
	{"state_dir", TEXT, TEXT_AT(state_dir), 1, SETTINGS_PATH_MAX - 64},
	{"sandboxd_socket", TEXT, TEXT_AT(socket), 1, 107},
	{"user", TEXT, TEXT_AT(user), 1, 63},
	{"uid_base", NUMBER32, TEXT_AT(uid_base), 100000, 4000000000u},
	{"uid_count", NUMBER32, TEXT_AT(uid_count), 131072, 4000000000u},
	{"sandbox_memory_max", SIZE, TEXT_AT(memory_max), 16 * MIB, UINT64_MAX / 2},
	{"sandbox_disk_max", SIZE, TEXT_AT(disk_bytes_max), MIB, UINT64_MAX / 2},
	{"sandbox_read_max", SIZE, TEXT_AT(read_bytes_max), MIB, UINT64_MAX / 2},
	{"sandbox_cpu_max", NUMBER32, TEXT_AT(cpu_milli_max), 10, 1000000},
	{"sandbox_pids_max", NUMBER32, TEXT_AT(pids_max), 8, 1000000},
	{"log_bytes_max", SIZE, TEXT_AT(log_bytes_max), 65536, UINT64_MAX / 2},
	{"log_disk_max", SIZE, TEXT_AT(log_disk_max), MIB, UINT64_MAX / 2},
	{"log_retention", DURATION, TEXT_AT(log_retention_ms), 1000, LONGEST_MS},
	{"events_disk_max", SIZE, TEXT_AT(events_disk_max), 65536, UINT64_MAX / 2},
	{"events_retention", DURATION, TEXT_AT(events_retention_ms), 1000, LONGEST_MS},
	{"image_ca", TEXT, TEXT_AT(image_ca), 0, SETTINGS_PATH_MAX - 1},
	{"image_stall_ms", NUMBER32, TEXT_AT(image_stall_ms), 1000, 600000},
	{"image_parallel", NUMBER32, TEXT_AT(image_parallel), 1, 16},
	{"image_fetch_max", SIZE, TEXT_AT(image_fetch_max), MIB, UINT64_MAX / 2},
	{"image_layer_max", SIZE, TEXT_AT(image_layer_max), MIB, UINT64_MAX / 2},
	{"image_unpacked_max", SIZE, TEXT_AT(image_unpacked_max), MIB, UINT64_MAX / 2},
	{"image_disk_max", SIZE, TEXT_AT(image_disk_max), 0, UINT64_MAX / 2},
	{"image_retention", DURATION, TEXT_AT(image_retention_ms), 60000, LONGEST_MS},
	{"image_entries_max", NUMBER32, TEXT_AT(image_entries_max), 100, 100000000},
	{"image_layers_max", NUMBER32, TEXT_AT(image_layers_max), 1, 256},
	{"image_depth_max", NUMBER32, TEXT_AT(image_depth_max), 8, 128},
	{"registry_mirror", TEXT, TEXT_AT(registry_mirror), 0, 4096},
	{"registry_token_hosts", TEXT, TEXT_AT(registry_token_hosts), 0, 1024},
	{"insecure_registries", TEXT, TEXT_AT(insecure_registries), 0, 4096},
	{"allowed_registries", TEXT, TEXT_AT(allowed_registries), 0, 4096},
	{"resolvers", LIST, TEXT_AT(resolvers), 0, 0},
	{"egress_denied", LIST, TEXT_AT(denied), 0, 0},
	{"egress_base", ADDRESS, TEXT_AT(egress_base), 0, 0},
	{"egress_connections", NUMBER32, TEXT_AT(egress_limits.connections), 1, 1000000},
	{"egress_connection_rate", NUMBER32, TEXT_AT(egress_limits.connections_second), 1, 1000000},
	{"egress_packet_rate", NUMBER32, TEXT_AT(egress_limits.packets_second), 10, 100000000},
	{"egress_bandwidth", SIZE, TEXT_AT(egress_limits.bytes_second), 65536, UINT64_MAX / 2},
	{"vm", SWITCH, TEXT_AT(vm), 0, 0},
	{"vm_emulation", SWITCH, TEXT_AT(vm_emulation), 0, 0},
	{"vm_kernel", TEXT, TEXT_AT(vm_kernel), 0, SETTINGS_PATH_MAX - 1},
	{"libvirt_uri", TEXT, TEXT_AT(libvirt_uri), 0, SETTINGS_PATH_MAX - 1},
	{"log_level", LEVEL, TEXT_AT(log_level), 0, 0},
};

void settings_defaults(struct settings *s)
{
	*s = (struct settings){.uid_base = 1000000000,
			       .uid_count = 134217728,
			       .memory_max = 4096ull * MIB,
			       .log_bytes_max = 16 * MIB,
			       .log_disk_max = 1024ull * MIB,
			       .log_retention_ms = 7 * DAY_MS,
			       .events_disk_max = 128 * MIB,
			       .events_retention_ms = 90 * DAY_MS,
			       .disk_bytes_max = 512 * MIB,
			       .read_bytes_max = 256 * MIB,
			       .cpu_milli_max = 2000,
			       .pids_max = 512,
			       .image_stall_ms = 30000,
			       .image_parallel = 3,
			       .image_layers_max = 128,
			       .image_depth_max = 64,
			       .image_entries_max = 1000000,
			       .image_retention_ms = 30 * DAY_MS,
			       .image_fetch_max = 8192ull * MIB,
			       .image_layer_max = 4096ull * MIB,
			       .image_unpacked_max = 16384ull * MIB,
			       .egress_limits = {.connections = 1024,
						 .connections_second = 200,
						 .packets_second = 50000,
						 .bytes_second = 128ull * MIB},
			       .vm = 1,
			       .log_level = LOG_INFO};
}

/* IPv4 addresses, or ranges, with spaces or commas between: exactly that, for they become firewall rules. */
static int append_addresses(struct str list, char *to, size_t size)
{
	size_t used = strlen(to);

	while (list.n > 0) {
		struct str word, address, bits;
		char text[INET_ADDRSTRLEN];
		struct in_addr parsed;
		uint64_t n = 32;
		size_t end = 0;

		while (end < list.n && strchr(" \t,", list.p[end]) == NULL)
			end++;
		word = str_slice(list, 0, end);
		list = str_slice(list, end < list.n ? end + 1 : end, list.n);
		if (word.n == 0)
			continue;
		str_cut(word, '/', &address, &bits);
		if (str_copy(address, text, sizeof text) < 0 || inet_pton(AF_INET, text, &parsed) != 1 ||
		    (address.n < word.n && str_u64(bits, 32, &n) < 0))
			return -EINVAL;
		if (used + word.n + 2 > size)
			return -E2BIG;
		if (used > 0)
			to[used++] = ' ';
		memcpy(to + used, word.p, word.n);
		used += word.n;
		to[used] = '\0';
	}
	return 0;
}

static int take_number(const struct name *n, struct str value, struct settings *s)
{
	uint64_t x;
	int r = n->kind == SIZE       ? str_size(value, &x)
		: n->kind == DURATION ? str_duration(value, &x)
				      : str_u64(value, n->max, &x);

	if (r < 0 || x < n->min || x > n->max)
		return -EINVAL;
	if (n->kind != NUMBER32)
		memcpy((char *)s + n->offset, &x, sizeof x);
	else
		memcpy((char *)s + n->offset, &(uint32_t){(uint32_t)x}, sizeof(uint32_t));
	return 0;
}

/* One of the words, as its number. */
static int take_word(const struct name *n, struct str value, struct settings *s)
{
	static const char *const levels[] = {"debug", "info", "warn", "error", NULL}, *const switches[] = {
											      "off", "on",
											      NULL};
	const char *const *words = n->kind == LEVEL ? levels : switches;

	for (uint32_t i = 0; words[i] != NULL; i++) {
		if (str_eq(value, str_of(words[i]))) {
			memcpy((char *)s + n->offset, &i, sizeof i);
			return 0;
		}
	}
	return -EINVAL;
}

static int take(const struct name *n, struct str value, struct settings *s)
{
	char text[INET_ADDRSTRLEN];
	struct in_addr a;

	switch (n->kind) {
	case TEXT:
		return value.n < n->min || value.n > n->max ? -EINVAL
							    : str_copy(value, (char *)s + n->offset, n->size);
	case LIST:
		return append_addresses(value, (char *)s + n->offset, n->size);
	case NUMBER32:
	case SIZE:
	case DURATION:
		return take_number(n, value, s);
	case ADDRESS:
		if (str_copy(value, text, sizeof text) < 0 || inet_pton(AF_INET, text, &a) != 1)
			return -EINVAL;
		s->egress_base = ntohl(a.s_addr);
		return 0;
	case LEVEL:
	case SWITCH:
		return take_word(n, value, s);
	}
	return -EINVAL;
}

static int refuse(const char *path, int line, const struct name *n, struct err *err)
{
	static const char *const allowed[] = {[TEXT] = "a text",
					      [LIST] = "IPv4 addresses or ranges",
					      [NUMBER32] = "a number",
					      [SIZE] = "a size such as 512Mi",
					      [DURATION] = "a time such as 7d, in milliseconds",
					      [ADDRESS] = "an IPv4 address",
					      [LEVEL] = "debug, info, warn or error",
					      [SWITCH] = "on or off"};

	if (n->max > 0)
		return err_set(err, -EINVAL, "%s:%d: %s: not %s of %" PRIu64 " to %" PRIu64 "%s", path, line,
			       n->name, allowed[n->kind], n->min, n->max, n->kind == TEXT ? " bytes" : "");
	return err_set(err, -EINVAL, "%s:%d: %s: not %s", path, line, n->name, allowed[n->kind]);
}

/* "ID NAME RAFT PEER": addresses of nodes, which egress must not reach. Host names are left to its general rules. */
static void take_member(struct str value, struct settings *s)
{
	while (value.n > 0) {
		struct str word, host, port;

		str_cut(value, ' ', &word, &value);
		if (str_cut(word, ':', &host, &port))
			(void)!append_addresses(host, s->denied, sizeof s->denied);
	}
}

static int take_line(const char *path, int line, struct str text, struct settings *s, struct err *err)
{
	struct str name, value;

	text = str_trim(text);
	if (text.n == 0 || text.p[0] == '#' || !str_cut(text, '=', &name, &value))
		return 0;
	name = str_trim(name);
	value = str_trim(value);
	if (str_eq(name, STR("member"))) {
		take_member(value, s);
		return 0;
	}
	if (value.n == 0)
		return 0; /* as if it were not there */
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (str_eq(name, str_of(names[i].name)))
			return take(&names[i], value, s) < 0 ? refuse(path, line, &names[i], err) : 0;
	}
	return 0;
}

static int check_whole(const char *path, struct settings *s, struct err *err)
{
	if (s->state_dir[0] != '/' || s->socket[0] != '/')
		return err_set(err, -EINVAL, "%s: state_dir and sandboxd_socket have to be absolute paths",
			       path);
	if (s->user[0] == '\0')
		return err_set(err, -EINVAL, "%s: user is missing: who may connect", path);
	if ((uint64_t)s->uid_base + s->uid_count > UINT32_MAX)
		return err_set(err, -EINVAL, "%s: uid_base + uid_count exceeds %u", path, UINT32_MAX);
	strcat(s->state_dir, "/sandboxd");
	return 0;
}

int settings_load(const char *path, struct settings *ret, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	struct settings s;
	struct str rest, line;
	struct stat st;
	int r, number = 0;

	if (stat(path, &st) != 0)
		return err_system(err, -errno, "%s", path);
	if (st.st_uid != 0 || (st.st_mode & 022) != 0)
		return err_set(err, -EPERM, "%s: has to belong to root, and no group or others may write it",
			       path);
	r = fd_read_file(path, FILE_BYTES_MAX, &b, err);
	if (r < 0)
		return r;
	settings_defaults(&s);
	rest = buf_str(&b);
	while (rest.n > 0) {
		str_cut(rest, '\n', &line, &rest);
		r = take_line(path, ++number, line, &s, err);
		if (r < 0)
			return r;
	}
	r = check_whole(path, &s, err);
	if (r == 0)
		*ret = s;
	return r;
}
