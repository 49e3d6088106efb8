/* The field by which one gateway tells another where a request belongs. Trusted only on the peer listener. */
#include <errno.h>

#include "gateway/inside.h"

void hop_format(struct buf *to, uint64_t incarnation, const struct session *s)
{
	buf_printf(to, "Berth-Hop: %llu;%llu;%llu;%llu;%llu\r\n\r\n", (unsigned long long)incarnation,
		   (unsigned long long)s->pool, (unsigned long long)s->generation,
		   (unsigned long long)s->sandbox, (unsigned long long)s->index);
}

int hop_parse(struct str text, uint64_t *ret_incarnation, struct session_ref *ret)
{
	uint64_t number[5];
	struct str part;

	for (size_t i = 0; i < 5; i++) {
		bool cut = str_cut(text, ';', &part, &text);
		if (cut != (i < 4) || str_u64(part, UINT64_MAX, &number[i]))
			return -EBADMSG;
	}
	*ret_incarnation = number[0];
	*ret = (struct session_ref){
		.pool = number[1], .generation = number[2], .sandbox = number[3], .index = number[4]};
	return 0;
}
