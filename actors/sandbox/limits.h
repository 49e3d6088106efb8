/* limits.h -- a template's probes, and how long a start may take. For the files of this folder.
 * Source: Azure's ContainerAppProbe: initialDelay, then up to failureThreshold attempts a period apart. */
#ifndef SANDBOX_LIMITS_H
#define SANDBOX_LIMITS_H

#include "runtime/actor.h"

/* Of the sandbox that the actor stands for; NULL: its row or revision is gone. */
const struct template *limits_template(const struct actor *a, const struct context *c);
/* NULL: the template has none of this kind, or is NULL. */
const struct probe *limits_probe(const struct template *t, enum probe_kind kind);
/* A field that was left at 0 has its default. */
uint32_t limits_or(uint32_t value, uint32_t fallback);
/* From the start until it must have answered: the cluster's setting, or what the startup probe allows if that is longer.
 * p NULL: no startup probe. */
uint64_t limits_start_ms(const struct settings *cluster, const struct probe *p);

#endif
