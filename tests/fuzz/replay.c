/* replay.c -- main() of a fuzzer that is built without libFuzzer: runs it once over every file of the folders (or over
 * the files) that the command line names, so that a corpus is a regression test in every build.
 *
 * Happy path: each file is read whole, its name is kept for a crash report, and the target runs on an exact-size heap
 * copy, so that a sanitizer sees a read of one byte too many. A folder that is missing or empty, and a file that
 * cannot be read, fail: a corpus that matches nothing would pass forever. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX_BYTES (16u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	uint8_t *data;
	size_t size;

	if (f == NULL || fstat(fileno(f), &st) < 0 || st.st_size > FILE_MAX_BYTES) {
		fprintf(stderr, "replay: %s: %s\n", path,
			f == NULL ? strerror(errno) : "unreadable or too large");
		if (f != NULL)
			fclose(f);
		return -1;
	}
	size = (size_t)st.st_size;
	data = malloc(size == 0 ? 1 : size);
	if (data == NULL || fread(data, 1, size, f) != size) {
		fprintf(stderr, "replay: %s: short read\n", path);
		free(data);
		fclose(f);
		return -1;
	}
	fclose(f);
	fprintf(stderr, "replay: %s (%zu bytes)\n", path, size);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 0;
}

/* Runs the regular files of one folder; how many, or -1. */
static int run_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int n = 0;

	if (dir == NULL) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return -1;
	}
	while ((entry = readdir(dir)) != NULL && n >= 0) {
		char file[PATH_MAX];
		struct stat st;

		if (snprintf(file, sizeof file, "%s/%s", path, entry->d_name) >= (int)sizeof file ||
		    stat(file, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		n = run_file(file) < 0 ? -1 : n + 1;
	}
	closedir(dir);
	if (n == 0)
		fprintf(stderr, "replay: %s: an empty corpus\n", path);
	return n > 0 ? n : -1;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;
		int n = stat(argv[i], &st) == 0 && S_ISREG(st.st_mode) ? (run_file(argv[i]) < 0 ? -1 : 1)
								       : run_folder(argv[i]);

		if (n < 0)
			return 1;
		total += n;
	}
	printf("replayed %d inputs\n", total);
	return total > 0 ? 0 : 1;
}
