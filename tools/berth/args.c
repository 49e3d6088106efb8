/* args.c -- "--name value", "--name=value", "--name a b c" for options that take several (up to the next "--"). Values are
 * not checked: the cluster does that, and its messages are shown. */
#include <stdlib.h>
#include <string.h>

#include "command.h"

static const struct option_def *find(const struct command_def *command, const char *name, size_t n)
{
	for (size_t i = 0; i < command->n_options; i++)
		if (strncmp(command->options[i].name, name, n) == 0 && command->options[i].name[n] == '\0')
			return &command->options[i];
	for (size_t i = 0; i < n_common_options; i++)
		if (strncmp(common_options[i].name, name, n) == 0 && common_options[i].name[n] == '\0')
			return &common_options[i];
	return NULL;
}

static size_t slot(struct args *args, const struct option_def *option)
{
	for (size_t i = 0; i < args->n_given; i++)
		if (args->given[i] == option)
			return i;
	args->given[args->n_given] = option;
	return args->n_given++;
}

static int usage(const struct command_def *command, const char *what, const char *word)
{
	fprintf(stderr, "berth: %s: %s\nTry: berth %s --help\n", what, word, command->words);
	return EXIT_USAGE;
}

int args_parse(const struct command_def *command, int n, char **words, struct args *ret)
{
	ret->command = command;
	for (int i = 0; i < n; i++) {
		const char *word = words[i], *value = strchr(word, '=');
		const struct option_def *option;
		size_t at;

		if (strcmp(word, "-h") == 0)
			word = "--help";
		if (strcmp(word, "-n") == 0 || strcmp(word, "-g") == 0 || strcmp(word, "-o") == 0)
			word = word[1] == 'n' ? "--name" : word[1] == 'g' ? "--resource-group" : "--output";
		if (strncmp(word, "--", 2) != 0) {
			if (ret->rest != NULL)
				return usage(command, "what is this", word);
			ret->rest = word;
			continue;
		}
		option = find(command, word + 2,
			      value != NULL ? (size_t)(value - word) - 2 : strlen(word + 2));
		if (option == NULL)
			return usage(command, "unknown option", word);
		if (ret->n_given == OPTIONS_MAX)
			return usage(command, "too many options", word);
		at = slot(ret, option);
		if (option->kind == OPTION_SWITCH) {
			ret->values[at][0] = "";
			ret->n_values[at] = 1;
		} else if (value != NULL) {
			ret->values[at][ret->n_values[at]++] = value + 1;
		} else if (option->kind == OPTION_VALUE) {
			if (i + 1 == n)
				return usage(command, "a value is missing", word);
			ret->values[at][0] = words[++i];
			ret->n_values[at] = 1;
		} else {
			while (i + 1 < n && strncmp(words[i + 1], "--", 2) != 0 &&
			       ret->n_values[at] < VALUES_MAX - 1)
				ret->values[at][ret->n_values[at]++] = words[++i];
		}
		if (ret->n_values[at] >= VALUES_MAX - 1)
			return usage(command, "too many values", word);
	}
	return EXIT_OK;
}

size_t args_all(const struct args *args, const char *name, const char *const **ret)
{
	for (size_t i = 0; i < args->n_given; i++) {
		if (strcmp(args->given[i]->name, name) == 0) {
			*ret = args->values[i];
			return args->n_values[i];
		}
	}
	*ret = NULL;
	return 0;
}

const char *args_get(const struct args *args, const char *name)
{
	const char *const *values;

	return args_all(args, name, &values) == 0 ? NULL : values[0];
}

bool args_has(const struct args *args, const char *name)
{
	for (size_t i = 0; i < args->n_given; i++)
		if (strcmp(args->given[i]->name, name) == 0)
			return true;
	return false;
}

const char *args_or(const struct args *args, const char *name, const char *variable, const char *otherwise)
{
	const char *value = args_get(args, name);

	if (value == NULL && variable != NULL)
		value = getenv(variable);
	return value != NULL && value[0] != '\0' ? value : otherwise;
}
