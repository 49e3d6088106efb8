/* files.h -- the files of a server that was killed after it had acknowledged entries, damaged row by row of a table.
 *
 * Each row damages a fresh copy of them, and says what must follow: a start that is refused with a message that says what
 * to do, or one after which every acknowledged entry is there. Never a start that forgot some. */
#ifndef TESTS_CONSENSUS_FILES_H
#define TESTS_CONSENSUS_FILES_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "server.h"

#define FILES_SERVERS_MAX 3
#define FILES_PATH_SIZE   800

struct files {
	uv_loop_t loop;
	char addresses[FILES_SERVERS_MAX][CONSENSUS_ADDRESS_SIZE];
	unsigned n;
	struct server servers[FILES_SERVERS_MAX]; /* the first is the one whose files are damaged */
	struct consensus_options options[FILES_SERVERS_MAX];
	char dirs[FILES_SERVERS_MAX][CONSENSUS_DIR_SIZE];
	const char *dir; /* of the first; "<dir>.old" is a copy after half of the entries */
	unsigned ok;
	uint64_t applied, hash;
};

/* n servers acknowledge entries; snapshots are taken every so many, 0: none. */
int files_make(void **state, unsigned n, uint32_t snapshot_threshold);
int files_remove(void **state);

enum outcome { REFUSED, RECOVERED, EITHER };

struct row {
	const char *name;
	void (*damage)(struct files *f);
	enum outcome outcome;
	const char *message; /* part of it; NULL: any */
};
void files_run(struct files *f, const struct row *rows, size_t n);

/* -- For the damage. */

void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool is_closed(const char *name);
bool is_open(const char *name);
bool is_snapshot(const char *name);
/* The path of the last file in the order of names that `matches`, of those that hold anything. */
void find(struct files *f, bool (*matches)(const char *name), char path[FILES_PATH_SIZE]);
void flip(const char *path, off_t at);
off_t size_of(const char *path);
/* Behind the last byte that is not zero. */
off_t used(const char *path);

#endif
