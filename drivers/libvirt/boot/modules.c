/* A line of modules.dep is "path: path path ...": a module, and all that it needs, directly or not, what is loaded first behind. */
#include "libvirt_boot/modules.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct str modules_file(struct str path)
{
	for (size_t i = path.n; i > 0; i--) {
		if (path.p[i - 1] == '/')
			return str_slice(path, i, path.n);
	}
	return path;
}

/* The line whose path ends with this file name; up to its colon if it has one. False: none. */
static bool find(struct str lines, struct str file, struct str *ret_path, struct str *ret_needs)
{
	struct str line;

	while (lines.n > 0) {
		(void)str_cut(lines, '\n', &line, &lines);
		(void)str_cut(line, ':', ret_path, ret_needs);
		if (str_eq(modules_file(*ret_path), file))
			return true;
	}
	return false;
}

static int add(struct modules *m, struct str path, struct err *err)
{
	for (size_t i = 0; i < m->n; i++) {
		if (str_eq(m->paths[i], path))
			return 0;
	}
	if (m->n == MODULES_MAX)
		return err_set(err, -E2BIG, "the guest's modules need more than %d others", MODULES_MAX);
	m->paths[m->n++] = path;
	return 0;
}

/* The last one first. */
static int add_needs(struct modules *m, struct str needs, struct err *err)
{
	struct str first, rest;
	int r;

	needs = str_trim(needs);
	if (needs.n == 0)
		return 0;
	(void)str_cut(needs, ' ', &first, &rest);
	r = add_needs(m, rest, err);
	return r < 0 ? r : add(m, first, err);
}

int modules_order(struct str dep, struct str builtin, const char *const *wanted, struct modules *ret,
		  struct err *err)
{
	struct modules m = {.n = 0};

	for (; *wanted != NULL; wanted++) {
		char file[64];
		struct str path = STR_NONE, needs = STR_NONE;
		int r;

		snprintf(file, sizeof file, "%s.ko", *wanted);
		if (!find(dep, str_of(file), &path, &needs)) {
			if (find(builtin, str_of(file), &path, &needs))
				continue;
			return err_set(err, -ENOENT,
				       "the kernel has no module %s (compressed ones are not supported)",
				       file);
		}
		r = add_needs(&m, needs, err);
		if (r == 0)
			r = add(&m, path, err);
		if (r < 0)
			return r;
	}
	*ret = m;
	return 0;
}
