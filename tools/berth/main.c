/* main.c -- finds the command by its one or two words, parses its options, runs it. */
#include <curl/curl.h>
#include <signal.h>
#include <string.h>

#include "command.h"

/* How many of the words name the command: 0 if they do not. */
static int words_of(const struct command_def *command, int n, char **words)
{
	const char *space = strchr(command->words, ' ');
	size_t first = space == NULL ? strlen(command->words) : (size_t)(space - command->words);

	if (n < 1 || strncmp(words[0], command->words, first) != 0 || words[0][first] != '\0')
		return 0;
	if (space == NULL)
		return 1;
	return n >= 2 && strcmp(words[1], space + 1) == 0 ? 2 : 0;
}

static int run(const struct command_def *command, int n, char **words)
{
	static struct args args;
	int r = args_parse(command, n, words, &args);

	if (r != EXIT_OK)
		return r;
	if (args_has(&args, "help")) {
		help_command(stdout, command);
		return EXIT_OK;
	}
	if (args.rest != NULL && command_argument(command) == NULL) {
		fprintf(stderr, "berth: what is this: %s\nTry: berth %s --help\n", args.rest, command->words);
		return EXIT_USAGE;
	}
	return command->run(&args);
}

int main(int argc, char **argv)
{
	int r;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		help_all(argc < 2 ? stderr : stdout);
		return argc < 2 ? EXIT_USAGE : EXIT_OK;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("berth %s\n", BERTH_VERSION);
		return EXIT_OK;
	}
	if (strcmp(argv[1], "--man") == 0) {
		help_man(stdout);
		return EXIT_OK;
	}
	for (size_t i = 0; i < n_commands; i++) {
		int n = words_of(&commands[i], argc - 1, argv + 1);

		if (n == 0)
			continue;
		curl_global_init(CURL_GLOBAL_DEFAULT);
		r = run(&commands[i], argc - 1 - n, argv + 1 + n);
		curl_global_cleanup();
		if (fflush(stdout) != 0 && r == EXIT_OK)
			r = EXIT_FAILED;
		return r;
	}
	fprintf(stderr, "berth: there is no command '%s%s%s'\n", argv[1], argc > 2 ? " " : "",
		argc > 2 ? argv[2] : "");
	help_group(stderr, argv[1]);
	fprintf(stderr, "Try: berth --help\n");
	return EXIT_USAGE;
}
