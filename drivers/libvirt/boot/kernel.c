/* A bzImage says in its header (Documentation/x86/boot.rst) where its compressed payload lies; behind that stands the size that it
 * unpacks to. Only root writes /boot, so this guards against other kernels and broken files, not against attacks; it still
 * reads nothing outside of the file. */
#include "libvirt_boot/kernel.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libvirt_boot/lz4.h"

#define VMLINUX_MAX (512u << 20)

#define AT_SETUP_SECTORS  0x1f1
#define AT_MAGIC          0x202 /* "HdrS" */
#define AT_PROTOCOL       0x206
#define AT_VERSION        0x20e
#define AT_PAYLOAD_OFFSET 0x248
#define AT_PAYLOAD_LENGTH 0x24c
#define HEADER_END        0x250
#define PROTOCOL_MIN      0x0208 /* the first with a payload_offset */
#define SECTOR            512u

#define NOTE_PVH_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */

int kernel_find(const char *dir, char ret_path[PATH_MAX], struct err *err)
{
	static const struct str prefix = {"vmlinuz-", 8}, suffix = {"-cloud-amd64", 12};
	char newest[NAME_MAX + 1] = "";
	struct dirent *e;
	DIR *d = opendir(dir);

	if (d == NULL)
		return err_system(err, -errno, "open %s", dir);
	while ((e = readdir(d)) != NULL) {
		struct str name = str_of(e->d_name);

		if (str_starts(name, prefix) && str_ends(name, suffix) && strverscmp(e->d_name, newest) > 0)
			strcpy(newest, e->d_name);
	}
	closedir(d);
	if (newest[0] == '\0')
		return err_set(err, -ENOENT,
			       "no %s/vmlinuz-*-cloud-amd64: install the package linux-image-cloud-amd64",
			       dir);
	if (snprintf(ret_path, PATH_MAX, "%s/%s", dir, newest) >= PATH_MAX)
		return err_set(err, -ENAMETOOLONG, "the path of %s is too long", newest);
	return 0;
}

static uint64_t number(struct str s, size_t at, size_t bytes)
{
	uint64_t n = 0;

	for (size_t i = bytes; i > 0; i--)
		n = n << 8 | (uint8_t)s.p[at + i - 1];
	return n;
}

static bool is_bzimage(struct str file)
{
	return file.n >= HEADER_END && memcmp(file.p + AT_MAGIC, "HdrS", 4) == 0 &&
	       number(file, AT_PROTOCOL, 2) >= PROTOCOL_MIN;
}

int kernel_release(struct str file, char ret[KERNEL_RELEASE_SIZE], struct err *err)
{
	size_t at = is_bzimage(file) ? number(file, AT_VERSION, 2) + SECTOR : 0,
	       end = at + KERNEL_RELEASE_SIZE;
	struct str release = at == 0 || end > file.n ? STR_NONE : str_slice(file, at, end);

	release.n = str_find(release, ' ');
	if (release.n == 0 || release.n >= KERNEL_RELEASE_SIZE || str_find(release, '/') < release.n ||
	    str_copy(release, ret, KERNEL_RELEASE_SIZE) < 0)
		return err_set(err, -EBADMSG, "not a Linux kernel for x86");
	return 0;
}

/* A note's name and contents are each filled up to four bytes. */
static bool notes_have_entry(struct str notes)
{
	while (notes.n >= 12) {
		uint64_t name = number(notes, 0, 4), contents = number(notes, 4, 4);
		uint64_t end = 12 + ((name + 3) & ~3ull) + ((contents + 3) & ~3ull);

		if (end > notes.n)
			return false;
		if (name == 4 && number(notes, 8, 4) == NOTE_PVH_ENTRY && memcmp(notes.p + 12, "Xen", 4) == 0)
			return true;
		notes = str_slice(notes, end, notes.n);
	}
	return false;
}

static bool has_entry(struct str vmlinux)
{
	Elf64_Ehdr header;

	if (vmlinux.n < sizeof header)
		return false;
	memcpy(&header, vmlinux.p, sizeof header);
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof(Elf64_Phdr))
		return false;
	for (uint64_t i = 0; i < header.e_phnum; i++) {
		uint64_t at = header.e_phoff + i * sizeof(Elf64_Phdr);
		Elf64_Phdr part;

		if (header.e_phoff > vmlinux.n || at + sizeof part > vmlinux.n)
			return false;
		memcpy(&part, vmlinux.p + at, sizeof part);
		if (part.p_type == PT_NOTE && part.p_offset <= vmlinux.n &&
		    part.p_filesz <= vmlinux.n - part.p_offset &&
		    notes_have_entry(str_slice(vmlinux, part.p_offset, part.p_offset + part.p_filesz)))
			return true;
	}
	return false;
}

int kernel_unpack(struct str file, struct buf *ret, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	uint64_t at, n, size;

	if (!is_bzimage(file))
		return err_set(err, -EBADMSG, "not a Linux kernel for x86");
	at = (number(file, AT_SETUP_SECTORS, 1) + 1) * SECTOR + number(file, AT_PAYLOAD_OFFSET, 4);
	n = number(file, AT_PAYLOAD_LENGTH, 4);
	if (n < 4 || at + n > file.n)
		return err_set(err, -EBADMSG, "the kernel's file is cut off");
	size = number(file, at + n - 4, 4);
	if (size > VMLINUX_MAX)
		return err_set(err, -EBADMSG, "the kernel unpacks to more than %u bytes", VMLINUX_MAX);
	if (buf_reserve(&b, size) == NULL)
		return err_set(err, -ENOMEM, "no memory for the kernel");
	if (lz4_unpack(str_slice(file, at, at + n - 4), (uint8_t *)b.p, size) < 0)
		return err_set(err, -EBADMSG,
			       "the kernel is damaged, or compressed with something other than LZ4");
	b.n = size;
	if (!has_entry(buf_str(&b)))
		return err_set(err, -EBADMSG,
			       "the kernel was built without CONFIG_PVH: QEMU cannot enter it");
	*ret = b;
	b = (struct buf){0};
	return 0;
}
