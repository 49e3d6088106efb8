/* fuzz_guest_frames.c -- the guest's end of the agent's channel: any bytes as if a host had said them. What is read as a
 * frame is within its bounds, what decodes encodes to something that decodes again, and a start that passes its checks is fit for
 * execve, sethostname and the kernel's seed. */
#include <string.h>

#include "core/must.h"
#include "libvirt_guest/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has_nul(struct str s)
{
	return s.n > 0 && memchr(s.p, '\0', s.n) != NULL;
}

static void check_start(const struct guest_start *s)
{
	struct err err = {0};

	if (guest_start_check(s, &err) < 0) {
		must(err.message[0] != '\0');
		return;
	}
	must(s->n_argv > 0 && s->argv[0].n > 0 && s->seed.n == GUEST_SEED_BYTES);
	must(s->hostname.n > 0 && s->hostname.n < 64);
	must(s->mac.n == 0 || (s->mac.n == 6 && s->gateway_mac.n == 6 && s->prefix >= 8 && s->prefix < 32));
	for (uint32_t i = 0; i < s->n_argv; i++)
		must(!has_nul(s->argv[i]));
	for (uint32_t i = 0; i < s->n_env; i++)
		must(!has_nul(s->env[i]));
}

static void take_frame(const struct guest_frame *f)
{
	CLEANUP_ARENA struct arena arena = {.max = 4 * CODEC_BYTES_MAX};
	CLEANUP_BUF struct buf again = {0};
	const struct codec_type *type = guest_body_codec[f->type];
	struct guest_frame g;
	struct err err = {0};
	size_t size;
	union {
		struct guest_hello hello;
		struct guest_start start;
		struct guest_signal signal;
		struct guest_clock clock;
		struct guest_failed failed;
		struct guest_output output;
		struct guest_exit exit;
	} body, same;

	if (guest_frame_body(f, type, &arena, &body, &err) < 0) {
		must(err.message[0] != '\0');
		return;
	}
	if (f->type == GUEST_START)
		check_start(&body.start);
	must(guest_frame_write(&again, f->type, type, &body) == 0);
	must(guest_frame_read(again.p, again.n, GUEST_FRAME_MAX, &g, &size, &err) == 0 && size == again.n);
	must(g.type == f->type && guest_frame_body(&g, type, &arena, &same, &err) == 0);
	must(type == NULL || codec_equal(type, &body, &same));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest_frame f;
	struct err err = {0};
	size_t taken;

	while (size > 0) {
		if (guest_frame_read(data, size, GUEST_FRAME_MAX, &f, &taken, &err) < 0) {
			must(err.message[0] != '\0');
			return 0;
		}
		if (taken == 0)
			return 0;
		must(taken <= size && taken == f.body.n + GUEST_FRAME_HEAD && f.type < GUEST_FRAME_TYPES);
		take_frame(&f);
		data += taken;
		size -= taken;
	}
	return 0;
}
