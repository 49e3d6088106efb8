#include "json/build.h"

#include "core/clock.h"
#include "core/must.h"

static json_t *made(json_t *value)
{
	must(value != NULL);
	return value;
}

json_t *json_new_object(void)
{
	return made(json_object());
}

json_t *json_new_array(void)
{
	return made(json_array());
}

/* Length of the UTF-8 sequence at p (RFC 3629), or 0 when it is none. */
static size_t sequence(const unsigned char *p, size_t n)
{
	size_t length = p[0] < 0x80                    ? 1
			: p[0] >= 0xc2 && p[0] <= 0xdf ? 2
			: p[0] >= 0xe0 && p[0] <= 0xef ? 3
			: p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
						       : 0;

	if (length == 0 || length > n)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return length;
}

json_t *json_new_str(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	CLEANUP_BUF struct buf clean = {0};
	size_t i = 0;

	while (i < s.n) {
		size_t n = sequence(p + i, s.n - i);

		if (n == 0)
			buf_add(&clean, "\xef\xbf\xbd", 3);
		else
			buf_add(&clean, p + i, n);
		i += n == 0 ? 1 : n;
	}
	must(!buf_failed(&clean));
	return made(json_stringn(clean.p == NULL ? "" : clean.p, clean.n));
}

void json_put(json_t *object, const char *key, json_t *value)
{
	must(json_object_set_new(object, key, made(value)) == 0);
}

void json_put_str(json_t *object, const char *key, struct str s)
{
	json_put(object, key, json_new_str(s));
}

void json_put_cstr(json_t *object, const char *key, const char *terminated)
{
	json_put(object, key, terminated == NULL ? json_null() : json_new_str(str_of(terminated)));
}

void json_put_u64(json_t *object, const char *key, uint64_t x)
{
	must(x <= INT64_MAX);
	json_put(object, key, json_integer((json_int_t)x));
}

void json_put_i64(json_t *object, const char *key, int64_t x)
{
	json_put(object, key, json_integer(x));
}

void json_put_real(json_t *object, const char *key, double x)
{
	json_put(object, key, json_real(x));
}

void json_put_bool(json_t *object, const char *key, bool x)
{
	json_put(object, key, json_boolean(x));
}

void json_put_null(json_t *object, const char *key)
{
	json_put(object, key, json_null());
}

void json_put_time(json_t *object, const char *key, uint64_t wall_ms)
{
	char text[CLOCK_TEXT_SIZE];

	json_put_cstr(object, key, clock_text(wall_ms, text));
}

json_t *json_put_object(json_t *object, const char *key)
{
	json_t *value = json_new_object();

	json_put(object, key, value);
	return value;
}

json_t *json_put_array(json_t *object, const char *key)
{
	json_t *value = json_new_array();

	json_put(object, key, value);
	return value;
}

void json_push(json_t *array, json_t *value)
{
	must(json_array_append_new(array, made(value)) == 0);
}

void json_push_str(json_t *array, struct str s)
{
	json_push(array, json_new_str(s));
}

json_t *json_push_object(json_t *array)
{
	json_t *value = json_new_object();

	json_push(array, value);
	return value;
}

static int append(const char *p, size_t n, void *to)
{
	buf_add(to, p, n);
	return buf_failed(to) ? -1 : 0;
}

void json_print(struct buf *to, const json_t *value, bool indented)
{
	json_dump_callback(value, append, to, JSON_ENCODE_ANY | (indented ? JSON_INDENT(2) : JSON_COMPACT));
}
