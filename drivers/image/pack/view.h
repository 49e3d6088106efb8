/* view.h -- what the maker of a disk sees of the machine: /usr, the image at /image, its file at /disk, nothing else. */
#ifndef IMAGE_PACK_VIEW_H
#define IMAGE_PACK_VIEW_H

#include "core/err.h"

/* Of this process, which is root. Read-only but for the file. */
int view_enter(int image_fd, int disk_fd, struct err *err);

#endif
