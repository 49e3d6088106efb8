/* tree.h -- rows in the order of their keys: a B+ tree whose nodes are the chunks that snapshots share.
 *
 * A node with more than one holder is copied before it is written, on the way down from the root, so tree_share() costs
 * one count and later writes cost one copy of a path. Keys are borrowed from the smallest row below.
 * Owns: one hold of each row in it. Thread: writes on one; a shared tree may be read and dropped on another.
 * Without memory the program ends (must). */
#ifndef STATE_TREE_H
#define STATE_TREE_H

#include "state/row.h"

struct tree_key {
	uint64_t a, b;
	struct str s;
};

struct tree_node;

/* Zero-initialised is empty, but for the function. */
struct tree {
	struct tree_node *root;
	uint64_t n;
	struct tree_key (*key)(const void *value); /* of a row's struct */
};

int tree_key_cmp(struct tree_key x, struct tree_key y);
struct row *tree_find(const struct tree *t, struct tree_key key);
/* The first row with a key >= (or, with `above`, >) the given one; NULL at the end. */
struct row *tree_seek(const struct tree *t, struct tree_key key, bool above);
struct row *tree_first(const struct tree *t);
/* Takes its own hold. An equal key is replaced. */
void tree_put(struct tree *t, struct row *row);
/* Must be there. */
void tree_remove(struct tree *t, struct tree_key key);
/* The same rows as now, whatever is written to *t later. */
struct tree tree_share(const struct tree *t);
void tree_done(struct tree *t);
/* Each row in order, until visit() answers other than 0; that is the result. */
int tree_walk(const struct tree *t, int (*visit)(void *to, const struct row *row), void *to);

#endif
