/* machine_boot.c -- see machine_boot.h.
 *
 * Happy path: the domain is described; what is handed over waits at the socket for its user; libvirt starts QEMU; what is loaded is
 * loaded, in the same call; the shim takes the agent's channel, and the guest says hello.
 * Failures: whatever fails may leave a domain and a QEMU; machine_end_processes() looks for both by name. */
#include "machine_boot.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/fd.h"
#include "libvirt_clone/handover.h"
#include "libvirt_clone/vmstate.h"
#include "libvirt_xml/domain_xml.h"

#define CREATE_MS 60000u
#define LOAD_MS   120000u
#define HELLO_MS  60000

#define MIB (1ull << 20)
/* What the kernel takes of a guest's memory before the image has any of it. */
#define KERNEL_BYTES (40 * MIB)
/* Of a QEMU beside its guest's memory; an emulating one keeps translated code. */
#define QEMU_BYTES      (96 * MIB)
#define EMULATION_BYTES (64 * MIB)

/* With emulation: a processor of the second level (x86-64-v2), which images of today expect. */
#define EMULATED_CPU "Nehalem"

void machine_boot_init(struct machine_boot *b, struct libvirt_driver *d, const struct driver_start *how)
{
	*b = (struct machine_boot){.d = d, .how = how, .kvm = d->accel.kind == ACCEL_KVM};
	machine_name(d, how->sandbox, b->name);
	b->cpu_model = b->kvm ? NULL : EMULATED_CPU;
	b->vcpus = (how->limits.cpu_milli + 999) / 1000;
	b->memory_bytes = (how->limits.memory_bytes + KERNEL_BYTES + MIB - 1) / MIB * MIB;
	b->host_bytes = b->memory_bytes + QEMU_BYTES + (b->kvm ? 0 : EMULATION_BYTES);
}

/* -- The domain ----------------------------------------------------------------------------------------------------- */

/* One call to libvirt: its own copies, because it may outlive whoever waits for it. */
struct creation {
	struct buf xml;
	enum machine_memory kind;
	int load;
};

static int load(virDomainPtr domain, const struct creation *c, struct err *err)
{
	bool clone = c->kind == MACHINE_MEMORY_CLONE;
	int r = vmstate_load(domain, clone ? VMSTATE_DEVICES : VMSTATE_ALL, c->load, LOAD_MS, err);

	if (r == 0 && clone && virDomainResume(domain) != 0)
		r = connection_error(err, -EIO, "resume the machine");
	return r;
}

static int create_domain(virConnectPtr v, void *arg, struct err *err)
{
	struct creation *c = arg;
	bool waits = machine_memory_waits(c->kind);
	virDomainPtr domain = virDomainCreateXML(v, buf_cstr(&c->xml), waits ? VIR_DOMAIN_START_PAUSED : 0);
	int r = 0;

	if (domain == NULL)
		return connection_error(err, -EIO, "create the machine");
	if (waits)
		r = load(domain, c, err);
	virDomainFree(domain);
	return r;
}

static void free_creation(void *arg)
{
	struct creation *c = arg;

	buf_done(&c->xml);
	fd_close(&c->load);
	free(c);
}

static int describe(const struct machine_boot *b, enum machine_memory kind, bool handed_over, struct buf *xml,
		    struct err *err)
{
	CLEANUP_BUF struct buf arguments = {0};
	char emulator[MACHINE_PATH_MAX], socket[MACHINE_PATH_MAX];

	snprintf(emulator, sizeof emulator, "%s/berth-qemu", b->d->bin_dir);
	machine_handover_path(b->d, socket);
	machine_memory_xml(&arguments, kind, b->memory_bytes, handed_over ? socket : NULL);
	struct domain m = {.name = b->name,
			   .kvm = b->kvm,
			   .cpu_model = b->cpu_model,
			   .uid = b->how->uid_base,
			   .memory_bytes = b->memory_bytes,
			   .vcpus = b->vcpus,
			   .emulator = emulator,
			   .kernel = b->d->files.vmlinux,
			   .initrd = b->d->files.initrd,
			   .command_line = b->d->command_line,
			   .disk = b->disk,
			   .agent = b->agent,
			   .tap = b->tap,
			   .mac = b->mac,
			   .arguments = buf_str(&arguments)};

	return domain_xml(&m, xml, err);
}

static int new_creation(const struct machine_boot *b, const struct machine_memory_of *memory,
			struct creation **ret, struct err *err)
{
	struct creation *c = calloc(1, sizeof *c);
	int r = 0;

	if (c == NULL)
		return err_set(err, -ENOMEM, "no memory");
	c->kind = memory->kind;
	c->load = memory->load < 0 ? -1 : dup(memory->load);
	if (memory->load >= 0 && c->load < 0)
		r = err_system(err, -errno, "state to load");
	if (r == 0)
		r = describe(b, memory->kind, memory->handed_over >= 0, &c->xml, err);
	if (r < 0)
		free_creation(c);
	else
		*ret = c;
	return r;
}

static int create(const struct machine_boot *b, const struct machine_memory_of *memory, struct err *err)
{
	uint32_t uid = b->how->uid_base;
	bool offered = memory->handed_over >= 0;
	struct creation *c = NULL;
	int r = new_creation(b, memory, &c, err);

	if (r < 0)
		return r;
	if (offered)
		r = handover_offer(b->d->handover, uid, &memory->handed_over, 1, CREATE_MS, err);
	if (r < 0) {
		free_creation(c);
		return r;
	}
	r = connection_call(b->d->connection, create_domain, c, free_creation,
			    CREATE_MS + (c->load >= 0 ? LOAD_MS : 0), err);
	if (offered)
		handover_withdraw(b->d->handover, uid);
	if (r != -ETIMEDOUT)
		free_creation(c);
	return r;
}

/* -- The guest -------------------------------------------------------------------------------------------------------- */

/* libvirt listens there before its QEMU runs. */
static int connect_agent(const char *path, int *ret_fd, struct err *err)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_system(err, -errno, "socket");
	if (strlen(path) >= sizeof to.sun_path)
		return err_set(err, -ENAMETOOLONG, "%s: too long for a socket; state_dir has to be shorter",
			       path);
	memcpy(to.sun_path, path, strlen(path) + 1);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
		return err_system(err, -errno, "connect to %s", path);
	*ret_fd = fd_take(&fd);
	return 0;
}

static int talk(const struct machine_boot *b, bool hello, struct driver_instance *i, struct err *err)
{
	struct guest_shim_options o = {.bin_dir = b->d->bin_dir,
				       .dir = i->base.dir,
				       .uid = b->how->logger_uid,
				       .log_bytes = b->how->limits.log_bytes};
	CLEANUP_FD int agent = -1;
	int r = connect_agent(b->agent, &agent, err);

	if (r == 0)
		r = guest_shim_new(&o, agent, &i->shim, err);
	return r == 0 && hello ? guest_shim_hello(i->shim, HELLO_MS, err) : r;
}

/* -- All of it --------------------------------------------------------------------------------------------------------- */

int machine_boot(const struct machine_boot *b, const struct machine_memory_of *memory,
		 struct driver_instance *i, struct err *err)
{
	pid_t pid;
	int r;

	while (sem_wait(&b->d->boots) != 0)
		;
	r = create(b, memory, err);
	if (r == 0)
		r = machine_qemu(b->d, b->name, b->how->uid_base, &pid, &i->base.running.pid_start, &i->pidfd,
				 err);
	if (r == 0) {
		i->base.running.pid = pid;
		r = talk(b, memory->kind != MACHINE_MEMORY_LOADED, i, err);
	}
	sem_post(&b->d->boots);
	return r;
}
