#include "tree.h"

#include <stdlib.h>
#include <string.h>

#include "core/must.h"

#define FANOUT 32

struct tree_node {
	_Atomic uint32_t holders;
	uint16_t n;
	bool leaf;
	struct tree_key keys[FANOUT]; /* of the smallest row below each */
	union {
		struct tree_node *below[FANOUT];
		struct row *rows[FANOUT];
	};
};

int tree_key_cmp(struct tree_key x, struct tree_key y)
{
	if (x.a != y.a)
		return x.a < y.a ? -1 : 1;
	if (x.b != y.b)
		return x.b < y.b ? -1 : 1;
	return str_cmp(x.s, y.s);
}

static struct tree_node *node_new(bool leaf)
{
	struct tree_node *node = calloc(1, sizeof *node);

	must(node != NULL);
	atomic_init(&node->holders, 1);
	node->leaf = leaf;
	return node;
}

static void node_drop(struct tree_node *node)
{
	if (atomic_fetch_sub_explicit(&node->holders, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < node->n; i++) {
		if (node->leaf)
			row_drop(node->rows[i]);
		else
			node_drop(node->below[i]);
	}
	free(node);
}

/* The node, or a copy in its place when others hold it too. */
static struct tree_node *node_own(struct tree_node **at)
{
	struct tree_node *old = *at;

	if (atomic_load_explicit(&old->holders, memory_order_acquire) == 1)
		return old;
	struct tree_node *copy = node_new(old->leaf);

	copy->n = old->n;
	memcpy(copy->keys, old->keys, sizeof copy->keys);
	memcpy(copy->below, old->below, sizeof copy->below);
	for (unsigned i = 0; i < copy->n; i++) {
		if (copy->leaf)
			row_hold(copy->rows[i]);
		else
			atomic_fetch_add_explicit(&copy->below[i]->holders, 1, memory_order_relaxed);
	}
	node_drop(old);
	*at = copy;
	return copy;
}

/* How many keys are <= key. */
static unsigned position(const struct tree_node *node, struct tree_key key)
{
	unsigned low = 0, high = node->n;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (tree_key_cmp(node->keys[middle], key) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct row *tree_find(const struct tree *t, struct tree_key key)
{
	const struct tree_node *node = t->root;

	while (node != NULL) {
		unsigned i = position(node, key);

		if (i == 0)
			return NULL;
		if (node->leaf)
			return tree_key_cmp(node->keys[i - 1], key) == 0 ? node->rows[i - 1] : NULL;
		node = node->below[i - 1];
	}
	return NULL;
}

static struct row *node_first(const struct tree_node *node)
{
	while (node != NULL && !node->leaf)
		node = node->below[0];
	return node == NULL ? NULL : node->rows[0];
}

struct row *tree_first(const struct tree *t)
{
	return node_first(t->root);
}

struct row *tree_seek(const struct tree *t, struct tree_key key, bool above)
{
	const struct tree_node *node = t->root,
			       *right = NULL; /* right: the nearest subtree behind the path */
	while (node != NULL) {
		unsigned i = position(node, key);

		if (node->leaf) {
			if (i > 0 && !above && tree_key_cmp(node->keys[i - 1], key) == 0)
				return node->rows[i - 1];
			return i < node->n ? node->rows[i] : node_first(right);
		}
		i = i == 0 ? 0 : i - 1;
		if (i + 1u < node->n)
			right = node->below[i + 1];
		node = node->below[i];
	}
	return NULL;
}

static void node_insert(struct tree_node *node, unsigned at, struct tree_key key, void *item)
{
	size_t behind = node->n - at;

	memmove(&node->keys[at + 1], &node->keys[at], behind * sizeof node->keys[0]);
	memmove(&node->below[at + 1], &node->below[at], behind * sizeof node->below[0]);
	node->keys[at] = key;
	if (node->leaf)
		node->rows[at] = item;
	else
		node->below[at] = item;
	node->n++;
}

static void node_take(struct tree_node *node, unsigned at)
{
	size_t behind = node->n - at - 1u;

	memmove(&node->keys[at], &node->keys[at + 1], behind * sizeof node->keys[0]);
	memmove(&node->below[at], &node->below[at + 1], behind * sizeof node->below[0]);
	node->n--;
}

/* Moves the upper part of a full node into a new one. Appending in order leaves full nodes behind. */
static struct tree_node *node_split(struct tree_node *node, unsigned at)
{
	struct tree_node *upper = node_new(node->leaf);
	unsigned keep = at == node->n ? node->n - 1u : node->n / 2u;

	upper->n = (uint16_t)(node->n - keep);
	memcpy(upper->keys, &node->keys[keep], upper->n * sizeof upper->keys[0]);
	memcpy(upper->below, &node->below[keep], upper->n * sizeof upper->below[0]);
	node->n = (uint16_t)keep;
	return upper;
}

/* Returns the new right neighbour when the node had to be split, else NULL. *ret_added: the key was not there. */
static struct tree_node *put_below(struct tree_node **at, struct tree_key key, struct row *row,
				   bool *ret_added)
{
	struct tree_node *node = node_own(at), *upper = NULL, *target = node;
	unsigned i = position(node, key);
	void *item = row;

	if (node->leaf && i > 0 && tree_key_cmp(node->keys[i - 1], key) == 0) {
		row_drop(node->rows[i - 1]);
		node->rows[i - 1] = row;
		node->keys[i - 1] = key;
		*ret_added = false;
		return NULL;
	}
	if (!node->leaf) {
		unsigned child = i == 0 ? 0 : i - 1;
		struct tree_node *split = put_below(&node->below[child], key, row, ret_added);

		node->keys[child] = node->below[child]->keys[0];
		if (split == NULL)
			return NULL;
		item = split;
		key = split->keys[0];
		i = child + 1;
	} else {
		*ret_added = true;
	}
	if (node->n == FANOUT) {
		upper = node_split(node, i);
		if (i > node->n) {
			i -= node->n;
			target = upper;
		}
	}
	node_insert(target, i, key, item);
	return upper;
}

void tree_put(struct tree *t, struct row *row)
{
	struct tree_node *upper, *root;
	bool added = true;

	row_hold(row);
	if (t->root == NULL)
		t->root = node_new(true);
	upper = put_below(&t->root, t->key(row->value), row, &added);
	if (upper != NULL) {
		root = node_new(false);
		node_insert(root, 0, t->root->keys[0], t->root);
		node_insert(root, 1, upper->keys[0], upper);
		t->root = root;
	}
	t->n += added;
}

/* Joins a child that became small with its right neighbour, when both fit well into one. */
static void join(struct tree_node *node, unsigned left)
{
	if (left + 1u >= node->n || node->below[left]->n + node->below[left + 1]->n > FANOUT * 3 / 4)
		return;
	struct tree_node *to = node_own(&node->below[left]), *from = node_own(&node->below[left + 1]);

	memcpy(&to->keys[to->n], from->keys, from->n * sizeof to->keys[0]);
	memcpy(&to->below[to->n], from->below, from->n * sizeof to->below[0]);
	to->n = (uint16_t)(to->n + from->n);
	from->n = 0;
	node_drop(from);
	node_take(node, left + 1);
}

static void remove_below(struct tree_node **at, struct tree_key key)
{
	struct tree_node *node = node_own(at);
	unsigned i = position(node, key);

	must(i > 0);
	i--;
	if (node->leaf) {
		must(tree_key_cmp(node->keys[i], key) == 0);
		row_drop(node->rows[i]);
		node_take(node, i);
		return;
	}
	remove_below(&node->below[i], key);
	if (node->below[i]->n == 0) {
		node_drop(node->below[i]);
		node_take(node, i);
		return;
	}
	node->keys[i] = node->below[i]->keys[0];
	if (node->below[i]->n < FANOUT / 4) {
		join(node, i);
		if (i > 0)
			join(node, i - 1);
	}
}

void tree_remove(struct tree *t, struct tree_key key)
{
	must(t->root != NULL);
	remove_below(&t->root, key);
	t->n--;
	while (t->root != NULL && (t->root->n == 0 || (!t->root->leaf && t->root->n == 1))) {
		struct tree_node *old = t->root;

		t->root = old->n == 0 ? NULL : old->below[0];
		old->n = 0;
		node_drop(old);
	}
}

struct tree tree_share(const struct tree *t)
{
	if (t->root != NULL)
		atomic_fetch_add_explicit(&t->root->holders, 1, memory_order_relaxed);
	return *t;
}

void tree_done(struct tree *t)
{
	if (t->root != NULL)
		node_drop(t->root);
	t->root = NULL;
	t->n = 0;
}

static int node_walk(const struct tree_node *node, int (*visit)(void *to, const struct row *row), void *to)
{
	int r = 0;

	for (unsigned i = 0; i < node->n && r == 0; i++)
		r = node->leaf ? visit(to, node->rows[i]) : node_walk(node->below[i], visit, to);
	return r;
}

int tree_walk(const struct tree *t, int (*visit)(void *to, const struct row *row), void *to)
{
	return t->root == NULL ? 0 : node_walk(t->root, visit, to);
}
