/* fuzz_guest_conversation.c -- the host's end: any bytes as if a guest had said them, in pieces of any size. The first byte
 * says how long the pieces are, and whether START went out. The state only ever goes forward, and nothing is logged of a guest
 * that is not running but that it broke the protocol. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/must.h"
#include "libvirt_conversation/conversation.h"
#include "wire/sandboxd.h"

#define NONCE     0x1122334455667788 /* of the corpus */
#define SKIP_BIT  0x80
#define START_BIT 0x40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct conversation c;

static void check(uint32_t before, uint64_t bytes_before, bool changed)
{
	must(c.status.state < TALK_STATES && c.status.state >= before);
	must(changed == (c.status.state != before));
	must(memchr(c.status.message, '\0', sizeof c.status.message) != NULL);
	must(memchr(c.status.release, '\0', sizeof c.status.release) != NULL);
	must(c.status.state != TALK_OVER || c.exit.how != SANDBOX_EXIT_UNKNOWN);
	must(c.status.state != TALK_RUNNING || c.started);
	if (c.status.state < TALK_RUNNING)
		must(c.log.bytes == bytes_before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece, room;

	if (size == 0)
		return 0;
	memset(&c, 0, sizeof c);
	c.nonce = NONCE;
	c.log = (struct log_writer){
		.dir = -1, .log = open("/dev/null", O_WRONLY | O_CLOEXEC), .bytes_max = UINT64_MAX};
	must(c.log.log >= 0);
	conversation_begin(&c);
	c.started = (data[0] & START_BIT) != 0;
	piece = (data[0] & SKIP_BIT) != 0 ? sizeof c.in : (size_t)(data[0] & 63) + 1;
	for (size_t at = 1; at < size;) {
		char *to = conversation_room(&c, &room);
		size_t n = size - at < piece ? size - at : piece;
		uint32_t before = c.status.state;
		uint64_t bytes = c.log.bytes;

		n = n < room ? n : room;
		memcpy(to, data + at, n);
		check(before, bytes, conversation_take(&c, n));
		at += n;
	}
	conversation_end(&c);
	close(c.log.log);
	return 0;
}
