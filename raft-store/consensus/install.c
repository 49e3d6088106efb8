/* install.c -- see install.h. Stands in front of raft_io's snapshot_put, which the library calls for its own snapshots too:
 * those leave some of the log behind, a leader's leaves nothing.
 *
 * Failure modes: bytes that the machine does not understand stop this server (consensus_fail), as they do within a restore.
 * A server that is closed meanwhile answers the library that the write was cancelled, and closes then. */
#include "consensus/install.h"

#include <stdlib.h>

#include "consensus/frame.h"
#include "core/map.h"
#include "core/must.h"

static void free_old(uv_work_t *work)
{
	struct consensus *c = work->data;
	if (c->install.old != NULL)
		c->options.machine.restore_free(c->install.old);
	raft_free(c->install.old_bytes);
}

static void old_freed(uv_work_t *work, int status)
{
	struct consensus *c = work->data;
	(void)status;
	c->install.old = c->install.old_bytes = NULL;
	c->install.working = false;
}

/* Either may be NULL. At most one thread's work at a time, so that closing waits for one flag. */
static void drop(struct consensus *c, void *tables, void *bytes)
{
	if (tables == NULL && bytes == NULL)
		return;
	if (c->install.put != NULL && c->phase == CONSENSUS_RUNNING && !c->install.working) {
		c->install.old = tables;
		c->install.old_bytes = bytes;
		c->install.work.data = c;
		c->install.working =
			uv_queue_work(c->options.loop, &c->install.work, free_old, old_freed) == 0;
		if (c->install.working)
			return;
	}
	if (tables != NULL)
		c->options.machine.restore_free(tables);
	raft_free(bytes);
}

static int read_frame(const struct consensus *c, const struct raft_buffer *buffer, void **ret,
		      struct err *err)
{
	struct str bytes;
	int rc = frame_snapshot_read(buffer->base, buffer->len, &bytes, err);
	return rc == 0 ? c->options.machine.restore_read(bytes.p, bytes.n, ret, err) : rc;
}

static void read_ahead(uv_work_t *work)
{
	struct consensus *c = work->data;
	c->install.rc = read_frame(c, &c->install.snapshot->bufs[0], &c->install.tables, &c->install.err);
}

/* The library forgets the list of buffers of a snapshot that could not be stored. */
static void end(struct consensus *c, int status)
{
	struct raft_buffer *list = c->install.snapshot->bufs;
	drop(c, c->install.tables, NULL);
	c->install.tables = NULL;
	c->install.done(&c->raft.snapshot.put, status);
	raft_free(list);
}

static void stored(struct raft_io_snapshot_put *request, int status)
{
	struct consensus *c = container_of(request, struct consensus, raft.snapshot.put);
	c->install.done(request, status);
	drop(c, c->install.tables, NULL); /* it took another turn */
	c->install.tables = NULL;
}

static void was_read(uv_work_t *work, int status)
{
	struct consensus *c = work->data;
	int rc;
	must(status == 0);
	c->install.working = false;
	if (c->phase != CONSENSUS_RUNNING) {
		end(c, RAFT_CANCELED);
		return;
	}
	if (c->install.rc != 0) {
		err_wrap(&c->install.err, "the leader's snapshot");
		consensus_fail(c, c->install.err.message);
		end(c, RAFT_CORRUPT);
		return;
	}
	rc = c->install.put(&c->io, 0, &c->raft.snapshot.put, c->install.snapshot, stored);
	if (rc != 0)
		end(c, rc);
}

static int snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *request,
			const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb done)
{
	struct consensus *c = ((struct raft *)io->data)->fsm->data;
	if (trailing != 0 || snapshot->n_bufs != 1 || c->install.working || c->phase != CONSENSUS_RUNNING)
		return c->install.put(io, trailing, request, snapshot, done);
	must(request == &c->raft.snapshot.put);
	c->install.snapshot = snapshot;
	c->install.done = done;
	c->install.err = (struct err){0};
	c->install.work.data = c;
	c->install.working = uv_queue_work(c->options.loop, &c->install.work, read_ahead, was_read) == 0;
	return c->install.working ? 0 : RAFT_NOMEM;
}

void install_init(struct consensus *c)
{
	c->install.put = c->io.snapshot_put;
	c->io.snapshot_put = snapshot_put;
}

int install_restore(struct consensus *c, const struct raft_buffer *buffer, struct err *err)
{
	void *tables = c->install.tables;
	int rc = 0;
	c->install.tables = NULL;
	if (tables != NULL)
		c->counts.installs++;
	else
		rc = read_frame(c, buffer, &tables, err);
	if (rc == 0)
		drop(c, c->options.machine.restore(c->options.machine.arg, tables), buffer->base);
	return rc;
}

bool install_busy(const struct consensus *c)
{
	return c->install.working;
}
