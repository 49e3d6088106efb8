#include <ctype.h>
#include <errno.h>

#include "arm/version.h"

const char version_list[] =
	"2024-02-02-preview, 2024-08-02-preview, 2024-10-02-preview, 2025-01-01, 2025-02-02-preview";

int version_parse(struct str text, uint32_t *ret)
{
	uint32_t value = 0;

	if (text.n != 10 && !(text.n == 18 && str_eq_nocase(str_slice(text, 10, 18), STR("-preview"))))
		return -EINVAL;
	for (size_t i = 0; i < 10; i++) {
		if (i == 4 || i == 7) {
			if (text.p[i] != '-')
				return -EINVAL;
		} else if (isdigit((unsigned char)text.p[i])) {
			value = value * 10 + (uint32_t)(text.p[i] - '0');
		} else {
			return -EINVAL;
		}
	}
	if (value / 100 % 100 - 1 > 11 || value % 100 - 1 > 30)
		return -EINVAL;
	*ret = value;
	return 0;
}
