/* help.c -- --help and the man page, from the table of commands. */
#include <string.h>

#include "command.h"

static const char *const exits[][2] = {
	{"0", "done"},
	{"1", "refused or failed; the message says why"},
	{"2", "wrong usage"},
	{"3", "there is no such thing"},
	{"4", "no token, a bad one, or a missing role"},
	{"5", "no endpoint answered, or the cluster cannot serve now"},
	{"6", "stopped waiting; the operation goes on"},
};

static void print_options(FILE *to, const struct option_def *options, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char left[96];

		snprintf(left, sizeof left, "--%s%s%s", options[i].name,
			 options[i].argument != NULL ? " " : "",
			 options[i].argument != NULL ? options[i].argument : "");
		fprintf(to, "  %-34s %s\n", left, options[i].help);
	}
}

void help_all(FILE *to)
{
	fprintf(to, "berth: sandboxes for sessions, on your own machines\n\n");
	for (size_t i = 0; i < n_commands; i++)
		fprintf(to, "  berth %-16s %s\n", commands[i].words, commands[i].summary);
	fprintf(to, "\nEvery command:\n");
	print_options(to, common_options, n_common_options);
	fprintf(to, "\nExit codes:\n");
	for (size_t i = 0; i < sizeof exits / sizeof *exits; i++)
		fprintf(to, "  %s  %s\n", exits[i][0], exits[i][1]);
	fprintf(to, "\nberth COMMAND --help explains a command; berth --version\n");
}

void help_group(FILE *to, const char *first_word)
{
	size_t n = strlen(first_word);

	for (size_t i = 0; i < n_commands; i++)
		if (strncmp(commands[i].words, first_word, n) == 0 && commands[i].words[n] == ' ')
			fprintf(to, "  berth %-16s %s\n", commands[i].words, commands[i].summary);
}

void help_command(FILE *to, const struct command_def *command)
{
	const char *argument = command_argument(command);

	fprintf(to, "berth %s%s%s: %s\n\n", command->words, argument != NULL ? " " : "",
		argument != NULL ? argument : "", command->summary);
	print_options(to, command->options, command->n_options);
	fprintf(to, "%sEvery command:\n", command->n_options > 0 ? "\n" : "");
	print_options(to, common_options, n_common_options);
}

/* roff: a leading dot or quote would be a request, a hyphen must stay one, a backslash is itself. */
static void roff(FILE *to, const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", to);
	for (; *text != '\0'; text++) {
		if (*text == '-')
			fputs("\\-", to);
		else if (*text == '\\')
			fputs("\\e", to);
		else
			fputc(*text, to);
	}
}

static void man_options(FILE *to, const struct option_def *options, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		fprintf(to, ".TP\n\\fB\\-\\-");
		roff(to, options[i].name);
		fprintf(to, "\\fR");
		if (options[i].argument != NULL) {
			fprintf(to, " \\fI");
			roff(to, options[i].argument);
			fprintf(to, "\\fR");
		}
		fputc('\n', to);
		roff(to, options[i].help);
		fputc('\n', to);
	}
}

void help_man(FILE *to)
{
	fprintf(to,
		".TH BERTH 1 \"\" \"berth %s\" \"Berth\"\n.SH NAME\nberth \\- session pools of sandboxes on "
		"your own machines\n",
		BERTH_VERSION);
	fprintf(to, ".SH SYNOPSIS\n.B berth\n.I command\n[\\fB\\-\\-\\fIoption\\fR [\\fIvalue\\fR]]...\n");
	fprintf(to, ".SH DESCRIPTION\nberth asks the nodes of a cluster over HTTP. It tries the given "
		    "endpoints in order, and goes on\n"
		    "to the next when one cannot be reached or answers 503. Without \\-\\-endpoint and a "
		    "token it uses the admin\n"
		    "sockets of the nodes on this machine.\n");
	fprintf(to, ".SH OPTIONS OF EVERY COMMAND\n");
	man_options(to, common_options, n_common_options);
	fprintf(to, ".SH COMMANDS\n");
	for (size_t i = 0; i < n_commands; i++) {
		fprintf(to, ".SS berth ");
		roff(to, commands[i].words);
		fputc('\n', to);
		roff(to, commands[i].summary);
		fputc('\n', to);
		man_options(to, commands[i].options, commands[i].n_options);
	}
	fprintf(to, ".SH EXIT STATUS\n");
	for (size_t i = 0; i < sizeof exits / sizeof *exits; i++) {
		fprintf(to, ".TP\n%s\n", exits[i][0]);
		roff(to, exits[i][1]);
		fputc('\n', to);
	}
	fprintf(to, ".SH ENVIRONMENT\nBERTH_ENDPOINTS, BERTH_SOCKET, BERTH_DIR, BERTH_TOKEN, BERTH_CA, "
		    "BERTH_RESOURCE_GROUP,\n"
		    "BERTH_SUBSCRIPTION stand for the options that name them.\n");
}
