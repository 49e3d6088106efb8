/* print-tables -- prints the actors' tables for the documents, so that no diagram can drift from the code.
 *
 *   print-tables NAME          a mermaid state diagram of one actor
 *   print-tables NAME-table    its whole table in markdown: a row a message, a column a state
 *   print-tables --list        the names
 *   print-tables --handlers    every cell with a handler, as actor:state:message, for tests/unit/actors/blank_handlers */
#include <stdio.h>
#include <string.h>

#include "cast/cast.h"

static const struct sm_def *find(const char *name, size_t n)
{
	for (size_t i = 0; i < CAST_CLASSES; i++) {
		const char *known = cast_classes[i]->sm->name;

		if (strlen(known) == n && memcmp(known, name, n) == 0)
			return cast_classes[i]->sm;
	}
	return NULL;
}

/* Mermaid's state names hold no spaces. */
static void print_state(const char *state)
{
	for (; *state != '\0'; state++)
		putchar(*state == ' ' ? '_' : *state);
}

/* One edge a pair of states, with all messages that lead along it. */
static void print_edge(const struct sm_def *def, uint8_t from, uint8_t to)
{
	bool first = true;

	for (uint8_t i = 0; i < def->n_messages; i++) {
		const struct sm_cell *cell = &def->cells[from][def->messages[i]];

		if (cell->kind != SM_ON || (cell->to & SM_TO(to)) == 0)
			continue;
		if (first) {
			printf("    ");
			print_state(def->states[from]);
			printf(" --> ");
			print_state(def->states[to]);
		}
		printf("%s %s", first ? " :" : ",", message_type_name[def->messages[i]]);
		first = false;
	}
	if (!first)
		putchar('\n');
}

static void print_diagram(const struct sm_def *def)
{
	printf("stateDiagram-v2\n    [*] --> ");
	print_state(def->states[0]);
	putchar('\n');
	for (uint8_t from = 0; from < def->n_states; from++) {
		for (uint8_t to = 0; to < def->n_states; to++) {
			if (from != to || def->n_states == 1)
				print_edge(def, from, to);
		}
	}
	if (def->final < def->n_states) {
		printf("    ");
		print_state(def->states[def->final]);
		printf(" --> [*]\n");
	}
}

static void print_table(const struct sm_def *def)
{
	printf("| |");
	for (uint8_t s = 0; s < def->n_states; s++)
		printf(" %s |", def->states[s]);
	printf("\n|---|");
	for (uint8_t s = 0; s < def->n_states; s++)
		printf("---|");
	putchar('\n');
	for (uint8_t i = 0; i < def->n_messages; i++) {
		printf("| %s |", message_type_name[def->messages[i]]);
		for (uint8_t s = 0; s < def->n_states; s++)
			printf(" %s |", def->cells[s][def->messages[i]].label);
		putchar('\n');
	}
}

static void print_handlers(const struct sm_def *def)
{
	for (uint8_t s = 0; s < def->n_states; s++) {
		for (uint8_t i = 0; i < def->n_messages; i++) {
			if (def->cells[s][def->messages[i]].kind == SM_ON)
				printf("%s:%s:%s\n", def->name, def->states[s],
				       message_type_name[def->messages[i]]);
		}
	}
}

int main(int argc, char **argv)
{
	const char *name = argc == 2 ? argv[1] : "";
	size_t n = strlen(name), suffix = strlen("-table");
	const struct sm_def *def = find(name, n);

	if (strcmp(name, "--list") == 0) {
		for (size_t i = 0; i < CAST_CLASSES; i++)
			printf("%s\n", cast_classes[i]->sm->name);
		return 0;
	}
	if (strcmp(name, "--handlers") == 0) {
		for (size_t i = 0; i < CAST_CLASSES; i++)
			print_handlers(cast_classes[i]->sm);
		return 0;
	}
	if (def != NULL) {
		print_diagram(def);
		return 0;
	}
	if (n > suffix && strcmp(name + n - suffix, "-table") == 0 &&
	    (def = find(name, n - suffix)) != NULL) {
		print_table(def);
		return 0;
	}
	fprintf(stderr, "print-tables: NAME, NAME-table, --list or --handlers; \"%s\" is none of them\n",
		name);
	return 2;
}
