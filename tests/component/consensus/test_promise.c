/* test_promise.c -- what a server does that forgot what it promised: term and vote in damaged metadata files, an old copy of its
 * directory, none at all; and the record that it is held to. See files.h. One of three servers, which had an election. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "consensus/disk/watermark.h"
#include "core/fd.h"

static int set_up_promises(void **state)
{
	return files_make(state, FILES_SERVERS_MAX, 0);
}

static void metadata1_short(struct files *f)
{
	shell("truncate -s 17 %s/metadata1", f->dir);
}

static void metadata2_short(struct files *f)
{
	shell("truncate -s 0 %s/metadata2", f->dir);
}

static void metadata_both_short(struct files *f)
{
	metadata1_short(f);
	metadata2_short(f);
}

static void metadata_missing(struct files *f)
{
	shell("rm %s/metadata1", f->dir);
}

static void metadata_both_missing(struct files *f)
{
	shell("rm %s/metadata1 %s/metadata2", f->dir, f->dir);
}

/* Of the newer one, which libraft takes: both are well formed and of versions that follow each other. */
static void metadata_at(struct files *f, off_t at)
{
	char paths[2][FILES_PATH_SIZE];
	uint64_t versions[2];
	for (int i = 0; i < 2; i++) {
		snprintf(paths[i], FILES_PATH_SIZE, "%s/metadata%d", f->dir, i + 1);
		CLEANUP_FD int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
		assert_int_equal(pread(fd, &versions[i], sizeof versions[i], 8), sizeof versions[i]);
	}
	flip(paths[versions[1] > versions[0]], at);
}

static void metadata_term(struct files *f)
{
	metadata_at(f, 17);
}

static void metadata_vote(struct files *f)
{
	metadata_at(f, 24);
}

static void directory_old(struct files *f)
{
	shell("rm -r %s && cp -a %s.old %s", f->dir, f->dir, f->dir);
}

static void directory_empty(struct files *f)
{
	shell("rm -r %s && mkdir %s", f->dir, f->dir);
}

static void directory_missing(struct files *f)
{
	shell("rm -r %s", f->dir);
}

static void member_missing(struct files *f)
{
	shell("rm %s/member", f->dir);
}

static void watermark_missing(struct files *f)
{
	shell("rm %s.watermark", f->dir);
}

static void watermark_slots(struct files *f)
{
	char path[FILES_PATH_SIZE];
	snprintf(path, sizeof path, "%s.watermark", f->dir);
	flip(path, 8);
	flip(path, 4096 + 8);
}

/* As a power cut within its write leaves it; the other is older. */
static void watermark_slot(struct files *f)
{
	char path[FILES_PATH_SIZE];
	uint64_t sequences[2];
	snprintf(path, sizeof path, "%s.watermark", f->dir);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pread(fd, &sequences[i], sizeof sequences[i], i * 4096 + 8),
				 sizeof sequences[i]);
	flip(path, (sequences[1] > sequences[0]) * 4096 + 40);
}

static void test_promises(void **state)
{
	static const struct row rows[] = {
		{"metadata1 shortened", metadata1_short, REFUSED, "metadata1: 17 bytes"},
		{"metadata2 shortened", metadata2_short, REFUSED, "metadata2"},
		{"both metadata files shortened", metadata_both_short, REFUSED, "metadata1: 17 bytes"},
		{"metadata1 missing", metadata_missing, REFUSED, "metadata1 is missing"},
		{"both metadata files missing", metadata_both_missing, REFUSED, "metadata1 is missing"},
		{"metadata, another term", metadata_term, REFUSED, "it promised term"},
		{"metadata, another vote", metadata_vote, REFUSED, "it promised term"},
		{"old copy of the directory", directory_old, REFUSED, NULL},
		{"directory emptied", directory_empty, REFUSED, "but this server has run"},
		{"directory missing", directory_missing, REFUSED, "but this server has run"},
		{"member file missing", member_missing, REFUSED, "no file \"member\""},
		{"record missing", watermark_missing, REFUSED, "missing though this server has run"},
		{"record damaged", watermark_slots, REFUSED, ".watermark: damaged"},
		{"record, newer slot torn", watermark_slot, RECOVERED, NULL},
	};
	files_run(*state, rows, sizeof rows / sizeof *rows);
}

static void test_record(void **state)
{
	struct watermark_record record = {.id = 7, .term = 3, .index = 40, .index_term = 2}, found;
	struct watermark *w;
	struct err err = {0};
	char path[FILES_PATH_SIZE];
	(void)state;
	snprintf(path, sizeof path, "%s/record", scratch_dir());
	assert_int_equal(watermark_read(path, &found, &err), -ENOENT);
	assert_int_equal(watermark_create(path, &record, &err), 0);
	assert_int_equal(watermark_open(path, &record, &w, &err), 0);
	assert_int_equal(watermark_promise(w, 4, 0), 0);
	assert_int_equal(watermark_promise(w, 4, 2), 0);
	assert_int_equal(watermark_read(path, &found, &err), 0);
	assert_int_equal(found.term, 4);
	assert_int_equal(found.vote, 2);
	assert_int_equal(found.index, 40);
	for (uint64_t i = 41; i <= 100000; i++)
		watermark_raise(w, i, 4);
	while (watermark_written(w) < 100000)
		usleep(1000); /* its thread writes */
	assert_int_equal(watermark_read(path, &found, &err), 0);
	assert_int_equal(found.index, 100000);
	watermark_raise(w, 100005, 4);
	assert_int_equal(watermark_lower(w, 90, 3), 0);
	assert_int_equal(watermark_read(path, &found, &err), 0);
	assert_int_equal(found.index, 90);
	assert_int_equal(found.index_term, 3);
	watermark_raise(w, 91, 5);
	watermark_close(w);
	assert_int_equal(watermark_read(path, &found, &err), 0);
	assert_int_equal(found.id, 7);
	assert_int_equal(found.index, 91);
	assert_int_equal(found.index_term, 5);
	assert_int_equal(found.term, 4);
	assert_int_equal(size_of(path), 8192);
	scratch_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_promises, set_up_promises, files_remove),
		cmocka_unit_test(test_record),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
