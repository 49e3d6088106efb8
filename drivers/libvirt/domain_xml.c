#include "domain_xml.h"

#include <errno.h>

#include "core/must.h"

/* For attributes in single quotes and for text. Control characters cannot be written at all. */
static void escaped(struct buf *b, const char *text)
{
	for (const char *p = text; *p != '\0'; p++) {
		switch (*p) {
		case '&':
			buf_printf(b, "&amp;");
			break;
		case '<':
			buf_printf(b, "&lt;");
			break;
		case '>':
			buf_printf(b, "&gt;");
			break;
		case '\'':
			buf_printf(b, "&apos;");
			break;
		case '"':
			buf_printf(b, "&quot;");
			break;
		default:
			buf_add(b, p, 1);
		}
	}
}

static void element(struct buf *b, const char *name, const char *text)
{
	buf_printf(b, "<%s>", name);
	escaped(b, text);
	buf_printf(b, "</%s>\n", name);
}

static void attribute(struct buf *b, const char *open, const char *value, const char *rest)
{
	buf_printf(b, "%s='", open);
	escaped(b, value);
	buf_printf(b, "'%s\n", rest);
}

static bool writable(const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; text != NULL && *p != '\0'; p++) {
		if (*p < 0x20 || *p >= 0x7f)
			return false;
	}
	return true;
}

static int check(const struct domain *d, struct err *err)
{
	const char *const texts[] = {d->name,         d->cpu_model, d->emulator, d->kernel, d->initrd,
				     d->command_line, d->disk,      d->agent,    d->tap};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		if (!writable(texts[i]))
			return err_set(err, -EINVAL,
				       "machine %s: a path holds bytes that libvirt cannot take",
				       writable(d->name) ? d->name : "?");
	}
	return 0;
}

static void size(const struct domain *d, struct buf *b)
{
	buf_printf(b, "<memory unit='b'>%llu</memory>\n<vcpu>%u</vcpu>\n",
		   (unsigned long long)d->memory_bytes, d->vcpus);
}

static void machine(const struct domain *d, struct buf *b)
{
	buf_printf(b, "<os>\n<type arch='x86_64' machine='microvm'>hvm</type>\n");
	element(b, "kernel", d->kernel);
	element(b, "initrd", d->initrd);
	element(b, "cmdline", d->command_line);
	buf_printf(b, "</os>\n<features><acpi/>%s</features>\n",
		   d->kvm ? "" : "<tcg><tb-cache unit='MiB'>32</tb-cache></tcg>");
	if (d->cpu_model == NULL) {
		buf_printf(b, "<cpu mode='host-passthrough'/>\n");
	} else {
		buf_printf(b, "<cpu mode='custom' match='exact' check='none'>");
		element(b, "model", d->cpu_model);
		buf_printf(b, "</cpu>\n");
	}
	buf_printf(b, "<on_poweroff>destroy</on_poweroff>\n<on_reboot>destroy</on_reboot>\n"
		      "<on_crash>destroy</on_crash>\n");
}

static void network(const struct domain *d, struct buf *b)
{
	const uint8_t *m = d->mac;

	must(m != NULL);
	buf_printf(b, "<interface type='ethernet'>\n<mac address='%02x:%02x:%02x:%02x:%02x:%02x'/>\n", m[0],
		   m[1], m[2], m[3], m[4], m[5]);
	attribute(b, "<target dev", d->tap, " managed='no'/>");
	buf_printf(b, "<model type='virtio'/>\n<address type='virtio-mmio'/>\n</interface>\n");
}

static void devices(const struct domain *d, struct buf *b)
{
	buf_printf(b, "<devices>\n");
	element(b, "emulator", d->emulator);
	buf_printf(b, "<controller type='usb' model='none'/>\n<memballoon model='none'/>\n");
	buf_printf(b, "<disk type='file' device='disk'>\n<driver name='qemu' type='raw'/>\n");
	attribute(b, "<source file", d->disk, "/>");
	buf_printf(b, "<target dev='vda' bus='virtio'/>\n<readonly/>\n<shareable/>\n");
	buf_printf(b, "<address type='virtio-mmio'/>\n</disk>\n");
	if (d->tap != NULL)
		network(d, b);
	buf_printf(b, "<controller type='virtio-serial' index='0'><address "
		      "type='virtio-mmio'/></controller>\n<channel type='unix'>\n");
	attribute(b, "<source mode='bind' path", d->agent, "/>");
	buf_printf(b, "<target type='virtio' name='org.berth.agent.0'/>\n</channel>\n</devices>\n");
}

/* QEMU reads its monitor byte by byte, with several system calls for each. With that capability libvirt asks a new one for each of its
 * processor's 400 properties by itself, which was half of a clone's start; without, it gets the features as two lists. */
static void capabilities(struct buf *b)
{
	buf_printf(b, "<qemu:capabilities><qemu:del capability='cpu-unavailable-features'/>"
		      "</qemu:capabilities>\n");
}

int domain_xml(const struct domain *d, struct buf *b, struct err *err)
{
	int r = check(d, err);

	if (r < 0)
		return r;
	buf_printf(b, "<domain type='%s' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n",
		   d->kvm ? "kvm" : "qemu");
	element(b, "name", d->name);
	size(d, b);
	machine(d, b);
	devices(d, b);
	buf_printf(b, "<seclabel type='static' model='dac' relabel='no'><label>+%u:+%u</label></seclabel>\n",
		   d->uid, d->uid);
	capabilities(b);
	if (d->arguments.n > 0) {
		buf_printf(b, "<qemu:commandline>");
		buf_add_str(b, d->arguments);
		buf_printf(b, "</qemu:commandline>\n");
	}
	buf_printf(b, "</domain>\n");
	return buf_failed(b) ? err_set(err, -ENOMEM, "machine %s: no memory", d->name) : 0;
}
