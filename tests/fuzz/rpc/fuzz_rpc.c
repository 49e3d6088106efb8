/* fuzz_rpc.c -- what a voter sends to another one's Raft port, behind its hello: one message after the other. The first byte is
 * the length of the pieces in which they come. A message that is accepted is consistent with itself, and the same bytes when it is
 * written again. */
#include <raft.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "consensus/rpc/rpc_codec.h"
#include "core/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SENDER 2

static void check_entries(const struct raft_append_entries *m)
{
	raft_term before = m->prev_log_term;

	for (unsigned i = 0; i < m->n_entries; i++) {
		const struct raft_entry *e = &m->entries[i];

		must(e->term >= before && e->term <= m->term && e->buf.len % 8 == 0 && e->buf.len > 0);
		must(e->type >= RAFT_COMMAND && e->type <= RAFT_CHANGE && e->buf.base != NULL);
		must(e->batch == m->entries[0].batch);
		before = e->term;
	}
}

/* As its owner would. */
static void message_free(struct raft_message *m)
{
	if (m->type == RAFT_IO_APPEND_ENTRIES && m->append_entries.n_entries > 0) {
		raft_free(m->append_entries.entries[0].batch);
		raft_free(m->append_entries.entries);
	}
	if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
		raft_configuration_close(&m->install_snapshot.conf);
		raft_free(m->install_snapshot.data.base);
	}
}

static void check_message(const struct raft_message *m, struct buf *again)
{
	struct rpc_payload payload = rpc_payload(m);

	must(m->server_id == SENDER && strcmp(m->server_address, "127.0.0.1:1") == 0);
	if (m->type == RAFT_IO_APPEND_ENTRIES)
		check_entries(&m->append_entries);
	rpc_encode(m, again);
	for (unsigned i = 0; i < rpc_payload_pieces(&payload); i++) {
		struct raft_buffer piece = rpc_payload_piece(&payload, i);

		buf_add(again, piece.base, piece.len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_BUF struct buf again = {0};
	struct rpc_decoder d;
	struct err err = {0};
	int rc = 0;

	if (size < 2)
		return 0;
	size_t piece = data[0] == 0 ? size : data[0];
	rpc_decoder_init(&d, SENDER, STR("127.0.0.1:1"));
	for (size_t at = 1; at < size && rc >= 0; at += piece) {
		struct str left = {(const char *)data + at, size - at < piece ? size - at : piece};

		while (left.n > 0 && rc >= 0) {
			struct raft_message m;

			rc = rpc_decoder_take(&d, &left, &m, &err);
			must(rc != 0 || left.n == 0);
			if (rc != 1)
				continue;
			check_message(&m, &again);
			message_free(&m);
		}
	}
	must(rc >= 0 || (err.code == rc && err.message[0] != 0));
	must(again.n <= size - 1 && (again.n == 0 || memcmp(again.p, data + 1, again.n) == 0));
	rpc_decoder_done(&d);
	return 0;
}
