/* initramfs.h -- what berth-guest, the program /init of a guest's initramfs, finds there.
 *
 *   /init        berth-guest
 *   /m/list      names of files in /m, one a line, in the order in which they are loaded
 *   /m/NAME.ko   modules: virtio_mmio (and what it needs), virtio_blk, virtio_net, virtio_console, erofs, overlay
 *
 * The kernel brings devtmpfs, proc, sysfs, tmpfs and cgroup2. The image is the first virtio disk, /dev/vda, an erofs. */
#ifndef LIBVIRT_GUEST_INITRAMFS_H
#define LIBVIRT_GUEST_INITRAMFS_H

#define INITRAMFS_MODULES     "/m"
#define INITRAMFS_MODULE_LIST "/m/list"
#define INITRAMFS_DISK        "/dev/vda"

#endif
