/* str.h -- a borrowed run of bytes: pointer and length, not terminated, never owned.
 * Whoever hands one out says how long it lives. */
#ifndef CORE_STR_H
#define CORE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
	const char *p;
	size_t n;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_NONE     ((struct str){NULL, 0})
/* For printf's "%.*s". */
#define STR_ARGS(s) (int)(s).n, (s).p ? (s).p : ""

struct str str_of(const char *terminated); /* NULL gives STR_NONE */
struct str str_slice(struct str s, size_t from, size_t to);
bool str_eq(struct str a, struct str b);
bool str_eq_nocase(struct str a, struct str b); /* ASCII only */
int str_cmp(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
/* Index of the first `c`, or s.n. */
size_t str_find(struct str s, char c);
/* Cuts `s` at the first `c`: *ret_head before it, *ret_tail behind it. False if there is none; then head is all. */
bool str_cut(struct str s, char c, struct str *ret_head, struct str *ret_tail);
/* Decimal digits only, no sign, no spaces. -EINVAL, or -ERANGE above `max`. */
int str_u64(struct str s, uint64_t max, uint64_t *ret);
/* Bytes, as a whole number or with Ki, Mi or Gi behind it ("512Mi"). -EINVAL, also above 64 bits. */
int str_size(struct str s, uint64_t *ret);
/* "90s", "15m", "36h", "7d", in milliseconds. */
int str_duration(struct str s, uint64_t *ret_ms);
/* Without spaces, tabs and carriage returns at its ends. */
struct str str_trim(struct str s);
/* A terminated copy; -ENAMETOOLONG if it does not fit, -EINVAL if it holds a NUL. */
int str_copy(struct str s, char *buffer, size_t size);
/* SipHash-2-4 under a key drawn once for the process: for hash maps that strangers fill. */
uint64_t str_hash(struct str s);
/* FNV-1a: the same everywhere and always, for replicated state. Not for maps that strangers fill. */
uint64_t str_hash_stable(struct str s, uint64_t seed);

#endif
