#include "libvirt_guest/protocol.h"

#include <errno.h>
#include <string.h>

#define PATH_BYTES 4096

static const struct codec_field guest_hello_fields[] = {
	CODEC_U64(struct guest_hello, nonce),
};
const struct codec_type guest_hello_codec = CODEC_TYPE(struct guest_hello, "hello", guest_hello_fields);

static const struct codec_field guest_hello_answer_fields[] = {
	CODEC_U64(struct guest_hello_answer, nonce),
	CODEC_STR(struct guest_hello_answer, release, GUEST_RELEASE_BYTES),
	CODEC_ENUM(struct guest_hello_answer, state, GUEST_STATES),
};
const struct codec_type guest_hello_answer_codec =
	CODEC_TYPE(struct guest_hello_answer, "hello", guest_hello_answer_fields);

static const struct codec_field guest_start_fields[] = {
	CODEC_STRS(struct guest_start, argv, 1024),
	CODEC_STRS(struct guest_start, env, 1024),
	CODEC_STR(struct guest_start, user, 256),
	CODEC_STR(struct guest_start, working_dir, PATH_BYTES),
	CODEC_STR(struct guest_start, hostname, 64),
	CODEC_STR(struct guest_start, resolv_conf, 1024),
	CODEC_SECRET(struct guest_start, seed, GUEST_SEED_BYTES),
	CODEC_U64(struct guest_start, wall_ns),
	CODEC_STR(struct guest_start, mac, GUEST_MAC_BYTES),
	CODEC_STR(struct guest_start, gateway_mac, GUEST_MAC_BYTES),
	CODEC_U32(struct guest_start, address),
	CODEC_U32(struct guest_start, gateway),
	CODEC_U8(struct guest_start, prefix),
	CODEC_U32(struct guest_start, pids_max),
	CODEC_U64(struct guest_start, disk_bytes),
};
const struct codec_type guest_start_codec = CODEC_TYPE(struct guest_start, "start", guest_start_fields);

static const struct codec_field guest_signal_fields[] = {
	CODEC_ENUM(struct guest_signal, signal, 65),
};
static const struct codec_type guest_signal_codec =
	CODEC_TYPE(struct guest_signal, "signal", guest_signal_fields);

static const struct codec_field guest_clock_fields[] = {
	CODEC_U64(struct guest_clock, wall_ns),
};
static const struct codec_type guest_clock_codec =
	CODEC_TYPE(struct guest_clock, "clock", guest_clock_fields);

static const struct codec_field guest_failed_fields[] = {
	CODEC_U8(struct guest_failed, status),
	CODEC_STR(struct guest_failed, message, GUEST_MESSAGE_BYTES),
};
static const struct codec_type guest_failed_codec =
	CODEC_TYPE(struct guest_failed, "failed", guest_failed_fields);

static const struct codec_field guest_output_fields[] = {
	CODEC_ENUM(struct guest_output, stream, 3),
	CODEC_STR(struct guest_output, bytes, GUEST_OUTPUT_BYTES),
};
static const struct codec_type guest_output_codec =
	CODEC_TYPE(struct guest_output, "output", guest_output_fields);

static const struct codec_field guest_exit_fields[] = {
	CODEC_BOOL(struct guest_exit, signalled),
	CODEC_U8(struct guest_exit, value),
	CODEC_BOOL(struct guest_exit, oom),
};
static const struct codec_type guest_exit_codec = CODEC_TYPE(struct guest_exit, "exit", guest_exit_fields);

static const struct codec_field guest_network_fields[] = {
	CODEC_STR(struct guest_network, mac, GUEST_MAC_BYTES),
	CODEC_STR(struct guest_network, gateway_mac, GUEST_MAC_BYTES),
	CODEC_U32(struct guest_network, address),
	CODEC_U32(struct guest_network, gateway),
	CODEC_U8(struct guest_network, prefix),
};
static const struct codec_type guest_network_codec =
	CODEC_TYPE(struct guest_network, "network", guest_network_fields);

const struct codec_type *const guest_body_codec[GUEST_FRAME_TYPES] = {
	[GUEST_HELLO] = &guest_hello_codec,
	[GUEST_START] = &guest_start_codec,
	[GUEST_SIGNAL] = &guest_signal_codec,
	[GUEST_CLOCK] = &guest_clock_codec,
	[GUEST_NETWORK] = &guest_network_codec,
	[GUEST_BYE] = NULL,
	[GUEST_RUNNING] = NULL,
	[GUEST_FAILED] = &guest_failed_codec,
	[GUEST_OUTPUT] = &guest_output_codec,
	[GUEST_OOM] = NULL,
	[GUEST_EXIT] = &guest_exit_codec,
};

/* -- Frames --------------------------------------------------------------------------------------------------- */

int guest_frame_write(struct buf *to, enum guest_frame_type type, const struct codec_type *body,
		      const void *value)
{
	size_t head = to->n, n;

	buf_add(to, (char[GUEST_FRAME_HEAD]){'B', 'G', GUEST_PROTOCOL, (char)type}, GUEST_FRAME_HEAD);
	if (body != NULL)
		codec_encode(to, body, value);
	n = to->n - head - GUEST_FRAME_HEAD;
	if (buf_failed(to) || n > CODEC_BYTES_MAX)
		return -E2BIG;
	for (int i = 0; i < 4; i++)
		to->p[head + 4 + (size_t)i] = (char)(n >> 8 * i);
	return 0;
}

int guest_frame_read(const void *p, size_t n, size_t max, struct guest_frame *ret, size_t *ret_size,
		     struct err *err)
{
	const uint8_t *b = p;
	size_t size = 0;

	if ((n > 0 && b[0] != 'B') || (n > 1 && b[1] != 'G'))
		return err_set(err, -EBADMSG, "no frame begins with %02x %02x", b[0], n > 1 ? b[1] : 0);
	if (n > 2 && b[2] != GUEST_PROTOCOL)
		return err_set(err, -EPROTONOSUPPORT, "version %u of the agent's protocol, not %d", b[2],
			       GUEST_PROTOCOL);
	if (n > 3 && b[3] >= GUEST_FRAME_TYPES)
		return err_set(err, -EBADMSG, "a frame of type %u", b[3]);
	if (n < GUEST_FRAME_HEAD) {
		*ret_size = 0;
		return 0;
	}
	for (int i = 0; i < 4; i++)
		size |= (size_t)b[4 + i] << 8 * i;
	if (size > max - GUEST_FRAME_HEAD)
		return err_set(err, -EBADMSG, "a frame of %zu bytes", size);
	if (n - GUEST_FRAME_HEAD < size) {
		*ret_size = 0;
		return 0;
	}
	*ret = (struct guest_frame){.type = b[3], .body = {(const char *)b + GUEST_FRAME_HEAD, size}};
	*ret_size = GUEST_FRAME_HEAD + size;
	return 0;
}

int guest_frame_body(const struct guest_frame *f, const struct codec_type *type, struct arena *arena,
		     void *ret, struct err *err)
{
	if (type != NULL)
		return codec_decode(f->body.p, f->body.n, type, arena, ret, err);
	return f->body.n == 0 ? 0 : err_set(err, -EBADMSG, "a frame of type %u with a body", f->type);
}

/* -- A start -------------------------------------------------------------------------------------------------- */

static bool has_nul(struct str s)
{
	return s.n > 0 && memchr(s.p, '\0', s.n) != NULL;
}

static bool is_unicast(struct str mac)
{
	return mac.n == GUEST_MAC_BYTES && (mac.p[0] & 1) == 0;
}

static bool is_hostname(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && i > 0)))
			return false;
	}
	return s.n > 0 && s.n < 64;
}

int guest_network_check(const struct guest_network *n, struct err *err)
{
	if (n->mac.n != 0 && (!is_unicast(n->mac) || !is_unicast(n->gateway_mac) || n->address == 0 ||
			      n->gateway == 0 || n->prefix < 8 || n->prefix > 31))
		return err_set(err, -EINVAL, "addresses of the network");
	return 0;
}

int guest_start_check(const struct guest_start *s, struct err *err)
{
	if (s->n_argv == 0 || s->argv[0].n == 0)
		return err_set(err, -EINVAL, "start: argv is empty");
	for (uint32_t i = 0; i < s->n_argv + s->n_env; i++) {
		if (has_nul(i < s->n_argv ? s->argv[i] : s->env[i - s->n_argv]))
			return err_set(err, -EINVAL, "start: a NUL in argv or env");
	}
	if (has_nul(s->user) || has_nul(s->working_dir) || has_nul(s->resolv_conf))
		return err_set(err, -EINVAL, "start: a NUL in user, directory or resolv.conf");
	if (!is_hostname(s->hostname))
		return err_set(err, -EINVAL, "start: hostname: 1 to 63 of a-z, 0-9 and -");
	if (s->seed.n != GUEST_SEED_BYTES)
		return err_set(err, -EINVAL, "start: a seed of %zu bytes, not %d", s->seed.n,
			       GUEST_SEED_BYTES);
	const struct guest_network n = {s->mac, s->gateway_mac, s->address, s->gateway, s->prefix};

	if (guest_network_check(&n, err) < 0)
		return err_set(err, -EINVAL, "start: addresses of the network");
	if (s->pids_max == 0 || s->disk_bytes < 4096)
		return err_set(err, -EINVAL, "start: limits");
	return 0;
}
