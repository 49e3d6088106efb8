#include "sandboxd/channel/packet.h"

#include <errno.h>
#include <string.h>

#include "core/must.h"

#define BODY_BYTES_MAX (SANDBOXD_PACKET_MAX - 64)

int packet_decode(const void *p, size_t n, struct arena *arena, struct packet *ret, struct err *err)
{
	struct sandboxd_message m;
	struct packet packet = {0};
	int r;

	if (n > SANDBOXD_PACKET_MAX)
		return err_set(err, -EBADMSG, "packet: larger than %u bytes", SANDBOXD_PACKET_MAX);
	r = codec_decode(p, n, &sandboxd_message_codec, arena, &m, err);
	if (r < 0)
		return r;
	if (m.type >= SANDBOXD_REPLY && m.type <= SANDBOXD_ABLE)
		return err_set(err, -EBADMSG, "packet: type %u is not a request", m.type);
	packet.type = (enum sandboxd_type)m.type;
	packet.correlation = m.correlation;
	const struct codec_type *type = sandboxd_body_codec[m.type];

	if (type == NULL) {
		if (m.body.n > 0)
			return err_set(err, -EBADMSG, "%s: has no body", sandboxd_type_name[m.type]);
	} else {
		must(type->size <= sizeof packet.body);
		r = codec_decode(m.body.p, m.body.n, type, arena, &packet.body, err);
		if (r < 0)
			return r;
	}
	*ret = packet;
	return 0;
}

int packet_encode(struct buf *to, enum sandboxd_type type, uint64_t correlation, const void *body)
{
	CLEANUP_BUF struct buf inner = BUF_MAX(BODY_BYTES_MAX);
	struct sandboxd_message m = {.type = (uint8_t)type, .correlation = correlation};

	codec_encode(&inner, sandboxd_body_codec[type], body);
	if (buf_failed(&inner))
		return -EMSGSIZE;
	m.body = buf_str(&inner);
	codec_encode(to, &sandboxd_message_codec, &m);
	return buf_failed(to) ? -EMSGSIZE : 0;
}

static bool has_nul(struct str s)
{
	return s.n > 0 && memchr(s.p, '\0', s.n) != NULL;
}

static int check_env(const struct env_var *v, struct err *err)
{
	if (v->name.n == 0 || has_nul(v->name) || str_find(v->name, '=') < v->name.n)
		return err_set(err, -EINVAL, "start.env: a name is empty, or holds '=' or a NUL");
	if (has_nul(v->value))
		return err_set(err, -EINVAL, "start.env: the value of %.*s holds a NUL", STR_ARGS(v->name));
	if (v->secret_ref.n > 0)
		return err_set(err, -EINVAL, "start.env: %.*s still names a secret; values are expected here",
			       STR_ARGS(v->name));
	return 0;
}

int packet_check_start(const struct sandboxd_start *s, struct err *err)
{
	if (s->sandbox == 0)
		return err_set(err, -EINVAL, "start.sandbox: 0 is no id");
	if (s->cpu_milli == 0 || s->memory_bytes == 0)
		return err_set(err, -EINVAL, "start.cpu_milli and start.memory_bytes: have to be above 0");
	if (s->target_port == 0)
		return err_set(err, -EINVAL, "start.target_port: 1 to 65535");
	for (uint32_t i = 0; i < s->n_command; i++) {
		if (has_nul(s->command[i]) || (i == 0 && s->command[i].n == 0))
			return err_set(err, -EINVAL,
				       "start.command: the program is empty, or a word holds a NUL");
	}
	for (uint32_t i = 0; i < s->n_args; i++) {
		if (has_nul(s->args[i]))
			return err_set(err, -EINVAL, "start.args: a word holds a NUL");
	}
	for (uint32_t i = 0; i < s->n_env; i++) {
		int r = check_env(&s->env[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}
