/* fuzz_snapshot.c -- bytes for state_restore(). The first byte's lowest bit: 0 takes the rest as it stands; 1 takes it
 * as row frames, puts header, hash and sum around them that fit, and so reaches the audit behind them. What is
 * taken must pass the audit and go on working; what is refused must leave the tables and say why. */
#include <errno.h>
#include <string.h>

#include "core/must.h"
#include "state/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FRAME_HEAD 5u
#define PIECE      (256u * 1024) /* the sum runs over pieces of this size */

static void frame_u64s(struct buf *to, uint8_t kind, const uint64_t *numbers, uint8_t n)
{
	size_t at = to->n;

	buf_add(to, (char[]){(char)kind, 0, 0, 0, 0, (char)(0x90 | n)}, 6);
	for (uint8_t i = 0; i < n; i++) {
		buf_add(to, "\xcf", 1);
		for (unsigned k = 0; k < 8; k++)
			buf_add(to, (char[]){(char)(uint8_t)(numbers[i] >> (56 - 8 * k))}, 1);
	}
	to->p[at + 4] = (char)(to->n - at - FRAME_HEAD);
}

/* The hash that the rows would have, as far as they decode. Row count in *ret_rows. */
static uint64_t rows_hash(const uint8_t *p, size_t n, uint64_t *ret_rows, struct cluster_row *ret_cluster)
{
	uint64_t sums[KINDS] = {0}, hash = 0;
	CLEANUP_BUF struct buf scratch = {0};
	static _Alignas(16) char value[8192];

	*ret_rows = 0;
	while (n >= FRAME_HEAD) {
		size_t length = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
		struct arena arena = {0};

		if (p[0] >= KINDS || length > n - FRAME_HEAD)
			break;
		must(kind_types[p[0]].codec->size <= sizeof value);
		memset(value, 0, sizeof value);
		if (codec_decode(p + FRAME_HEAD, length, kind_types[p[0]].codec, &arena, value, NULL) == 0) {
			sums[p[0]] += store_row_hash(&scratch, p[0], value);
			if (p[0] == KIND_CLUSTER)
				memcpy(ret_cluster, value, sizeof *ret_cluster);
		}
		arena_done(&arena);
		++*ret_rows;
		p += FRAME_HEAD + length;
		n -= FRAME_HEAD + length;
	}
	for (unsigned kind = 0; kind < KINDS; kind++)
		hash = map_hash_u64(hash ^ (sums[kind] + kind + 1));
	return hash;
}

static void mend(struct buf *to, const uint8_t *data, size_t size)
{
	struct cluster_row cluster = {0};
	uint64_t rows, hash = rows_hash(data, size, &rows, &cluster), sum = 0;

	buf_add(to, "berthsnp", 8);
	frame_u64s(to, 0xf0, (uint64_t[]){1, cluster.feature_level, cluster.incarnation, 1000, hash}, 5);
	buf_add(to, data, size);
	for (size_t at = 0; at < to->n; at += PIECE)
		sum = str_hash_stable((struct str){to->p + at, to->n - at < PIECE ? to->n - at : PIECE}, sum);
	frame_u64s(to, 0xff, (uint64_t[]){rows, sum}, 2);
}

static const struct result *command(struct state *s, uint8_t type, uint64_t node, const void *body)
{
	static struct applied applied;
	CLEANUP_BUF struct buf bytes = {0}, entry_bytes = {0};
	const struct node_row *row = state_node(s, node);
	struct command c = {.type = type, .node = node, .epoch = row == NULL ? 0 : row->epoch};
	struct entry entry = {.incarnation = state_cluster(s)->incarnation,
			      .time_ms = state_cluster(s)->time_ms + 4000000,
			      .commands = &c,
			      .n_commands = 1};
	struct err err = {0};

	c.sequence = row == NULL || row->sequence == UINT64_MAX ? 1 : row->sequence + 1;
	if (body != NULL)
		codec_encode(&bytes, command_body_codec[type], body);
	c.body = buf_str(&bytes);
	codec_encode(&entry_bytes, &entry_codec, &entry);
	must(state_apply(s, state_index(s) + 1, entry_bytes.p, entry_bytes.n, &applied, &err) == 0);
	return &applied.results[0];
}

/* Ends everything that the tables hold, auditing on the way. */
static void go_on(struct state *s)
{
	struct err err = {0};

	for (unsigned i = 0; i < 20; i++) {
		const struct sandbox_row *sandbox = state_next_sandbox(s, NULL);
		struct cmd_sandbox_gone gone = {.sandbox = sandbox == NULL ? 1 : sandbox->id};
		const struct pool_row *pool = state_next_pool(s, NULL);

		command(s, COMMAND_SANDBOX_GONE, sandbox == NULL ? 1 : sandbox->node, &gone);
		must(state_check(s, &err) == 0);
		command(s, COMMAND_WAITERS_EXPIRE, 1, NULL);
		must(state_check(s, &err) == 0);
		if (pool != NULL && i == 10)
			command(s, COMMAND_POOL_DELETE, 1, &(struct msg_pool_delete){pool->uid});
		must(state_check(s, &err) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct state *s;
	struct err err = {0};
	uint64_t hash;
	int r;

	if (size == 0)
		return 0;
	if (data[0] & 1)
		mend(&bytes, data + 1, size - 1);
	else
		buf_add(&bytes, data + 1, size - 1);
	s = state_new();
	hash = state_hash(s);
	r = state_restore(s, bytes.p, bytes.n, &err);
	if (r < 0) {
		must((r == -EBADMSG || r == -EPROTO) && err.message[0] != '\0' && state_hash(s) == hash);
	} else {
		must(state_check(s, &err) == 0);
		if (state_cluster(s)->time_ms < 1800000000000u && state_cluster(s)->counter < UINT64_MAX / 2)
			go_on(s);
	}
	state_free(s);
	return 0;
}
