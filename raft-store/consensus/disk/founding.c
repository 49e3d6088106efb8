/* founding.c -- see founding.h.
 *
 * Happy path: the library's file layer alone, on a loop of its own and with a transport that connects nobody: load gives
 * everything at once; snapshot_put writes a snapshot with its configuration. No consensus runs.
 * Failure modes: damage is found by the checks that a start makes, before the library looks at the files. */
#include "consensus/disk/founding.h"

#include <dirent.h>
#include <errno.h>
#include <raft.h>
#include <raft/uv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "consensus/disk/directory.h"
#include "consensus/disk/watermark.h"
#include "consensus/frame.h"
#include "core/fd.h"
#include "core/must.h"

/* -- The file layer ------------------------------------------------------------------------------------------------- */

struct files {
	uv_loop_t loop;
	struct raft_uv_transport nobody;
	struct raft_io io;
	bool opened, closed;
};

static int nobody_init(struct raft_uv_transport *t, raft_id id, const char *address)
{
	(void)t;
	(void)id;
	(void)address;
	return 0;
}

static int nobody_listen(struct raft_uv_transport *t, raft_uv_accept_cb cb)
{
	(void)t;
	(void)cb;
	return 0;
}

static int nobody_connect(struct raft_uv_transport *t, struct raft_uv_connect *req, raft_id id,
			  const char *address, raft_uv_connect_cb cb)
{
	(void)t;
	(void)req;
	(void)id;
	(void)address;
	(void)cb;
	return RAFT_NOCONNECTION;
}

static void nobody_close(struct raft_uv_transport *t, raft_uv_transport_close_cb cb)
{
	if (cb != NULL)
		cb(t);
}

static int files_error(struct files *f, int rc, const char *what, const char *dir, struct err *err)
{
	int code = rc == RAFT_NOMEM ? -ENOMEM : rc == RAFT_CORRUPT || rc == RAFT_MALFORMED ? -EUCLEAN : -EIO;
	return err_set(err, code, "%s: %s: %s: %s", dir, what, raft_strerror(rc), f->io.errmsg);
}

static int files_open(struct files *f, const char *dir, uint64_t id, const char *address, struct err *err)
{
	*f = (struct files){.nobody = {.init = nobody_init,
				       .listen = nobody_listen,
				       .connect = nobody_connect,
				       .close = nobody_close}};
	must(uv_loop_init(&f->loop) == 0);
	int rc = raft_uv_init(&f->io, &f->loop, dir, &f->nobody);
	if (rc != 0)
		return files_error(f, rc, "open files", dir, err);
	f->opened = true;
	raft_uv_set_auto_recovery(&f->io, false);
	raft_uv_set_snapshot_compression(&f->io, false);
	rc = f->io.init(&f->io, id, address);
	return rc == 0 ? 0 : files_error(f, rc, "open files", dir, err);
}

static void on_closed(struct raft_io *io)
{
	struct files *f = io->data;
	f->closed = true;
}

static void files_close(struct files *f)
{
	if (f->opened) {
		f->io.data = f;
		f->io.close(&f->io, on_closed);
		while (!f->closed)
			uv_run(&f->loop, UV_RUN_ONCE);
		raft_uv_close(&f->io);
	}
	uv_run(&f->loop, UV_RUN_NOWAIT);
	must(uv_loop_close(&f->loop) == 0);
}

/* -- What is there --------------------------------------------------------------------------------------------------- */

struct loaded {
	raft_term term;
	raft_id voted_for;
	struct raft_snapshot *snapshot; /* NULL: none */
	raft_index start;
	struct raft_entry *entries;
	size_t n;
};

static void loaded_free(struct loaded *l)
{
	void *batch = NULL;
	for (size_t i = 0; i < l->n; i++) {
		if (l->entries[i].batch != batch)
			raft_free(l->entries[i].batch);
		batch = l->entries[i].batch;
	}
	raft_free(l->entries);
	if (l->snapshot == NULL)
		return;
	raft_configuration_close(&l->snapshot->configuration);
	for (unsigned i = 0; i < l->snapshot->n_bufs; i++)
		raft_free(l->snapshot->bufs[i].base);
	raft_free(l->snapshot->bufs);
	raft_free(l->snapshot);
}

static int replay(const struct loaded *l, const struct consensus_machine *machine,
		  struct consensus_survey *ret, struct err *err)
{
	struct str bytes;
	void *tables = NULL;
	int rc = 0;
	if (l->snapshot != NULL) {
		rc = frame_snapshot_read(l->snapshot->bufs[0].base, l->snapshot->bufs[0].len, &bytes, err);
		if (rc == 0)
			rc = machine->restore_read(bytes.p, bytes.n, &tables, err);
		if (rc == 0)
			tables = machine->restore(machine->arg, tables);
		if (tables != NULL)
			machine->restore_free(tables);
		ret->snapshot_index = ret->last_index = l->snapshot->index;
		ret->last_term = l->snapshot->term;
	}
	for (size_t i = 0; i < l->n && rc == 0; i++) {
		uint64_t index = l->start + i;
		if (index <= ret->snapshot_index)
			continue;
		ret->last_index = index;
		ret->last_term = l->entries[i].term;
		if (l->entries[i].type != RAFT_COMMAND)
			continue;
		ret->n_entries++;
		rc = frame_entry_read(l->entries[i].buf.base, l->entries[i].buf.len, &bytes, err);
		if (rc == 0)
			rc = machine->apply(machine->arg, index, bytes.p, bytes.n, err);
		if (rc != 0)
			err_wrap(err, "entry %llu", (unsigned long long)index);
	}
	return rc;
}

static int read_promise(const char *dir, uint64_t *ret_index, struct err *err)
{
	struct watermark_record record;
	char path[CONSENSUS_DIR_SIZE + 16];
	snprintf(path, sizeof path, "%s.watermark", dir);
	int rc = watermark_read(path, &record, err);
	if (rc == 0)
		*ret_index = record.index;
	return rc;
}

/* Segments are written in place, so the newest time of them all tells when this server was last told anything. */
static uint64_t newest_write(const char *dir)
{
	uint64_t newest = 0;
	struct stat st;
	DIR *d = opendir(dir);
	if (d == NULL)
		return 0;
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		if (fstatat(dirfd(d), e->d_name, &st, 0) != 0 || !S_ISREG(st.st_mode))
			continue;
		uint64_t ms = (uint64_t)st.st_mtim.tv_sec * 1000 + (uint64_t)st.st_mtim.tv_nsec / 1000000;
		newest = ms > newest ? ms : newest;
	}
	closedir(d);
	return newest;
}

static int survey(const char *dir, uint64_t id, const char *address, const struct consensus_machine *machine,
		  struct consensus_survey *ret, struct err *err)
{
	struct files f;
	struct loaded l = {0};
	int rc = files_open(&f, dir, id, address, err);
	if (rc == 0) {
		rc = f.io.load(&f.io, &l.term, &l.voted_for, &l.snapshot, &l.start, &l.entries, &l.n);
		if (rc != 0)
			rc = files_error(&f, rc, "load", dir, err);
	}
	if (rc == 0) {
		ret->term = l.term;
		rc = replay(&l, machine, ret, err);
		loaded_free(&l);
	}
	files_close(&f);
	return rc;
}

int consensus_survey(const char *dir, uint64_t id, const char *address,
		     const struct consensus_machine *machine, struct consensus_survey *ret, struct err *err)
{
	struct consensus_survey found = {.written_ms = newest_write(dir)};
	CLEANUP_FD int lock = -1;
	bool first = false;
	if (access(dir, F_OK) != 0)
		return err_system(err, -errno, "%s", dir);
	int rc = directory_lock(dir, &lock, err);
	if (rc == 0)
		rc = directory_check(dir, id, address, &first, err);
	if (rc == 0 && first)
		rc = err_set(err, -ENOENT, "%s: no server has run here", dir);
	if (rc == 0)
		rc = read_promise(dir, &found.promised_index, err);
	if (rc == 0)
		rc = survey(dir, id, address, machine, &found, err);
	if (rc == 0)
		*ret = found;
	return rc;
}

/* -- A new one ------------------------------------------------------------------------------------------------------- */

struct bytes {
	char *p;
	size_t n, room;
};

static int bytes_add(void *to, const void *p, size_t n)
{
	struct bytes *b = to;
	if (b->room - b->n < n) {
		size_t room = b->room * 2 > b->n + n ? b->room * 2 : b->n + n;
		char *grown = realloc(b->p, room);
		if (grown == NULL)
			return -ENOMEM;
		b->p = grown;
		b->room = room;
	}
	memcpy(b->p + b->n, p, n);
	b->n += n;
	return 0;
}

static int frame_snapshot(const struct consensus_founding *f, struct bytes *b)
{
	static const char zeros[8];
	unsigned char head[FRAME_SNAPSHOT_HEAD] = {0};
	int rc = bytes_add(b, head, sizeof head);
	if (rc == 0)
		rc = f->snapshot_write(f->snapshot, bytes_add, b);
	if (rc != 0)
		return rc;
	uint64_t n = b->n - sizeof head;
	frame_snapshot_head(head, n, frame_hash(FRAME_HASH_SEED, b->p + sizeof head, n));
	memcpy(b->p, head, sizeof head);
	return bytes_add(b, zeros, frame_snapshot_padding(n));
}

struct putting {
	struct raft_io_snapshot_put req;
	bool done;
	int status;
};

static void on_put(struct raft_io_snapshot_put *req, int status)
{
	struct putting *p = req->data;
	p->done = true;
	p->status = status;
}

static void on_tick(struct raft_io *io)
{
	(void)io;
}

static void on_message(struct raft_io *io, struct raft_message *message)
{
	(void)io;
	(void)message;
}

static int put(struct files *files, const struct consensus_founding *f, struct bytes *b, struct err *err)
{
	struct raft_buffer buffer = {.base = b->p, .len = b->n};
	struct raft_snapshot snapshot = {.index = f->index,
					 .term = f->term,
					 .configuration_index = f->index,
					 .bufs = &buffer,
					 .n_bufs = 1};
	struct putting putting = {.req = {.data = &putting}};
	struct loaded none = {0};
	raft_configuration_init(&snapshot.configuration);
	int rc = raft_configuration_add(&snapshot.configuration, f->id, f->address, RAFT_VOTER);
	if (rc == 0) /* twice: both metadata files are then there, as of a server that has run */
		rc = files->io.set_term(&files->io, f->term - 1);
	if (rc == 0)
		rc = files->io.set_term(&files->io, f->term);
	if (rc == 0)
		rc = files->io.load(&files->io, &none.term, &none.voted_for, &none.snapshot, &none.start,
				    &none.entries, &none.n);
	if (rc == 0)
		rc = files->io.start(&files->io, 1000, on_tick, on_message);
	if (rc == 0)
		rc = files->io.snapshot_put(&files->io, 0, &putting.req, &snapshot, on_put);
	while (rc == 0 && !putting.done)
		uv_run(&files->loop, UV_RUN_ONCE);
	raft_configuration_close(&snapshot.configuration);
	rc = rc == 0 ? putting.status : rc;
	return rc == 0 ? 0 : files_error(files, rc, "write a snapshot", f->dir, err);
}

/* In place of the one of a server that had this directory before. */
static int make_promise(const struct consensus_founding *f, struct err *err)
{
	struct watermark_record record = {
		.id = f->id, .term = f->term, .index = f->index, .index_term = f->term};
	char path[CONSENSUS_DIR_SIZE + 16];
	snprintf(path, sizeof path, "%s.watermark", f->dir);
	return watermark_create(path, &record, err);
}

int consensus_found(const struct consensus_founding *f, struct err *err)
{
	struct bytes b = {0};
	struct files files;
	must(f->index > 0 && f->term > 1);
	if (mkdir(f->dir, 0700) != 0)
		return err_system(err, -errno, "make %s", f->dir);
	int rc = frame_snapshot(f, &b);
	if (rc != 0) {
		free(b.p);
		return err_set(err, rc, "%s: encode the tables: %s", f->dir, strerror(-rc));
	}
	rc = files_open(&files, f->dir, f->id, f->address, err);
	if (rc == 0)
		rc = put(&files, f, &b, err);
	files_close(&files);
	free(b.p);
	if (rc == 0)
		rc = make_promise(f, err);
	return rc == 0 ? directory_claim(f->dir, f->id, f->address, err) : rc;
}
