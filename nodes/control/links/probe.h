/* probe.h -- asks a local sandbox once whether it is ready: a connection to a port, or an HTTP GET that answers 200 to 399
 * (Azure's ContainerAppProbe). Completes exactly once, never inside the call. Thread: the control loop. */
#ifndef CONTROL_PROBE_H
#define CONTROL_PROBE_H

#include "control/links/sandboxd_client.h"
#include "wire/template.h"

typedef void probe_done(void *arg, bool ok, const char *message);

/* `probe` NULL: TCP on target_port. Copies what it needs. */
void probe_start(struct loop *loop, struct sandboxd_client *sandboxd, uint64_t sandbox,
		 const struct probe *probe, uint16_t target_port, probe_done *done, void *arg);

#endif
