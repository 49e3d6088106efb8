/* An entry is a header of hexadecimal numbers, the name with its NUL, and the contents, each filled up to four bytes
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Times, inode numbers and owners are 0. */
#include "libvirt_boot/initrd.h"

#include <string.h>
#include <sys/stat.h>

static void fill(struct buf *b)
{
	buf_add(b, "\0\0\0", (4 - b->n % 4) % 4);
}

static void entry(struct buf *b, const char *path, uint32_t mode, struct str contents, unsigned major,
		  unsigned minor)
{
	unsigned name = (unsigned)strlen(path) + 1, size = (unsigned)contents.n;

	/* inode, mode, user, group, links, time, size, device, device, its numbers, name's size, checksum */
	buf_printf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 0u, mode, 0u, 0u, 1u, 0u,
		   size, 0u, 0u, major, minor, name, 0u);
	buf_add(b, path, name);
	fill(b);
	buf_add_str(b, contents);
	fill(b);
}

void initrd_directory(struct buf *b, const char *path, uint32_t mode)
{
	entry(b, path, S_IFDIR | mode, STR_NONE, 0, 0);
}

void initrd_file(struct buf *b, const char *path, uint32_t mode, struct str contents)
{
	entry(b, path, S_IFREG | mode, contents, 0, 0);
}

void initrd_device(struct buf *b, const char *path, uint32_t mode, unsigned major, unsigned minor)
{
	entry(b, path, S_IFCHR | mode, STR_NONE, major, minor);
}

void initrd_end(struct buf *b)
{
	entry(b, "TRAILER!!!", 0, STR_NONE, 0, 0);
}
