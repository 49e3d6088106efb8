/* fuzz_sandboxd.c -- any packet on sandboxd's socket: what decodes must encode to something that decodes again, and
 * what passes the checks of a start must be fit for a container's argv and environment. */
#include <string.h>

#include "core/must.h"
#include "sandboxd/channel/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_start(const struct sandboxd_start *s)
{
	struct err err = {0};

	if (packet_check_start(s, &err) < 0) {
		must(err.message[0] != '\0');
		return;
	}
	must(s->sandbox != 0 && s->target_port != 0);
	for (uint32_t i = 0; i < s->n_env; i++)
		must(s->env[i].name.n > 0 && memchr(s->env[i].name.p, '=', s->env[i].name.n) == NULL);
	for (uint32_t i = 0; i < s->n_command; i++)
		must(s->command[i].n == 0 || memchr(s->command[i].p, '\0', s->command[i].n) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_ARENA struct arena arena = {.max = 64u << 20};
	CLEANUP_BUF struct buf again = {0};
	struct packet p, q;
	struct err err = {0};

	if (packet_decode(data, size, &arena, &p, &err) < 0) {
		must(err.code < 0 && err.message[0] != '\0');
		return 0;
	}
	if (p.type == SANDBOXD_START)
		check_start(&p.body.start);
	if (sandboxd_body_codec[p.type] == NULL)
		return 0;
	must(packet_encode(&again, p.type, p.correlation, &p.body) == 0);
	must(packet_decode(again.p, again.n, &arena, &q, &err) == 0 && q.type == p.type);
	must(codec_equal(sandboxd_body_codec[p.type], &p.body, &q.body));
	return 0;
}
