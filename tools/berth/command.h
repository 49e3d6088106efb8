/* command.h -- the commands and options of `berth`, declared once: parsing, --help and the man page read the same table. */
#ifndef BERTH_COMMAND_H
#define BERTH_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* What the program exits with; listed by --help and berth(1). */
enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* the request was understood and refused, or an operation failed */
	EXIT_USAGE = 2,
	EXIT_NOT_FOUND = 3,
	EXIT_REFUSED = 4,     /* no token, a bad one, or a missing role */
	EXIT_UNAVAILABLE = 5, /* no endpoint answered, or the cluster cannot serve now */
	EXIT_TIMEOUT = 6,     /* the operation goes on; the command stopped waiting */
};

enum option_kind { OPTION_VALUE, OPTION_VALUES, OPTION_SWITCH };

struct option_def {
	const char *name; /* without "--" */
	enum option_kind kind;
	const char *argument; /* of the help: "TEXT"; NULL for a switch */
	const char *help;
};

#define OPTIONS_MAX 40
#define VALUES_MAX  256

struct args;

struct command_def {
	const char *words; /* "pool create" */
	const char *summary;
	const struct option_def *options;
	size_t n_options;
	int (*run)(const struct args *args); /* answers an exit code */
};

/* Parsed arguments; strings are main's argv. */
struct args {
	const struct command_def *command;
	const struct option_def *given[OPTIONS_MAX];
	const char *values[OPTIONS_MAX][VALUES_MAX];
	size_t n_values[OPTIONS_MAX], n_given;
	const char *rest; /* the one argument that is not an option, or NULL */
};

/* EXIT_OK, or EXIT_USAGE after a message on stderr. */
int args_parse(const struct command_def *command, int n, char **words, struct args *ret);
/* The (first) value, or NULL; "" for a switch that is given. */
const char *args_get(const struct args *args, const char *name);
/* All values of an option that takes several; 0 when it is not given. */
size_t args_all(const struct args *args, const char *name, const char *const **ret);
bool args_has(const struct args *args, const char *name);
/* The value, else the environment variable, else `otherwise`. */
const char *args_or(const struct args *args, const char *name, const char *variable, const char *otherwise);

extern const struct command_def commands[];
extern const size_t n_commands;
/* What the command's plain argument is: "NODE"; NULL: it takes none. */
const char *command_argument(const struct command_def *command);
extern const struct option_def common_options[];
extern const size_t n_common_options;

void help_all(FILE *to);
void help_group(FILE *to, const char *first_word);
void help_command(FILE *to, const struct command_def *command);
void help_man(FILE *to); /* berth(1) */

int pool_create(const struct args *args);
int pool_update(const struct args *args);
int pool_show(const struct args *args);
int pool_list(const struct args *args);
int pool_delete(const struct args *args);
int session_list(const struct args *args);
int session_show(const struct args *args);
int session_stop(const struct args *args);
int session_suspend(const struct args *args);
int session_resume(const struct args *args);
int node_list(const struct args *args);
int node_show(const struct args *args);
int node_cordon(const struct args *args);
int node_uncordon(const struct args *args);
int node_drain(const struct args *args);
int cluster_upgrade(const struct args *args);
int node_token(const struct args *args);
int node_join(const struct args *args);
int node_remove(const struct args *args);
int node_purge(const struct args *args);
int image_list(const struct args *args);
int image_import(const struct args *args);
int image_remove(const struct args *args);
int image_prune(const struct args *args);
int logs_show(const struct args *args);
int billing_export(const struct args *args);
int token_issue(const struct args *args);
int cluster_status_show(const struct args *args);
int cluster_init_run(const struct args *args);
int cluster_start_run(const struct args *args);
int cluster_stop_run(const struct args *args);
int cluster_backup_key_run(const struct args *args);
int cluster_backup_run(const struct args *args);
int cluster_restore_run(const struct args *args);
int cluster_recover_run(const struct args *args);
int cluster_keys_show(const struct args *args);
int cluster_rotate_run(const struct args *args);

#endif
