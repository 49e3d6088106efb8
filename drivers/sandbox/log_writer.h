/* log_writer.h -- what a sandbox's program wrote, as lines of a bounded log on the host.
 *
 * A line: "2026-01-02T03:04:05.678Z stdout F text" (as Kubernetes writes them; P instead of F: the line goes on in
 * the next one). Rotation: `log` becomes `log.1` at half of the bound. A full disk costs lines, never the sandbox. */
#ifndef SANDBOX_LOG_WRITER_H
#define SANDBOX_LOG_WRITER_H

#include "core/err.h"
#include "core/str.h"

#define LOG_WRITER_LINE_MAX 16384

struct log_writer {
	int dir, log;   /* -1: not open */
	uint64_t bytes; /* in the file `log` */
	uint64_t bytes_max;
};

/* One of a program's outputs, with the line that has not ended yet. */
struct log_stream {
	const char *name;
	size_t n;
	char line[LOG_WRITER_LINE_MAX];
};

/* `dir` and the log in it are made if they are missing, and belong to `owner`, who can then write and rotate without
 * privileges. */
int log_writer_open(struct log_writer *w, const char *dir, uint32_t owner, uint64_t bytes_max,
		    struct err *err);

void log_writer_add(struct log_writer *w, struct log_stream *s, const char *p, size_t n);
/* No more comes: a line that is there without its end is written. */
void log_writer_end(struct log_writer *w, struct log_stream *s);
/* One whole line, at most LOG_WRITER_LINE_MAX bytes of it. */
void log_writer_line(struct log_writer *w, const char *name, struct str text);

#endif
