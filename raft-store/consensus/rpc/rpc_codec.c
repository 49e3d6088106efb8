/* See rpc_codec.h. One function writes and one reads the fields of each message; both walk a cursor that cannot pass the end. */
#include "consensus/rpc/rpc_codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"

#define PAYLOAD_ROOM_MIN 65536u
#define RPC_ENTRY_FIELDS 14u               /* bytes of one entry among the fields */
#define INDEX_MAX        (UINT64_MAX >> 2) /* of log indexes and terms: sums of two do not wrap */

/* -- Writing ------------------------------------------------------------------------------------------------------ */

static void put(struct buf *to, uint64_t x, unsigned bytes)
{
	unsigned char p[8];

	for (unsigned i = 0; i < bytes; i++)
		p[i] = (unsigned char)(x >> 8 * i);
	buf_add(to, p, bytes);
}

static void put_append(const struct raft_append_entries *m, struct buf *to)
{
	put(to, m->term, 8);
	put(to, m->prev_log_index, 8);
	put(to, m->prev_log_term, 8);
	put(to, m->leader_commit, 8);
	put(to, m->n_entries, 4);
	for (unsigned i = 0; i < m->n_entries; i++) {
		put(to, m->entries[i].term, 8);
		put(to, m->entries[i].type, 2);
		put(to, m->entries[i].buf.len, 4);
	}
}

static void put_snapshot(const struct raft_install_snapshot *m, struct buf *to)
{
	put(to, m->term, 8);
	put(to, m->last_index, 8);
	put(to, m->last_term, 8);
	put(to, m->conf_index, 8);
	put(to, m->conf.n, 4);
	for (unsigned i = 0; i < m->conf.n; i++) {
		const struct raft_server *s = &m->conf.servers[i];
		size_t n = strlen(s->address);

		put(to, s->id, 8);
		put(to, (uint64_t)s->role, 1);
		put(to, n, 1);
		buf_add(to, s->address, n);
	}
}

static void put_fields(const struct raft_message *m, struct buf *to)
{
	switch (m->type) {
	case RAFT_IO_APPEND_ENTRIES:
		put_append(&m->append_entries, to);
		return;
	case RAFT_IO_APPEND_ENTRIES_RESULT:
		put(to, m->append_entries_result.term, 8);
		put(to, m->append_entries_result.rejected, 8);
		put(to, m->append_entries_result.last_log_index, 8);
		return;
	case RAFT_IO_REQUEST_VOTE:
		put(to, m->request_vote.term, 8);
		put(to, m->request_vote.candidate_id, 8);
		put(to, m->request_vote.last_log_index, 8);
		put(to, m->request_vote.last_log_term, 8);
		put(to, m->request_vote.disrupt_leader, 1);
		put(to, m->request_vote.pre_vote, 1);
		return;
	case RAFT_IO_REQUEST_VOTE_RESULT:
		put(to, m->request_vote_result.term, 8);
		put(to, m->request_vote_result.vote_granted, 1);
		put(to, m->request_vote_result.pre_vote, 1);
		return;
	case RAFT_IO_INSTALL_SNAPSHOT:
		put_snapshot(&m->install_snapshot, to);
		return;
	case RAFT_IO_TIMEOUT_NOW:
		put(to, m->timeout_now.term, 8);
		put(to, m->timeout_now.last_log_index, 8);
		put(to, m->timeout_now.last_log_term, 8);
		return;
	default:
		must(false);
	}
}

struct rpc_payload rpc_payload(const struct raft_message *m)
{
	struct rpc_payload p = {0};

	if (m->type == RAFT_IO_APPEND_ENTRIES)
		p = (struct rpc_payload){.entries = m->append_entries.entries,
					 .n_entries = m->append_entries.n_entries};
	if (m->type == RAFT_IO_INSTALL_SNAPSHOT)
		p.snapshot = m->install_snapshot.data;
	return p;
}

unsigned rpc_payload_pieces(const struct rpc_payload *p)
{
	return p->snapshot.base != NULL ? 1 : p->n_entries;
}

struct raft_buffer rpc_payload_piece(const struct rpc_payload *p, unsigned i)
{
	return p->snapshot.base != NULL ? p->snapshot : p->entries[i].buf;
}

void rpc_encode(const struct raft_message *m, struct buf *to)
{
	struct rpc_payload payload = rpc_payload(m);
	size_t start = to->n;
	uint64_t bytes = 0;
	CLEANUP_BUF struct buf head = {0};

	for (unsigned i = 0; i < rpc_payload_pieces(&payload); i++)
		bytes += rpc_payload_piece(&payload, i).len;
	put(&head, 0, 8);
	put(&head, bytes, 8);
	buf_add(to, head.p, head.n);
	put_fields(m, to);
	if (buf_failed(to) || buf_failed(&head))
		return;
	buf_clear(&head);
	put(&head, m->type, 4);
	put(&head, to->n - start - RPC_HEAD_BYTES, 4);
	memcpy(to->p + start, head.p, head.n);
}

/* -- Reading ------------------------------------------------------------------------------------------------------- */

struct cursor {
	const unsigned char *p;
	size_t left;
	bool failed;
};

static uint64_t get(struct cursor *c, unsigned bytes, uint64_t max)
{
	uint64_t x = 0;

	if (c->failed || c->left < bytes) {
		c->failed = true;
		return 0;
	}
	for (unsigned i = 0; i < bytes; i++)
		x |= (uint64_t)c->p[i] << 8 * i;
	c->p += bytes;
	c->left -= bytes;
	c->failed = x > max;
	return c->failed ? 0 : x;
}

static uint64_t get_index(struct cursor *c)
{
	return get(c, 8, INDEX_MAX);
}

static int get_append(struct rpc_decoder *d, struct cursor *c)
{
	struct raft_append_entries *m = &d->message.append_entries;
	uint64_t total = 0;

	m->term = get_index(c);
	m->prev_log_index = get_index(c);
	m->prev_log_term = get_index(c);
	m->leader_commit = get_index(c);
	m->n_entries = (unsigned)get(c, 4, RPC_ENTRIES_MAX);
	c->failed |= m->prev_log_term > m->term || m->n_entries > c->left / RPC_ENTRY_FIELDS ||
		     (m->n_entries == 0 && d->payload_size != 0);
	if (c->failed || m->n_entries == 0)
		return 0;
	m->entries = raft_calloc(m->n_entries, sizeof *m->entries);
	if (m->entries == NULL)
		return -ENOMEM;
	raft_term before = m->prev_log_term;
	for (unsigned i = 0; i < m->n_entries; i++) {
		struct raft_entry *e = &m->entries[i];

		e->term = get_index(c);
		e->type = (unsigned short)get(c, 2, RAFT_CHANGE);
		e->buf.len = (size_t)get(c, 4, RPC_ENTRY_MAX);
		c->failed |= e->type == 0 || e->buf.len == 0 || e->buf.len % 8 != 0 || e->term < before ||
			     e->term > m->term;
		before = e->term;
		total += e->buf.len;
	}
	c->failed |= total != d->payload_size;
	return 0;
}

static int get_snapshot(struct rpc_decoder *d, struct cursor *c)
{
	struct raft_install_snapshot *m = &d->message.install_snapshot;

	raft_configuration_init(&m->conf);
	m->term = get_index(c);
	m->last_index = get_index(c);
	m->last_term = get_index(c);
	m->conf_index = get_index(c);
	uint64_t n = get(c, 4, RPC_SERVERS_MAX);
	c->failed |= n == 0 || m->last_index == 0 || m->conf_index > m->last_index || d->payload_size == 0;
	for (uint64_t i = 0; i < n && !c->failed; i++) {
		char address[CONSENSUS_ADDRESS_SIZE];
		raft_id id = get(c, 8, UINT64_MAX);
		int role = (int)get(c, 1, RAFT_SPARE);
		size_t size = (size_t)get(c, 1, sizeof address - 1);

		if (c->failed || c->left < size || memchr(c->p, 0, size) != NULL) {
			c->failed = true;
			return 0;
		}
		memcpy(address, c->p, size);
		address[size] = '\0';
		c->p += size;
		c->left -= size;
		int rc = raft_configuration_add(&m->conf, id, address, role);
		if (rc == RAFT_NOMEM)
			return -ENOMEM;
		c->failed = rc != 0; /* one that is there twice */
	}
	return 0;
}

static void get_vote(struct rpc_decoder *d, struct cursor *c)
{
	struct raft_request_vote *m = &d->message.request_vote;

	m->term = get_index(c);
	m->candidate_id = get(c, 8, UINT64_MAX);
	m->last_log_index = get_index(c);
	m->last_log_term = get_index(c);
	m->disrupt_leader = get(c, 1, 1);
	m->pre_vote = get(c, 1, 1);
	c->failed |= m->candidate_id != d->from;
}

static void get_small(struct rpc_decoder *d, struct cursor *c)
{
	struct raft_message *m = &d->message;

	if (d->type == RAFT_IO_APPEND_ENTRIES_RESULT) {
		m->append_entries_result.term = get_index(c);
		m->append_entries_result.rejected = get_index(c);
		m->append_entries_result.last_log_index = get_index(c);
	} else if (d->type == RAFT_IO_REQUEST_VOTE_RESULT) {
		m->request_vote_result.term = get_index(c);
		m->request_vote_result.vote_granted = get(c, 1, 1);
		m->request_vote_result.pre_vote = (raft_tribool)get(c, 1, raft_tribool_false);
	} else if (d->type == RAFT_IO_REQUEST_VOTE) {
		get_vote(d, c);
	} else {
		must(d->type == RAFT_IO_TIMEOUT_NOW);
		m->timeout_now.term = get_index(c);
		m->timeout_now.last_log_index = get_index(c);
		m->timeout_now.last_log_term = get_index(c);
	}
	c->failed |= d->payload_size != 0;
}

static int get_fields(struct rpc_decoder *d, struct cursor *c)
{
	int rc = 0;

	if (d->type == RAFT_IO_APPEND_ENTRIES)
		rc = get_append(d, c);
	else if (d->type == RAFT_IO_INSTALL_SNAPSHOT)
		rc = get_snapshot(d, c);
	else
		get_small(d, c);
	c->failed |= c->left != 0;
	return rc;
}

/* The library decodes a configuration that is an entry without looking where it ends; so it is walked here as it will be there:
 * {u8 format = 1, u64 servers}, each {u64 id, address, 0, u8 role}. */
static bool is_configuration(const char *p, size_t n)
{
	struct cursor c = {(const unsigned char *)p, n, false};

	c.failed = get(&c, 1, UINT8_MAX) != 1;
	uint64_t servers = get(&c, 8, RPC_SERVERS_MAX);
	for (uint64_t i = 0; i < servers && !c.failed; i++) {
		get(&c, 8, UINT64_MAX);
		const unsigned char *end = memchr(c.p, 0, c.left);
		if (end == NULL || end - c.p >= (ptrdiff_t)CONSENSUS_ADDRESS_SIZE)
			return false;
		c.left -= (size_t)(end + 1 - c.p);
		c.p = end + 1;
		get(&c, 1, RAFT_SPARE);
	}
	return !c.failed && servers > 0;
}

/* Gives each entry its part of the payload. */
static bool share_payload(struct rpc_decoder *d)
{
	struct raft_append_entries *m = &d->message.append_entries;
	char *at = d->payload;

	for (unsigned i = 0; i < m->n_entries; i++) {
		struct raft_entry *e = &m->entries[i];

		e->buf.base = at;
		e->batch = d->payload;
		at += e->buf.len;
		if (e->type == RAFT_CHANGE && !is_configuration(e->buf.base, e->buf.len))
			return false;
	}
	return true;
}

/* -- A message after the other ---------------------------------------------------------------------------------------- */

void rpc_decoder_init(struct rpc_decoder *d, raft_id from, struct str address)
{
	*d = (struct rpc_decoder){.from = from};
	must(str_copy(address, d->address, sizeof d->address) == 0);
}

static void drop_message(struct rpc_decoder *d)
{
	if (d->type == RAFT_IO_APPEND_ENTRIES)
		raft_free(d->message.append_entries.entries);
	if (d->type == RAFT_IO_INSTALL_SNAPSHOT)
		raft_configuration_close(&d->message.install_snapshot.conf);
	raft_free(d->payload);
	d->message = (struct raft_message){0};
	d->payload = NULL;
	d->type = 0;
}

void rpc_decoder_done(struct rpc_decoder *d)
{
	drop_message(d);
	buf_done(&d->fields);
}

/* Moves bytes until `fields` has n. */
static bool gather(struct rpc_decoder *d, struct str *p, size_t n)
{
	size_t want = n - d->fields.n, take = want < p->n ? want : p->n;

	buf_add(&d->fields, p->p, take);
	*p = str_slice(*p, take, p->n);
	return d->fields.n == n;
}

static int take_head(struct rpc_decoder *d, struct err *err)
{
	struct cursor c = {(const unsigned char *)d->fields.p, RPC_HEAD_BYTES, false};
	unsigned type = (unsigned)get(&c, 4, RAFT_IO_TIMEOUT_NOW);

	d->fields_size = (size_t)get(&c, 4, RPC_FIELDS_MAX);
	d->payload_size = get(&c, 8, RPC_PAYLOAD_MAX);
	if (c.failed || type == 0 || d->fields_size == 0)
		return err_set(err, -EBADMSG, "a message of impossible type or length");
	d->type = type;
	d->payload_got = 0;
	d->message = (struct raft_message){
		.type = (unsigned short)type, .server_id = d->from, .server_address = d->address};
	buf_clear(&d->fields);
	return 0;
}

static int take_fields(struct rpc_decoder *d, struct err *err)
{
	struct cursor c = {(const unsigned char *)d->fields.p, d->fields.n, false};
	int rc = get_fields(d, &c);

	if (rc < 0)
		return err_set(err, rc, "no memory for a message");
	if (c.failed)
		return err_set(err, -EBADMSG, "a message of type %u whose fields make no sense", d->type);
	d->payload_room = 0;
	return 0;
}

/* Memory follows what came, not what is announced. */
static bool make_room(struct rpc_decoder *d, size_t more)
{
	uint64_t need = d->payload_got + more, room = d->payload_room;

	if (need <= room)
		return true;
	room = 2 * need > PAYLOAD_ROOM_MIN ? 2 * need : PAYLOAD_ROOM_MIN;
	room = room < d->payload_size ? room : d->payload_size;
	char *larger = raft_realloc(d->payload, (size_t)room);
	if (larger == NULL)
		return false;
	d->payload = larger;
	d->payload_room = room;
	return true;
}

static int take_payload(struct rpc_decoder *d, struct str *p, struct err *err)
{
	uint64_t want = d->payload_size - d->payload_got;
	size_t take = want < p->n ? (size_t)want : p->n;

	if (take > 0 && !make_room(d, take))
		return err_set(err, -ENOMEM, "no memory for a message");
	if (take > 0)
		memcpy(d->payload + d->payload_got, p->p, take);
	d->payload_got += take;
	*p = str_slice(*p, take, p->n);
	return 0;
}

static int whole(struct rpc_decoder *d, struct raft_message *ret, struct err *err)
{
	if (d->type == RAFT_IO_INSTALL_SNAPSHOT)
		d->message.install_snapshot.data =
			(struct raft_buffer){.base = d->payload, .len = (size_t)d->payload_size};
	if (d->type == RAFT_IO_APPEND_ENTRIES && !share_payload(d))
		return err_set(err, -EBADMSG, "an entry that is no configuration");
	*ret = d->message;
	d->message = (struct raft_message){0};
	d->payload = NULL;
	d->type = 0;
	buf_clear(&d->fields);
	return 1;
}

int rpc_decoder_take(struct rpc_decoder *d, struct str *p, struct raft_message *ret, struct err *err)
{
	int rc = 0;

	if (buf_failed(&d->fields))
		return err_set(err, -ENOMEM, "no memory for a message");
	if (d->type == 0) {
		if (!gather(d, p, RPC_HEAD_BYTES))
			return 0;
		rc = take_head(d, err);
		if (rc < 0)
			return rc;
	}
	if (d->fields.n < d->fields_size) {
		if (!gather(d, p, d->fields_size))
			return 0;
		rc = take_fields(d, err);
		if (rc < 0)
			return rc;
	}
	rc = take_payload(d, p, err);
	if (rc < 0)
		return rc;
	return d->payload_got == d->payload_size ? whole(d, ret, err) : 0;
}
