#include "blank.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cast/cast.h"

void blank_from_environment(void)
{
	const char *wanted = getenv("BERTH_BLANK");

	if (wanted == NULL)
		return;
	for (size_t i = 0; i < CAST_CLASSES; i++) {
		const struct sm_def *def = cast_classes[i]->sm;

		for (uint8_t s = 0; s < def->n_states; s++) {
			for (uint8_t m = 0; m < def->n_messages; m++) {
				char name[128];

				snprintf(name, sizeof name, "%s:%s:%s", def->name, def->states[s],
					 message_type_name[def->messages[m]]);
				if (strcmp(name, wanted) == 0) {
					sm_blank(def, s, def->messages[m]);
					return;
				}
			}
		}
	}
	fprintf(stderr, "BERTH_BLANK: no cell %s\n", wanted);
	exit(2);
}
