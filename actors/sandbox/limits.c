#include "limits.h"

#include "sandbox.h"

const struct template *limits_template(const struct actor *a, const struct context *c)
{
	const struct sandbox_row *row = state_sandbox(c->state, a->key);
	const struct revision_row *revision =
		row == NULL ? NULL : state_revision(c->state, row->pool, row->revision);

	return revision == NULL ? NULL : &revision->template;
}

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

uint64_t limits_start_ms(const struct settings *cluster, const struct probe *p)
{
	uint64_t s, set_ms = cluster->start_ms != 0 ? cluster->start_ms : SANDBOX_START_MS;

	if (p == NULL)
		return set_ms;
	s = p->initial_delay_s + (uint64_t)limits_or(p->period_s, 10) * limits_or(p->failure_threshold, 3);
	return s * 1000 > set_ms ? s * 1000 : set_ms;
}
