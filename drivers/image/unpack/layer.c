#include "image_unpack/layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/log.h"
#include "crypto/sha256.h"
#include "image_unpack/gunzip.h"

#define CHUNK_BYTES 131072
#define TAR_BLOCK   512

struct reading {
	int blobs;
	uint64_t at, left; /* of the packed layer */
	struct archive *packed, *tar;
	struct gunzip *gunzip; /* instead of `packed` */
	const char *why;       /* unpacking failed */
	struct sha256 *hash;   /* NULL: nothing to verify */
	uint64_t tar_bytes, tar_bytes_max;
	bool too_long;
	char in[CHUNK_BYTES], out[CHUNK_BYTES];
};

/* -- The two readers ---------------------------------------------------------------------------------------- */

static la_ssize_t read_blob(struct archive *a, void *context, const void **ret)
{
	struct reading *x = context;
	size_t want = x->left < sizeof x->in ? (size_t)x->left : sizeof x->in;
	ssize_t n = want == 0 ? 0 : pread(x->blobs, x->in, want, (off_t)x->at);

	if (n < 0 || (n == 0 && want > 0)) {
		archive_set_error(a, n < 0 ? errno : EIO, "the layer's file is too short");
		return -1;
	}
	x->at += (uint64_t)n;
	x->left -= (uint64_t)n;
	*ret = x->in;
	return n;
}

static ssize_t read_gzip(void *context, const void **ret)
{
	struct reading *x = context;

	return read_blob(x->packed, x, ret);
}

static bool is_gzip(const struct reading *x)
{
	unsigned char magic[2];

	return x->left >= 2 && pread(x->blobs, magic, 2, (off_t)x->at) == 2 && magic[0] == 0x1f &&
	       magic[1] == 0x8b;
}

/* Some builders (umoci insert) end a tar right behind the last file's bytes: the rest of that block is made up. */
static la_ssize_t pad(struct reading *x)
{
	la_ssize_t n = (la_ssize_t)(-x->tar_bytes & (TAR_BLOCK - 1));

	memset(x->out, 0, (size_t)n);
	x->tar_bytes += (uint64_t)n;
	return n;
}

static la_ssize_t read_unpacked(struct archive *a, void *context, const void **ret)
{
	struct reading *x = context;
	const char *why = NULL;
	la_ssize_t n = x->gunzip != NULL ? gunzip_read(x->gunzip, x->out, sizeof x->out, &why)
					 : archive_read_data(x->packed, x->out, sizeof x->out);

	if (n < 0) {
		if (x->gunzip == NULL)
			why = archive_error_string(x->packed);
		x->why = why == NULL ? "cannot unpack" : why;
		archive_set_error(a, EIO, "%s", x->why);
		return -1;
	}
	x->tar_bytes += (uint64_t)n;
	if (x->tar_bytes > x->tar_bytes_max) {
		x->too_long = true;
		archive_set_error(a, EFBIG, "too many bytes");
		return -1;
	}
	if (x->hash != NULL)
		sha256_add(x->hash, x->out, (size_t)n);
	*ret = x->out;
	return n > 0 ? n : pad(x);
}

/* libarchive's words for what we told it may be others; ours come first. */
static int broken(const struct reading *x, struct archive *a, struct err *err)
{
	const char *why = x->why != NULL ? x->why : archive_error_string(a);

	return err_set(err, -EBADMSG, "not a readable tar: %s", why == NULL ? "unknown error" : why);
}

static int open_packed(struct reading *x, struct err *err)
{
	struct archive_entry *entry;

	if (is_gzip(x)) {
		x->gunzip = gunzip_new(read_gzip, x);
		return x->gunzip == NULL ? err_set(err, -ENOMEM, "no memory for gzip") : 0;
	}
	archive_read_support_filter_zstd(x->packed);
	archive_read_support_format_raw(x->packed);
	archive_read_support_format_empty(x->packed);
	if (archive_read_open(x->packed, x, NULL, read_blob, NULL) != ARCHIVE_OK)
		return broken(x, x->packed, err);
	int r = archive_read_next_header(x->packed, &entry);

	if (r == ARCHIVE_EOF)
		return err_set(err, -EBADMSG, "the layer is empty");
	return r == ARCHIVE_OK ? 0 : broken(x, x->packed, err);
}

static int open_readers(struct reading *x, struct err *err)
{
	int r;

	x->packed = archive_read_new();
	x->tar = archive_read_new();
	if (x->packed == NULL || x->tar == NULL)
		return err_set(err, -ENOMEM, "no memory for an archive");
	r = open_packed(x, err);
	if (r < 0)
		return r;
	archive_read_support_format_tar(x->tar);
	if (archive_read_open(x->tar, x, NULL, read_unpacked, NULL) != ARCHIVE_OK)
		return broken(x, x->tar, err);
	return 0;
}

static void close_readers(struct reading *x)
{
	char hex[SHA256_HEX_SIZE];

	archive_read_free(x->tar);
	archive_read_free(x->packed);
	gunzip_free(x->gunzip);
	if (x->hash != NULL)
		sha256_end(x->hash, hex);
}

/* -- Entries ------------------------------------------------------------------------------------------------ */

static int copy_data(struct reading *x, int fd, uint64_t size, struct err *err)
{
	const void *p;
	size_t n;
	la_int64_t at;
	int r;

	while ((r = archive_read_data_block(x->tar, &p, &n, &at)) == ARCHIVE_OK) {
		if (at < 0 || (uint64_t)at > size || n > size - (uint64_t)at)
			return err_set(err, -EBADMSG, "has data behind its end");
		for (size_t done = 0; done < n;) {
			ssize_t wrote = pwrite(fd, (const char *)p + done, n - done, at + (la_int64_t)done);

			if (wrote < 0)
				return err_system(err, -errno, "write");
			done += (size_t)wrote;
		}
	}
	return r == ARCHIVE_EOF ? 0 : broken(x, x->tar, err);
}

static int unpack_file(struct reading *x, struct archive_entry *entry, struct tree *tree,
		       const struct names *names, const struct tree_owner *owner, struct layer_totals *totals,
		       struct err *err)
{
	CLEANUP_FD int fd = -1;
	la_int64_t size = archive_entry_size(entry);
	int r;

	if (size < 0 || (uint64_t)size > totals->bytes_max - totals->bytes)
		return err_set(err, -E2BIG, "the image's files have more than %llu bytes",
			       (unsigned long long)totals->bytes_max);
	totals->bytes += (uint64_t)size;
	r = tree_file(tree, names, &fd, err);
	if (r == 0)
		r = copy_data(x, fd, (uint64_t)size, err);
	/* A sparse file may end in a hole. */
	if (r == 0 && size > 0 && ftruncate(fd, size) < 0)
		r = err_system(err, -errno, "set its size");
	return r < 0 ? r : tree_finish(tree, fd, owner, err);
}

static int read_owner(struct archive_entry *entry, struct tree_owner *ret, struct err *err)
{
	la_int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);

	if (uid < 0 || uid > IMAGE_ID_MAX || gid < 0 || gid > IMAGE_ID_MAX)
		return err_set(err, -EBADMSG, "owner %lld:%lld is outside of 0 to %d", (long long)uid,
			       (long long)gid, IMAGE_ID_MAX);
	*ret = (struct tree_owner){.uid = (uint32_t)uid,
				   .gid = (uint32_t)gid,
				   .mode = archive_entry_perm(entry),
				   .modified = {archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)}};
	if (ret->modified.tv_nsec < 0 || ret->modified.tv_nsec > 999999999)
		ret->modified.tv_nsec = 0;
	return 0;
}

static int unpack_entry(struct reading *x, struct archive_entry *entry, struct tree *tree,
			const struct names *names, struct layer_totals *totals, struct err *err)
{
	const char *link = archive_entry_hardlink(entry), *symlink = archive_entry_symlink(entry);
	char target[NAMES_PATH_MAX + 2];
	struct tree_owner owner;
	int r;

	if (names->kind == NAMES_IGNORED)
		return 0;
	if (names->kind == NAMES_WHITEOUT)
		return tree_whiteout(tree, names, err);
	if (names->kind == NAMES_OPAQUE)
		return tree_opaque(tree, names, err);
	if (link != NULL) {
		r = names_link_target(link, target, err);
		return r < 0 ? r : tree_hardlink(tree, names, target, err);
	}
	r = read_owner(entry, &owner, err);
	if (r < 0)
		return r;
	switch (archive_entry_filetype(entry)) {
	case AE_IFDIR:
		return tree_directory(tree, names, &owner, err);
	case AE_IFREG:
		return unpack_file(x, entry, tree, names, &owner, totals, err);
	case AE_IFLNK:
		if (symlink == NULL || *symlink == '\0' || strlen(symlink) > NAMES_PATH_MAX)
			return err_set(err, -EBADMSG, "symbolic link without a target, or a too long one");
		return tree_symlink(tree, names, symlink, &owner, err);
	case AE_IFIFO:
		return tree_fifo(tree, names, &owner, err);
	default:
		totals->skipped++; /* devices and sockets: a sandbox gets a /dev of its own */
		return 0;
	}
}

static int next_entry(struct reading *x, struct tree *tree, struct layer_totals *totals, struct err *err)
{
	struct archive_entry *entry;
	struct names names;
	char shown[201];
	int r = archive_read_next_header(x->tar, &entry);

	if (r == ARCHIVE_EOF)
		return 1;
	if (r < ARCHIVE_WARN)
		return broken(x, x->tar, err);
	const char *path = archive_entry_pathname(entry);

	if (path == NULL)
		return err_set(err, -EBADMSG, "an entry's name cannot be read");
	if (++totals->entries > totals->entries_max)
		return err_set(err, -E2BIG, "the image has more than %llu entries",
			       (unsigned long long)totals->entries_max);
	r = names_parse(path, &names, err);
	if (r < 0)
		return r;
	r = names.depth > totals->depth_max
		    ? err_set(err, -E2BIG, "is deeper than %u directories", totals->depth_max)
		    : unpack_entry(x, entry, tree, &names, totals, err);
	if (r < 0) {
		log_escape(path, strnlen(path, 100), shown, sizeof shown);
		err_wrap(err, "entry '%s'", shown);
	}
	return r;
}

/* What lies behind the tar's end belongs to the hash, too. */
static int drain(struct reading *x, struct err *err)
{
	struct archive *a = x->packed;
	const void *p;
	la_ssize_t n;

	do {
		n = read_unpacked(a, x, &p);
	} while (n > 0);
	return n < 0 ? broken(x, a, err) : 0;
}

static int verify(struct reading *x, struct str diff_id, struct err *err)
{
	char hex[SHA256_HEX_SIZE];
	int r = drain(x, err);

	if (r < 0)
		return r;
	sha256_end(x->hash, hex);
	x->hash = NULL;
	if (str_eq(str_of(hex), diff_id))
		return 0;
	return err_set(err, -EBADMSG, "has digest sha256:%s, the configuration says sha256:%.*s", hex,
		       STR_ARGS(diff_id));
}

int layer_unpack(int blobs, const struct image_layer *layer, struct tree *tree, struct layer_totals *totals,
		 struct err *err)
{
	/* Headers, padding and pax records come on top of the files' own bytes. */
	static struct reading x;
	int r;

	x = (struct reading){.blobs = blobs,
			     .at = layer->offset,
			     .left = layer->bytes,
			     .hash = layer->diff_id.n > 0 ? sha256_new() : NULL,
			     .tar_bytes_max = totals->bytes_max - totals->bytes + 4096 * totals->entries_max};
	tree_next_layer(tree);
	r = open_readers(&x, err);
	while (r == 0)
		r = next_entry(&x, tree, totals, err);
	if (r > 0)
		r = layer->diff_id.n > 0 ? verify(&x, layer->diff_id, err) : 0;
	if (r < 0 && x.too_long)
		r = err_set(err, -E2BIG, "the layer unpacks to more than the image may have");
	close_readers(&x);
	return r;
}
