/* fuzz_command.c -- a stream of entries for a cluster that has a pool, ready sandboxes and sessions already.
 *
 * Each piece is [kind][who][length u16 big endian][bytes]. kind with the top bit: the bytes are an entry as they stand. Else
 * kind picks the command, `who` the node (lower three bits) and how far time goes (upper five), and the bytes are its
 * body. After each entry the audit must hold; at the end a snapshot must come back with the same hash. */
#include <errno.h>

#include "core/must.h"
#include "machine/machine.h"

#define PIECES_MAX 48
#define TIME_MAX   (MACHINE_START + 400ull * 86400000) /* more only makes more buckets */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void prepare(struct machine *m)
{
	uint64_t pool;

	machine_init(m);
	m->quiet = true;
	machine_start(m, 3);
	pool = machine_pool(m, "echo", 4, 2);
	machine_ready(m, pool, 1);
	machine_ready(m, pool, 2);
	machine_open(m, pool, "user-1");
	machine_boot(m, pool, 2);
}

static void apply(struct machine *m, const void *p, size_t n)
{
	struct err err = {0};
	int r = state_apply(m->s, ++m->index, p, n, &m->applied, &err);

	if (r < 0) {
		must(r == -EPROTO && err.message[0] != '\0');
		m->index--;
		return;
	}
	for (uint32_t i = 0; i < m->applied.n_results; i++)
		must(m->applied.results[i].code <= 0 &&
		     (m->applied.results[i].code == 0 || m->applied.results[i].message.n > 0));
	m->quiet = false;
	machine_audit(m, "after the entry");
	m->quiet = true;
}

static void apply_raw(struct machine *m, const uint8_t *p, size_t n)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct entry entry = {0};

	if (codec_decode(p, n, &entry_codec, &arena, &entry, NULL) == 0 && entry.time_ms > TIME_MAX)
		return;
	apply(m, p, n);
}

static void apply_body(struct machine *m, uint8_t kind, uint8_t who, const uint8_t *p, size_t n)
{
	static const uint64_t steps_ms[8] = {0, 1, 900, 11000, 21000, 3600000, 86400000, 36ull * 86400000};
	uint64_t node = who & 3u;
	struct command c = {.type = kind % COMMAND_TYPES,
			    .feature = 1,
			    .node = node,
			    .epoch = m->epoch[node],
			    .sequence = ++m->sequence[node],
			    .body = {(const char *)p, n}};
	struct entry entry = {.incarnation = 1, .commands = &c, .n_commands = 1};

	m->now_ms += steps_ms[who >> 3 & 7u];
	if (m->now_ms > TIME_MAX)
		m->now_ms = TIME_MAX;
	entry.time_ms = m->now_ms;
	buf_clear(&m->entry);
	codec_encode(&m->entry, &entry_codec, &entry);
	apply(m, m->entry.p, m->entry.n);
	if (c.type == COMMAND_NODE_JOIN && m->applied.results[0].code == 0) {
		for (uint64_t id = 1; id < 4; id++) {
			const struct node_row *row = state_node(m->s, id);

			if (row != NULL && row->epoch == m->applied.results[0].id) {
				m->epoch[id] = row->epoch;
				m->sequence[id] = 0;
			}
		}
	}
}

static int append(void *to, const void *p, size_t n)
{
	buf_add(to, p, n);
	return 0;
}

static void come_back(struct machine *m)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct state_snapshot *snapshot = state_snapshot_new(m->s);
	struct state *other = state_new();

	must(state_snapshot_write(snapshot, append, &bytes) == 0);
	must(state_restore(other, bytes.p, bytes.n, NULL) == 0);
	must(state_hash(other) == state_hash(m->s));
	state_snapshot_free(snapshot);
	state_free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct machine m;

	prepare(&m);
	for (unsigned i = 0; i < PIECES_MAX && size >= 4; i++) {
		size_t n = (size_t)data[2] << 8 | data[3];
		uint8_t kind = data[0], who = data[1];

		n = n < size - 4 ? n : size - 4;
		if (kind & 0x80)
			apply_raw(&m, data + 4, n);
		else
			apply_body(&m, kind, who, data + 4, n);
		data += 4 + n;
		size -= 4 + n;
	}
	come_back(&m);
	machine_done(&m);
	return 0;
}
