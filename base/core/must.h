/* must.h -- states that cannot be. Alive in release builds; does not depend on NDEBUG.
 * Wrong input is an error (err.h); must() is for what only a bug of ours can bring about. */
#ifndef CORE_MUST_H
#define CORE_MUST_H

_Noreturn void must_fail(const char *file, int line, const char *what);

#define must(cond) ((cond) ? (void)0 : must_fail(__FILE__, __LINE__, #cond))

#endif
