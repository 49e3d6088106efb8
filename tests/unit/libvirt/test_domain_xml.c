/* Descriptions of machines: what stands in them, and that nothing that is put in gets out of its place. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "libvirt_xml/domain_xml.h"

static const uint8_t mac[6] = {0x52, 0x54, 0x00, 0xab, 0xcd, 0xef};

static struct domain example(void)
{
	return (struct domain){.name = "berth-0000abcd-0000000000000001",
			       .cpu_model = "Nehalem",
			       .uid = 200065536,
			       .memory_bytes = 128u << 20,
			       .vcpus = 2,
			       .emulator = "/usr/lib/berth/berth-qemu",
			       .kernel = "/vm/boot/v/vmlinux",
			       .initrd = "/vm/boot/v/initrd",
			       .command_line = "quiet panic=-1",
			       .disk = "/vm/machines/1/qemu/disk",
			       .agent = "/vm/machines/1/qemu/agent",
			       .tap = "bth00abcdn1",
			       .mac = mac};
}

static bool has(const struct domain *d, const char *text)
{
	CLEANUP_BUF struct buf b = {0};
	struct err err = {0};

	if (domain_xml(d, &b, &err) < 0)
		fail_msg("%s", err.message);
	return strstr(buf_cstr(&b), text) != NULL;
}

static void says_what_it_is_told(void **state)
{
	struct domain d = example();

	(void)state;
	assert_true(has(&d, "<domain type='qemu' "));
	assert_true(has(&d, "<name>berth-0000abcd-0000000000000001</name>"));
	assert_true(has(&d, "<memory unit='b'>134217728</memory>"));
	assert_true(has(&d, "<vcpu>2</vcpu>"));
	assert_true(has(&d, "<mac address='52:54:00:ab:cd:ef'/>"));
	assert_true(has(&d, "<target dev='bth00abcdn1' managed='no'/>"));
	assert_true(has(&d, "<model>Nehalem</model>"));
	assert_true(has(&d, "<label>+200065536:+200065536</label>"));
	assert_false(has(&d, "qemu:commandline"));
}

/* Whatever the guest does, its QEMU ends; nobody writes to its image. */
static void ends_and_stays_read_only(void **state)
{
	static const char *const words[] = {"<on_poweroff>destroy<", "<on_reboot>destroy<",
					    "<on_crash>destroy<", "<readonly/>", "model='dac' relabel='no'"};
	struct domain d = example();

	(void)state;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		assert_true(has(&d, words[i]));
}

static void has_few_questions_for_its_qemu(void **state)
{
	struct domain d = example();

	(void)state;
	assert_true(has(&d, "<qemu:del capability='cpu-unavailable-features'/>"));
}

static void kvm_has_the_hosts_processor(void **state)
{
	struct domain d = example();

	(void)state;
	d.kvm = true;
	d.cpu_model = NULL;
	assert_true(has(&d, "<domain type='kvm' "));
	assert_true(has(&d, "mode='host-passthrough'"));
	assert_false(has(&d, "<tcg>"));
}

static void escapes_everything(void **state)
{
	struct domain d = example();

	(void)state;
	d.command_line = "a</cmdline><x y='z'>&\"";
	d.disk = "/a'/><source file='/etc/shadow";
	d.agent = "/b&c";
	assert_true(has(&d, "<cmdline>a&lt;/cmdline&gt;&lt;x y=&apos;z&apos;&gt;&amp;&quot;</cmdline>"));
	assert_true(has(&d, "<source file='/a&apos;/&gt;&lt;source file=&apos;/etc/shadow'/>"));
	assert_true(has(&d, "path='/b&amp;c'"));
}

static void refuses_control_characters(void **state)
{
	struct domain d = example();
	CLEANUP_BUF struct buf b = {0};
	struct err err = {0};

	(void)state;
	d.disk = "/a\nb";
	assert_int_equal(domain_xml(&d, &b, &err), -EINVAL);
	d = example();
	d.tap = "\xff";
	assert_int_equal(domain_xml(&d, &b, &err), -EINVAL);
}

static void takes_arguments_as_they_are(void **state)
{
	struct domain d = example();

	(void)state;
	d.arguments = STR("<qemu:arg value='-x'/>");
	assert_true(has(&d, "<qemu:commandline><qemu:arg value='-x'/></qemu:commandline>"));
}

static void may_have_no_network(void **state)
{
	struct domain d = example();

	(void)state;
	d.tap = NULL;
	assert_false(has(&d, "<interface"));
}

int main(void)
{
	static const struct CMUnitTest cases[] = {
		cmocka_unit_test(says_what_it_is_told),
		cmocka_unit_test(ends_and_stays_read_only),
		cmocka_unit_test(has_few_questions_for_its_qemu),
		cmocka_unit_test(kvm_has_the_hosts_processor),
		cmocka_unit_test(escapes_everything),
		cmocka_unit_test(refuses_control_characters),
		cmocka_unit_test(takes_arguments_as_they_are),
		cmocka_unit_test(may_have_no_network),
	};

	return cmocka_run_group_tests(cases, NULL, NULL);
}
