/* log.h -- one line an event on stderr: time, level, program, message, then key=value pairs.
 * Control characters are escaped, so that nothing from outside can drive a terminal. Thread-safe.
 * Only programs and actors log, once, where the event is handled; libraries return errors. */
#ifndef CORE_LOG_H
#define CORE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* `program` must stay valid. Lines below `level` are dropped. */
void log_init(const char *program, enum log_level level);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Copies up to size - 1 bytes of the line's text, with control characters as \xNN. */
void log_escape(const char *from, unsigned long n, char *to, unsigned long size);

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#endif
