/* output.c -- see output.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "json/build.h"
#include "output.h"

#define CELL_MAX 512

int output_form(const struct args *args, enum output_form *ret)
{
	const char *form = args_get(args, "output");

	if (form == NULL)
		*ret = isatty(STDOUT_FILENO) ? OUTPUT_TABLE : OUTPUT_JSON;
	else if (strcmp(form, "json") == 0)
		*ret = OUTPUT_JSON;
	else if (strcmp(form, "table") == 0)
		*ret = OUTPUT_TABLE;
	else if (strcmp(form, "tsv") == 0)
		*ret = OUTPUT_TSV;
	else
		return fprintf(stderr, "berth: --output: json, table or tsv\n"), EXIT_USAGE;
	return EXIT_OK;
}

static void print_json(const json_t *value)
{
	CLEANUP_BUF struct buf text = {0};

	json_print(&text, value, true);
	buf_add(&text, "\n", 1);
	fwrite(text.p, 1, text.n, stdout);
}

static bool all_words(const json_t *list)
{
	const json_t *value;
	size_t i;

	json_array_foreach(list, i, value)
	{
		if (!json_is_string(value))
			return false;
	}
	return true;
}

/* "a,b" */
static void join_words(const json_t *list, char ret[CELL_MAX])
{
	const json_t *value;
	size_t i, n = 0;

	json_array_foreach(list, i, value)
	{
		if (i > 0 && n + 2 < CELL_MAX)
			ret[n++] = ',';
		log_escape(json_string_value(value), json_string_length(value), ret + n, CELL_MAX - n);
		n += strlen(ret + n);
	}
}

static void cell_of(const json_t *object, const char *path, char ret[CELL_MAX])
{
	const json_t *value = json_at(object, path);
	char *text;

	ret[0] = '\0';
	if (json_is_string(value)) {
		log_escape(json_string_value(value), json_string_length(value), ret, CELL_MAX);
	} else if (json_is_array(value) && all_words(value)) {
		join_words(value, ret);
	} else if (value != NULL && !json_is_null(value)) {
		text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
		if (text != NULL)
			log_escape(text, strlen(text), ret, CELL_MAX);
		free(text);
	}
}

/* "a/b" shows both, with the slash. */
static void cell(const json_t *object, const struct column *column, char ret[CELL_MAX])
{
	const char *slash = strchr(column->path, '/');
	char left[128], right[CELL_MAX];

	if (slash == NULL) {
		cell_of(object, column->path, ret);
		return;
	}
	snprintf(left, sizeof left, "%.*s", (int)(slash - column->path), column->path);
	cell_of(object, left, ret);
	cell_of(object, slash + 1, right);
	snprintf(ret + strlen(ret), CELL_MAX - strlen(ret), "/%.100s", right);
}

static void print_tsv(const json_t *object, const struct column *columns, size_t n)
{
	char text[CELL_MAX];

	for (size_t i = 0; i < n; i++) {
		cell(object, &columns[i], text);
		printf("%s%s", i > 0 ? "\t" : "", text);
	}
	putchar('\n');
}

int output_one(const struct args *args, const json_t *object, const struct column *columns, size_t n)
{
	enum output_form form;
	char text[CELL_MAX];
	int r = output_form(args, &form);

	if (r != EXIT_OK)
		return r;
	if (form == OUTPUT_JSON) {
		print_json(object);
	} else if (form == OUTPUT_TSV) {
		print_tsv(object, columns, n);
	} else {
		for (size_t i = 0; i < n; i++) {
			cell(object, &columns[i], text);
			if (text[0] != '\0')
				printf("%-14s %s\n", columns[i].title, text);
		}
	}
	return EXIT_OK;
}

static void print_table(const json_t *list, const struct column *columns, size_t n)
{
	int widths[32];
	char text[CELL_MAX];

	for (size_t i = 0; i < n; i++) {
		widths[i] = (int)strlen(columns[i].title);
		for (size_t k = 0; k < json_array_size(list); k++) {
			cell(json_array_get(list, k), &columns[i], text);
			if ((int)strlen(text) > widths[i])
				widths[i] = (int)strlen(text);
		}
	}
	for (size_t i = 0; i < n; i++)
		printf("%-*s%s", i + 1 < n ? widths[i] : 0, columns[i].title, i + 1 < n ? "  " : "\n");
	for (size_t k = 0; k < json_array_size(list); k++) {
		for (size_t i = 0; i < n; i++) {
			cell(json_array_get(list, k), &columns[i], text);
			printf("%-*s%s", i + 1 < n ? widths[i] : 0, text, i + 1 < n ? "  " : "\n");
		}
	}
}

int output_list(const struct args *args, const json_t *whole, const json_t *list,
		const struct column *columns, size_t n)
{
	enum output_form form;
	int r = output_form(args, &form);

	if (r != EXIT_OK)
		return r;
	if (form == OUTPUT_JSON)
		print_json(whole);
	else if (form == OUTPUT_TABLE)
		print_table(list, columns, n);
	else
		for (size_t i = 0; i < json_array_size(list); i++)
			print_tsv(json_array_get(list, i), columns, n);
	return EXIT_OK;
}

int output_token(const struct args *args, const json_t *answer)
{
	const char *form = args_get(args, "output");

	if (form != NULL && strcmp(form, "json") == 0)
		return output_one(args, answer, NULL, 0);
	printf("%s\n", json_string_value(json_object_get(answer, "token")));
	return EXIT_OK;
}
