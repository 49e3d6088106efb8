#include "egress.h"

#include <errno.h>
#include <stddef.h>

int egress_new(const struct egress_options *o, struct egress **ret, struct err *err)
{
	(void)o;
	(void)err;
	*ret = NULL;
	return 0;
}

void egress_free(struct egress *e)
{
	(void)e;
}

int egress_attach(struct egress *e, uint32_t slot, int netns, struct err *err)
{
	(void)e;
	(void)slot;
	(void)netns;
	return err_set(err, -ENOTSUP, "egress is not available");
}

int egress_switch(struct egress *e, uint32_t slot, bool on, struct err *err)
{
	(void)e;
	(void)slot;
	(void)on;
	return err_set(err, -ENOTSUP, "egress is not available");
}

int egress_detach(struct egress *e, uint32_t slot, struct err *err)
{
	(void)e;
	(void)slot;
	(void)err;
	return 0;
}

void egress_resolv_conf(const struct egress *e, char *ret, size_t size)
{
	(void)e;
	(void)size;
	*ret = '\0';
}
