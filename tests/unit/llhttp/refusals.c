/* refusals.c -- a check's refusal is found by its words, a scanner's by the byte at which it was seen and where that stood. */
#include "refusals.h"

#include <string.h>

enum row {
	BARE_LF,
	BARE_CR,
	FOLDED,
	SPACE_BEFORE_COLON,
	NAME,
	METHOD,
	TARGET_BYTE,
	NO_VERSION,
	SPACES,
	VERSION_TEXT,
	VERSION_NUMBER,
	STATUS,
	REASON_CONTROL,
	HEAD_SIZE,
	TARGET_SIZE,
	CHUNK_SIZE_BOUND,
	CHUNK_LINE_BOUND,
	CHUNK_EXTENSION_CONTROL,
	CHUNK_DATA_END,
	TRAILER,
	FIRST_OF_CHECKS
};

/* Refused by the library too: no row of the table, and a failure where it ever takes them. */
enum { NO_COLON = -2, CHUNK_SIZE_TEXT = -3, VALUE_CONTROL = -4 };

/* The rows of the checks follow the scanner's, in the order of `words`. */
const struct refusal refusals[] = {
	[BARE_LF] =
		{"LF without CR before it, in heads, chunk lines and trailers", "400, 502",
		 "RFC 9112, 2.2 lets a recipient take it; who does and who does not see different messages"},
	[BARE_CR] = {"CR without LF behind it", "400, 502", "RFC 9112, 2.2: invalid"},
	[FOLDED] = {"a field line that begins with a space or tab (folding)", "400, 502",
		    "RFC 9112, 5.2 and 2.2"},
	[SPACE_BEFORE_COLON] = {"a space or tab before a field's colon", "400, 502", "RFC 9112, 5.1"},
	[NAME] = {"an empty field name, or one with other than token characters", "400, 502",
		  "RFC 9110, 5.1 and 5.6.2"},
	[METHOD] = {"a method that is empty, longer than 32 characters or no token", "400", "RFC 9110, 9.1"},
	[TARGET_BYTE] = {"bytes other than visible ASCII in the request target", "400",
			 "RFC 9112, 3.2; RFC 3986, 2"},
	[NO_VERSION] = {"a request line without a version (HTTP/0.9)", "400", "RFC 9112, 3"},
	[SPACES] =
		{"more than one space, or a tab, between the parts of the first line, or anything behind it",
		 "400, 502",
		 "RFC 9112, 3 and 4: single spaces; a split of the line that is not exact moves the target"},
	[VERSION_TEXT] = {"a version that is not HTTP/ and two digits with a point", "400, 502",
			  "RFC 9112, 2.3"},
	[VERSION_NUMBER] = {"versions other than 1.0 and 1.1", "505, 502", "RFC 9110, 2.5; RFC 9112, 2.3"},
	[STATUS] = {"a status that is not three digits from 100 on", "502", "RFC 9112, 4; RFC 9110, 15"},
	[REASON_CONTROL] = {"control characters other than tab in the reason", "502", "RFC 9112, 4"},
	[HEAD_SIZE] = {"a head above 32 KiB or 100 fields", "431, 502", "RFC 9110, 2.3 and 5.4; RFC 6585, 5"},
	[TARGET_SIZE] = {"a request target above 8 KiB", "414", "RFC 9112, 3; RFC 9110, 4.1"},
	[CHUNK_SIZE_BOUND] = {"a chunk size of more than 15 digits, zeros before it counted", "400, 502",
			      "RFC 9112, 7.1: overflow must be prevented"},
	[CHUNK_LINE_BOUND] = {"chunk extensions above 4 KiB a line, trailers above 8 KiB", "400, 502",
			      "RFC 9112, 7.1.1"},
	[CHUNK_EXTENSION_CONTROL] = {"control characters in a chunk's extension", "400, 502",
				     "RFC 9112, 7.1.1; RFC 9110, 5.6.4"},
	[CHUNK_DATA_END] = {"chunk data that does not end with CRLF", "400, 502", "RFC 9112, 7.1"},
	[TRAILER] = {"trailers that are no field lines", "400, 502", "RFC 9112, 7.1.2"},
	{"Host given twice", "400", "RFC 9112, 3.2"},
	{"no Host on HTTP/1.1", "400", "RFC 9112, 3.2"},
	{"a Host that is no host and port", "400", "RFC 9112, 3.2"},
	{"Content-Length given twice, as a list, signed, empty or above 18 digits", "400",
	 "RFC 9110, 8.6: the same value twice may be taken; one reading is safer"},
	{"Content-Length beside Transfer-Encoding", "400", "RFC 9112, 6.3: may be refused, ought to be"},
	{"Transfer-Encoding on HTTP/1.0", "400", "RFC 9112, 6.1: its framing is to be taken as faulty"},
	{"a Transfer-Encoding other than chunked alone, or given twice", "501", "RFC 9112, 6.1 and 7"},
	{"Authorization given twice", "400", "RFC 9110, 5.3: not a list; two readers could take two tokens"},
	{"an Expect other than 100-continue", "417", "RFC 9110, 10.1.1"},
	{"Upgrade given twice", "400", "RFC 9110, 7.8: one protocol is passed on"},
	{"Connection that names more than 16 fields", "400",
	 "RFC 9110, 7.6.1: each must be dropped; the list is bounded"},
	{"CONNECT", "501", "RFC 9110, 9.3.6: a gateway is no tunnel to other hosts"},
	{"an absolute target whose host is not Host, or without a path", "400", "RFC 9112, 3.2.2"},
	{"a target that is no path (*, authority, other schemes), or with a fragment", "400",
	 "RFC 9112, 3.2"},
	{"from a sandbox: Content-Length given twice, as a list, signed or too long", "502", "RFC 9112, 6.3"},
	{"from a sandbox: Content-Length beside Transfer-Encoding", "502", "RFC 9112, 6.3"},
	{"from a sandbox: a Transfer-Encoding other than chunked alone", "502", "RFC 9112, 6.1"},
	{"from a sandbox: Transfer-Encoding on HTTP/1.0, 1xx or 204", "502", "RFC 9112, 6.1"},
	{"from a sandbox: Content-Length on 1xx", "502", "RFC 9110, 8.6"},
	{"from a sandbox: 101 that was not asked for, or without one Upgrade that Connection names", "502",
	 "RFC 9110, 7.8 and 15.2.2"},
	{"from a sandbox: 100 of HTTP/1.0", "502", "RFC 9110, 15.2"},
	{"from a sandbox: Connection that names more than 16 fields", "502", "RFC 9110, 7.6.1"},
};

static const char *const words[] = {
	"Host was given twice",
	"Host is required",
	"Host is malformed",
	"Content-Length is malformed",
	"Content-Length and Transfer-Encoding exclude each other",
	"Transfer-Encoding needs HTTP/1.1",
	"Transfer-Encoding: only chunked is supported",
	"Authorization was given twice",
	"Expect: only 100-continue is supported",
	"Upgrade was given twice",
	"Connection names too many fields",
	"CONNECT is not supported",
	"the request target and Host differ",
	"the request target must be a path",
	"malformed Content-Length",
	"Content-Length beside Transfer-Encoding",
	"a Transfer-Encoding other than chunked",
	"Transfer-Encoding where none may be",
	"Content-Length on an interim answer",
	"an upgrade that was not asked for",
	"an interim answer of HTTP/1.0",
	"Connection names too many fields",
};

const unsigned n_refusals = sizeof refusals / sizeof *refusals;

static int row_of_words(enum reading_kind kind, const char *why)
{
	const int n = sizeof words / sizeof *words;

	for (int i = kind == READING_REQUEST ? 0 : 14; i < n; i++)
		if (strcmp(words[i], why) == 0)
			return FIRST_OF_CHECKS + i;
	return -1;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static int row_in_first_line(enum reading_kind kind, struct str before, char byte)
{
	bool request = kind == READING_REQUEST;
	struct str part, rest = before;
	unsigned spaces = 0;

	while (str_cut(rest, ' ', &part, &rest))
		spaces++;
	if (request && spaces == 0)
		return METHOD;
	if (request && spaces == 1)
		return blank(byte) ? SPACES : byte == '\r' ? NO_VERSION : TARGET_BYTE;
	struct str version = request ? rest : str_slice(before, 0, before.n < 8 ? before.n : 8);
	if (version.n < 8) /* empty rest: blanks in place of the version */
		return blank(byte) && version.n == 0 ? SPACES : VERSION_TEXT;
	if (request || before.n == 8)
		return SPACES;
	return before.n < 13 ? STATUS : REASON_CONTROL;
}

static int row_in_field(struct str before, char byte)
{
	if (str_find(before, ':') < before.n)
		return VALUE_CONTROL;
	if (blank(byte))
		return before.n ? SPACE_BEFORE_COLON : FOLDED;
	return byte == '\r' ? NO_COLON : NAME;
}

static int row_in_body(struct str before, char byte, bool in_trailers)
{
	bool extension = str_find(before, ';') < before.n;

	if (in_trailers)
		return before.n > 4000 ? CHUNK_LINE_BOUND : TRAILER;
	if (extension)
		return before.n > 4000 ? CHUNK_LINE_BOUND : CHUNK_EXTENSION_CONTROL;
	if (before.n == 15 && byte != '\r' && byte != ';')
		return CHUNK_SIZE_BOUND;
	return CHUNK_SIZE_TEXT;
}

static int row_of_scanner(enum reading_kind kind, struct str bytes, const struct reading *ours)
{
	char byte = bytes.p[ours->at - 1], last = ours->at > 1 ? bytes.p[ours->at - 2] : 'x';
	size_t line = ours->at - 1, first = 0;

	if (byte == '\n' && last != '\r')
		return BARE_LF;
	if (last == '\r')
		return BARE_CR;
	while (line > 0 && bytes.p[line - 1] != '\n')
		line--;
	while (first + 1 < bytes.n && bytes.p[first] == '\r' && bytes.p[first + 1] == '\n')
		first += 2;
	struct str before = str_slice(bytes, line, ours->at - 1);
	if (ours->in_body)
		return row_in_body(before, byte, ours->in_trailers);
	return line <= first ? row_in_first_line(kind, before, byte) : row_in_field(before, byte);
}

int refusals_row(enum reading_kind kind, struct str bytes, const struct reading *ours)
{
	if (ours->why)
		return row_of_words(kind, ours->why);
	switch (ours->code) {
	case SCAN_TOO_LARGE:
		return HEAD_SIZE;
	case SCAN_LONG_TARGET:
		return TARGET_SIZE;
	case SCAN_VERSION:
		return VERSION_NUMBER;
	default:
		return ours->data_end ? CHUNK_DATA_END : row_of_scanner(kind, bytes, ours);
	}
}

void refusals_print(struct buf *to)
{
	buf_printf(to, "| refused | answer | why |\n|---|---|---|\n");
	for (unsigned i = 0; i < n_refusals; i++)
		buf_printf(to, "| %s | %s | %s |\n", refusals[i].what, refusals[i].answer, refusals[i].why);
}

const struct taken taken[TAKEN_ROWS] = {
	[TAKEN_METHOD] = {"methods that are not in llhttp's list",
			  "RFC 9110, 9.1: any token; the sandbox's server decides"},
	[TAKEN_TABS] = {"tabs around the values of Content-Length and Transfer-Encoding",
			"RFC 9110, 5.5: no part of the value; it is written anew"},
	[TAKEN_EXTENSION] = {"chunk extensions of any text without control characters",
			     "RFC 9112, 7.1.1: ignored; they are not passed on"},
	[TAKEN_TRAILER] = {"framing fields among the trailers",
			   "RFC 9110, 6.5.1: ignored; trailers are not passed on"},
};

/* In the blanks around it: behind the colon, and before the line's end. */
static bool tab_around(struct str value)
{
	for (const char *p = value.p - 1; blank(*p); p--)
		if (*p == '\t')
			return true;
	for (const char *p = value.p + value.n; blank(*p); p++)
		if (*p == '\t')
			return true;
	return false;
}

static bool tab_at_framing(const struct reading *ours)
{
	for (unsigned i = 0; i < ours->n_headers; i++) {
		struct str name = ours->headers[i].name;
		if ((str_eq_nocase(name, STR("Content-Length")) ||
		     str_eq_nocase(name, STR("Transfer-Encoding"))) &&
		    tab_around(ours->headers[i].value))
			return true;
	}
	return false;
}

int refusals_taken(struct str bytes, const struct reading *ours, const struct reading *theirs)
{
	size_t at = theirs->end < bytes.n ? theirs->end : bytes.n, line = at;
	const char *why = theirs->why ? theirs->why : "";
	bool framing = strstr(why, "Content-Length") || strstr(why, "Transfer-Encoding");

	while (line > 0 && bytes.p[line - 1] != '\n')
		line--;
	struct str before = str_slice(bytes, line, at);
	if (ours->in_trailers && framing)
		return TAKEN_TRAILER;
	if (ours->in_body && strstr(why, "chunk") && str_find(before, ';') < before.n)
		return TAKEN_EXTENSION;
	if ((framing || theirs->framing != ours->framing) && tab_at_framing(ours))
		return TAKEN_TABS;
	return -1;
}

void refusals_print_taken(struct buf *to)
{
	buf_printf(to, "| taken | why |\n|---|---|\n");
	for (unsigned i = 0; i < TAKEN_ROWS; i++)
		buf_printf(to, "| %s | %s |\n", taken[i].what, taken[i].why);
}
