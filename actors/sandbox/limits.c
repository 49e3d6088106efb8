#include "limits.h"

#include "sandbox.h"

const struct probe *limits_probe(const struct template *t, enum probe_kind kind)
{
	for (uint32_t i = 0; t != NULL && i < t->n_probes; i++) {
		if (t->probes[i].kind == kind)
			return &t->probes[i];
	}
	return NULL;
}

uint32_t limits_or(uint32_t value, uint32_t fallback)
{
	return value != 0 ? value : fallback;
}

uint64_t limits_start_ms(const struct probe *p)
{
	uint64_t s;

	if (p == NULL)
		return SANDBOX_START_MS;
	s = p->initial_delay_s + (uint64_t)limits_or(p->period_s, 10) * limits_or(p->failure_threshold, 3);
	return s * 1000 > SANDBOX_START_MS ? s * 1000 : SANDBOX_START_MS;
}
