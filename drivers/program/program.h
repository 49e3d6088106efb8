/* program.h -- the program that an image names, in place of this process: the last steps of berth-init in a container and
 * of berth-guest in a machine, inside the sandbox.
 *
 * Happy path: program_prepare, then whatever the caller forbids itself, then program_execute.
 * Failure: one line for people to `report_fd`, exit status 127 (not found), 126 (cannot be run) or 125 (of ours).
 * Of libc alone: both callers are static, because the root file system may hold no C library at all. */
#ifndef PROGRAM_PROGRAM_H
#define PROGRAM_PROGRAM_H

#define PROGRAM_DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct program {
	const char *user, *working_dir;
	const char *resolv_conf; /* empty: the image's */
	char **argv, **env;      /* NULL at their ends */
	/* Set by program_prepare. */
	char file[4096];
};

/* Closes on exec; -1: nobody is told. */
extern int program_report_fd;

void program_die(int status, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

/* Standard input is /dev/null, signals are as new, /etc is complete, the user and his groups, the working directory, PATH
 * and HOME, the file of argv[0], no new privileges. */
void program_prepare(struct program *p);

_Noreturn void program_execute(const struct program *p);

/* A new file in the place of whatever is there. */
void program_replace_file(const char *path, const char *text);

#endif
