#include "private.h"

struct sandboxd_start sandbox_start_of(const struct sandbox_row *row, const struct pool_row *pool,
				       const struct template *t)
{
	return (struct sandboxd_start){.sandbox = row->id,
				       .pool = pool->name,
				       .pool_uid = pool->uid,
				       .revision = row->revision,
				       .digest = t->digest,
				       .cpu_milli = t->cpu_milli,
				       .memory_bytes = t->memory_bytes,
				       .target_port = t->target_port,
				       .egress = row->egress,
				       .isolation = pool->isolation};
}
