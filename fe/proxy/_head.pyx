"""Heads of requests and responses: delimited, checked and framed once.

Owns: where a head ends and whether it is too large; every rule about a message's head, with the status and the text of
each refusal; how a body is framed; what a field means for this hop. Never: sockets, bodies (`_chunked.pyx`), routing
(`_router.pyx`), what is sent on (`_build.pyx`). Two readers have to agree before a head passes: the one here, which
splits it, and httptools, which is fed exactly the head, once, and is never fed a body: see `_second_opinion`.
Read `_head.pxd` first: it says what the results mean.
"""

cimport cython
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset

import httptools

cdef extern from "proxy/_text.h" nogil:
    const unsigned char fe_token[256]
    bint fe_text_ok(const char* at, Py_ssize_t n)
    bint fe_target_ok(const char* at, Py_ssize_t n)
    bint fe_equals(const char* at, Py_ssize_t n, const char* lower, Py_ssize_t m)
    bint fe_same_name(const char* a, const char* b, Py_ssize_t n)
    bint fe_digit(char c)
    Py_ssize_t fe_host_length(const char* at, Py_ssize_t n)

cdef enum:
    MOST_EMPTY_LINES = 4     # before a request line; RFC 9112 2.2 asks for at least one
    LINE_SLACK = 64          # of a request line beside its target: method, version, blanks
    LONGEST_KNOWN_NAME = 30
    MOST_LISTED = 64         # elements of Connection; each is compared with every field
    LONGEST_CLIENT_ID = 40
    MOST_FIELDS = 65535      # what Fields.last can number, whatever the configured limit
    BAD_LENGTH = -2


# --- Where a head ends -----------------------------------------------------------------------------------------------


cdef Py_ssize_t find_head_end(HeadScan* scan, const char* data, Py_ssize_t n, const HeadLimits* limits,
                              bint response) noexcept nogil:
    cdef const char* found
    cdef Py_ssize_t feed, start
    while True:
        found = <const char*>memchr(data + scan.scanned, c'\n', n - scan.scanned)
        if found is NULL:
            scan.scanned = n
            return _check_open_line(scan, data, n, limits, response)
        feed = found - data
        start = scan.line
        if feed == start or data[feed - 1] != c'\r':
            return -400
        scan.scanned = scan.line = feed + 1
        if scan.first == 0:
            if feed - start > 1:
                if feed - start > limits.target_bytes + LINE_SLACK:
                    return -414
                scan.first = scan.line
            elif response or scan.line > 2 * MOST_EMPTY_LINES:
                return -400
            else:
                scan.skipped = scan.line
            continue
        if scan.line - scan.first > limits.header_bytes:
            return -431
        if feed - start == 1:
            return scan.line
        scan.lines += 1
        if scan.lines > limits.header_fields:
            return -431


cdef Py_ssize_t _check_open_line(HeadScan* scan, const char* data, Py_ssize_t n, const HeadLimits* limits,
                                 bint response) noexcept nogil:
    """Limits that bind before a line has ended: a head that never ends must not be collected."""
    if scan.first:
        return -431 if n - scan.first > limits.header_bytes else 0
    if n > scan.line and not fe_token[<unsigned char>data[scan.line]] and data[scan.line] != c'\r':
        return -400  # most often a TLS handshake: no use in waiting for more
    if n - scan.line > limits.target_bytes + LINE_SLACK:
        if response or memchr(data + scan.line, c' ', LINE_SLACK) is NULL:
            return -400
        return -414
    return 0


cdef str head_problem(Py_ssize_t status):
    if status == -414:
        return "The request target is too long."
    if status == -431:
        return "The header fields are too large or too many."
    return "The head of the message is malformed."


# --- Field lines -----------------------------------------------------------------------------------------------------


cdef int _kind_of(const char* name, Py_ssize_t n) noexcept nogil:
    """The kind of a field, by its name in lower case."""
    cdef char first = name[0]
    if n == 4:
        if memcmp(name, b"host", 4) == 0:
            return KIND_HOST
        return KIND_DATE if memcmp(name, b"date", 4) == 0 else KIND_PLAIN
    if n == 6:
        if memcmp(name, b"accept", 6) == 0:
            return KIND_ACCEPT
        return KIND_EXPECT if memcmp(name, b"expect", 6) == 0 else KIND_PLAIN
    if first == c'c':
        if n == 10 and memcmp(name, b"connection", 10) == 0:
            return KIND_CONNECTION
        return KIND_LENGTH if n == 14 and memcmp(name, b"content-length", 14) == 0 else KIND_PLAIN
    if first == c'a':
        if n == 13 and memcmp(name, b"authorization", 13) == 0:
            return KIND_AUTHORIZATION
        return KIND_PINNED if n == 24 and memcmp(name, b"azureml-model-deployment", 24) == 0 else KIND_PLAIN
    if first == c'u':
        if n == 10 and memcmp(name, b"user-agent", 10) == 0:
            return KIND_AGENT
        return KIND_UPGRADE if n == 7 and memcmp(name, b"upgrade", 7) == 0 else KIND_PLAIN
    if first == c'x':
        return _kind_of_extension(name, n)
    return _kind_of_rare(name, n)


cdef int _kind_of_extension(const char* name, Py_ssize_t n) noexcept nogil:
    """Names that start with x."""
    if n > 12 and memcmp(name, b"x-forwarded-", 12) == 0:
        if n == 15 and memcmp(name + 12, b"for", 3) == 0:
            return KIND_FOR
        if n == 17 and memcmp(name + 12, b"proto", 5) == 0:
            return KIND_PROTO
        if n == 16 and memcmp(name + 12, b"host", 4) == 0:
            return KIND_FORWARDED_HOST
        return KIND_FORWARDED_OTHER
    if n == 12 and memcmp(name, b"x-request-id", 12) == 0:
        return KIND_REQUEST_ID
    if n == 22 and memcmp(name, b"x-ms-client-request-id", 22) == 0:
        return KIND_CLIENT_ID
    return KIND_REAL_IP if n == 9 and memcmp(name, b"x-real-ip", 9) == 0 else KIND_PLAIN


cdef int _kind_of_rare(const char* name, Py_ssize_t n) noexcept nogil:
    """The hop-by-hop fields, and names that stand in few messages."""
    if n == 17:
        if memcmp(name, b"transfer-encoding", 17) == 0:
            return KIND_CODING
        return KIND_WS_KEY if memcmp(name, b"sec-websocket-key", 17) == 0 else KIND_PLAIN
    if n == 9 and memcmp(name, b"forwarded", 9) == 0:
        return KIND_FORWARDED
    if n == 21 and memcmp(name, b"sec-websocket-version", 21) == 0:
        return KIND_WS_VERSION
    if (
        (n == 10 and memcmp(name, b"keep-alive", 10) == 0)
        or (n == 2 and memcmp(name, b"te", 2) == 0)
        or (n == 7 and memcmp(name, b"trailer", 7) == 0)
        or (n == 14 and memcmp(name, b"http2-settings", 14) == 0)
        or (n == 16 and memcmp(name, b"proxy-connection", 16) == 0)
        or (n >= 10 and memcmp(name, b"proxy-auth", 10) == 0)
    ):
        return KIND_HOP
    return KIND_PLAIN


cdef bint _split_line(Field* field, const char* base, Py_ssize_t start, Py_ssize_t end,
                      bint* underscore) noexcept nogil:
    """One field line without its CRLF. False: not `name: value` (blanks before the colon and folding included)."""
    cdef char lower[LONGEST_KNOWN_NAME + 1]
    cdef Py_ssize_t at = start
    cdef unsigned char c
    underscore[0] = False
    while at < end:
        c = fe_token[<unsigned char>base[at]]
        if c == 0:
            break
        if at - start <= LONGEST_KNOWN_NAME:
            lower[at - start] = c
        underscore[0] |= c == c'_'
        at += 1
    if at == start or at == end or base[at] != c':':
        return False
    field.name = start
    field.name_length = at - start
    # Of a longer name only the beginning is known: enough for what is told by it, and too long to be any other.
    field.kind = _kind_of(lower, min(at - start, LONGEST_KNOWN_NAME + 1))
    field.dropped = False
    at += 1
    while at < end and (base[at] == c' ' or base[at] == c'\t'):
        at += 1
    while end > at and (base[end - 1] == c' ' or base[end - 1] == c'\t'):
        end -= 1
    field.value = at
    field.value_length = end - at
    return fe_text_ok(base + at, end - at)


cdef bint _grow(Fields* fields) noexcept nogil:
    cdef Py_ssize_t room = fields.room * 4
    cdef Field* list = <Field*>malloc(room * sizeof(Field))
    if list is NULL:
        return False
    memcpy(list, fields.list, fields.count * sizeof(Field))
    if fields.list != &fields.own[0]:
        free(fields.list)
    fields.list = list
    fields.room = room
    return True


cdef int _split_fields(Fields* fields, const char* base, Py_ssize_t at, Py_ssize_t n, Py_ssize_t most,
                       bint request) noexcept nogil:
    """All field lines from `at` to the empty line, which has to be the last two of the n bytes. 0 or a status."""
    cdef Field* field
    cdef const char* found
    cdef Py_ssize_t feed
    cdef bint underscore
    while True:
        found = <const char*>memchr(base + at, c'\n', n - at)
        if found is NULL:
            return 400
        feed = found - base
        if feed == at or base[feed - 1] != c'\r':
            return 400
        if feed - at == 1:
            return 0 if feed + 1 == n else 400
        if fields.count >= most or fields.count == MOST_FIELDS:
            return 431
        if fields.count == fields.room and not _grow(fields):
            return 500
        field = fields.list + fields.count
        if not _split_line(field, base, at, feed - 1, &underscore):
            return 400
        # A server in the manner of CGI reads `_` as `-`: content_length would be a second Content-Length there.
        field.dropped = underscore and request
        fields.seen[field.kind] += 1  # no known name has a `_`
        fields.last[field.kind] = fields.count
        fields.count += 1
        at = feed + 1


cdef inline Field* _last_of(Fields* fields, int kind) noexcept nogil:
    return fields.list + fields.last[kind]


cdef inline Span _value_of(Fields* fields, int kind) noexcept nogil:
    """The value of the last field of a kind; empty when there is none."""
    cdef Span span
    span.at = span.length = 0
    if fields.seen[kind]:
        span.at = _last_of(fields, kind).value
        span.length = _last_of(fields, kind).value_length
    return span


cdef bint _next_element(const char* base, Py_ssize_t* at, Py_ssize_t end, Py_ssize_t* start,
                        Py_ssize_t* length) noexcept nogil:
    """The next element of a comma-separated list, without blanks; empty elements are passed over. False: no more."""
    cdef Py_ssize_t stop
    while at[0] < end and (base[at[0]] == c',' or base[at[0]] == c' ' or base[at[0]] == c'\t'):
        at[0] += 1
    if at[0] >= end:
        return False
    start[0] = stop = at[0]
    while at[0] < end and base[at[0]] != c',':
        if base[at[0]] != c' ' and base[at[0]] != c'\t':
            stop = at[0] + 1
        at[0] += 1
    length[0] = stop - start[0]
    return True


cdef bint _is_token(const char* at, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if not fe_token[<unsigned char>at[i]]:
            return False
    return n > 0


cdef struct ConnectionSaid:
    bint close
    bint upgrade
    bint bad


cdef void _read_connection(Fields* fields, const char* base, ConnectionSaid* said) noexcept nogil:
    """What Connection says, over all its lines; marks the fields that it lists as dropped."""
    cdef Py_ssize_t i, at, end, start = 0, length = 0, elements = 0
    said.close = said.upgrade = said.bad = False
    for i in range(fields.count):
        if fields.list[i].kind != KIND_CONNECTION:
            continue
        at = fields.list[i].value
        end = at + fields.list[i].value_length
        while _next_element(base, &at, end, &start, &length):
            elements += 1
            if elements > MOST_LISTED or not _is_token(base + start, length):
                said.bad = True
                return
            if fe_equals(base + start, length, b"close", 5):
                said.close = True
            elif fe_equals(base + start, length, b"upgrade", 7):
                said.upgrade = True
            elif not fe_equals(base + start, length, b"keep-alive", 10):
                _drop_listed(fields, base, start, length)


cdef void _drop_listed(Fields* fields, const char* base, Py_ssize_t start, Py_ssize_t length) noexcept nogil:
    """A field named in Connection is for this hop; what decides framing, identity or routing cannot be taken out so."""
    cdef Py_ssize_t i
    cdef Field* field
    for i in range(fields.count):
        field = fields.list + i
        if field.name_length == length and field.kind < KIND_PINNED \
                and fe_same_name(base + field.name, base + start, length):
            field.dropped = True


cdef int64_t _read_length(const char* at, Py_ssize_t n) noexcept nogil:
    """Content-Length: canonical decimal digits, so that no other reader can see another number."""
    cdef int64_t value = 0
    cdef Py_ssize_t i
    if n == 0 or n > 18 or (n > 1 and at[0] == c'0'):
        return BAD_LENGTH
    for i in range(n):
        if not fe_digit(at[i]):
            return BAD_LENGTH
        value = value * 10 + (at[i] - c'0')
    return value


@cython.final
@cython.internal
cdef class _HeadsSeen:
    """The protocol that httptools calls: counts complete heads and asks for nothing else, which keeps it quick."""
    cdef int count

    def on_headers_complete(self):
        self.count += 1


cdef _HeadsSeen _heads_seen = _HeadsSeen()
cdef object _RequestParser = httptools.HttpRequestParser
cdef object _ResponseParser = httptools.HttpResponseParser
cdef object _ParserError = httptools.HttpParserError
cdef object _ParserUpgrade = httptools.HttpParserUpgrade


cdef bint _second_opinion(object parser, bytes raw) except -1:
    """Whether httptools reads exactly one head in these bytes.

    A new parser for each message, fed once: after HttpParserUpgrade, or with a body in its sight, one that is fed on
    would see requests where there are none.
    """
    _heads_seen.count = 0
    try:
        parser(_heads_seen).feed_data(raw)
    except _ParserUpgrade:
        pass
    except _ParserError:
        return False
    return _heads_seen.count == 1


# --- Requests --------------------------------------------------------------------------------------------------------


@cython.final
@cython.freelist(128)
cdef class RequestHead:
    """A request's head; `status` is 0 when it may be served. See _head.pxd for the fields."""

    def __cinit__(self):
        self.fields.list = &self.fields.own[0]
        self.fields.room = INLINE_FIELDS
        self.content_length = -1
        self.method = METHOD_OTHER

    def __dealloc__(self):
        if self.fields.list != &self.fields.own[0]:
            free(self.fields.list)

    cpdef bint wants_plain(self):
        cdef double plain, json
        if not self.fields.seen[KIND_ACCEPT]:
            return False
        accept = b",".join([value for kind, _, value in _field_list(&self.fields, self.raw) if kind == KIND_ACCEPT])
        plain = _quality(accept, b"text/plain", b"text/*")
        json = _quality(accept, b"application/json", b"application/*")
        return plain > json

    @property
    def method_bytes(self):
        """The method's name."""
        return span_bytes(self.raw, self.method_name)

    @property
    def path(self):
        """The target up to its query: what may stand in a log."""
        return self.target[:self.path_length]

    @property
    def user_agent_bytes(self):
        return span_bytes(self.raw, self.user_agent)


cdef double _quality(bytes accept, bytes exact, bytes family):
    """The weight that an Accept value gives to a media type (RFC 9110 12.5.1); the most specific range counts."""
    best = {}
    for element in accept.lower().split(b","):
        parts = element.split(b";")
        name = parts[0].strip()
        weight = 1.0
        for parameter in parts[1:]:
            key, _, value = parameter.strip().partition(b"=")
            if key.strip() == b"q":
                try:
                    weight = min(max(float(value[:8]), 0.0), 1.0)
                except ValueError:
                    weight = 0.0
        best[name] = weight
    for name in (exact, family, b"*/*"):
        if name in best:
            return best[name]
    return 0.0


cdef list _field_list(Fields* fields, bytes raw):
    """The fields as (kind, name, value), for what is off the hot path."""
    cdef Py_ssize_t i
    cdef Field* field
    cdef char* base = raw
    result = []
    for i in range(fields.count):
        field = fields.list + i
        result.append((
            field.kind,
            base[field.name:field.name + field.name_length],
            base[field.value:field.value + field.value_length],
        ))
    return result


cdef RequestHead parse_request(const char* data, Py_ssize_t length, const HeadLimits* limits):
    cdef RequestHead head = RequestHead.__new__(RequestHead)
    cdef Py_ssize_t at = 0, after = 0
    cdef int status
    while length - at >= 2 and data[at] == c'\r' and data[at + 1] == c'\n':
        at += 2
    head.raw = data[at:length]
    if _read_request_line(head, length - at, limits.target_bytes, &after) != 0:
        return head
    status = _split_fields(&head.fields, <char*>head.raw, after, length - at, limits.header_fields, True)
    if status != 0:
        _refuse(head, status, head_problem(-status))
    elif (
        _check_host(head) == 0
        and _check_framing(head) == 0
        and _check_fields(head) == 0
        and not _second_opinion(_RequestParser, head.raw)
    ):
        _refuse(head, 400, "The request head is malformed.")
    return head


cdef int _refuse(RequestHead head, int status, str problem) except -1:
    head.status = status
    head.problem = problem
    head.keep_alive = False
    return status


cdef int _method_of(const char* name, Py_ssize_t n) noexcept nogil:
    if n == 4:
        if memcmp(name, b"POST", 4) == 0:
            return METHOD_POST
        return METHOD_HEAD if memcmp(name, b"HEAD", 4) == 0 else METHOD_OTHER
    if n == 3:
        if memcmp(name, b"GET", 3) == 0:
            return METHOD_GET
        return METHOD_PUT if memcmp(name, b"PUT", 3) == 0 else METHOD_OTHER
    if n == 6 and memcmp(name, b"DELETE", 6) == 0:
        return METHOD_DELETE
    if n == 5 and memcmp(name, b"PATCH", 5) == 0:
        return METHOD_PATCH
    return METHOD_OPTIONS if n == 7 and memcmp(name, b"OPTIONS", 7) == 0 else METHOD_OTHER


cdef int _read_request_line(RequestHead head, Py_ssize_t n, Py_ssize_t longest, Py_ssize_t* after) except -1:
    """method SP target SP version CRLF, with exactly these blanks; 0 or the status of the refusal."""
    cdef char* base = head.raw
    cdef const char* feed = <const char*>memchr(base, c'\n', n)
    cdef const char* blank
    cdef Py_ssize_t end, target
    if feed is NULL or feed == base or (feed - 1)[0] != c'\r':
        return _refuse(head, 400, "The request line is malformed.")
    end = feed - 1 - base
    after[0] = end + 2
    blank = <const char*>memchr(base, c' ', end)
    if blank is NULL or not _is_token(base, blank - base):
        return _refuse(head, 400, "The request line is malformed.")
    head.method_name.length = blank - base
    head.method = _method_of(base, head.method_name.length)
    target = head.method_name.length + 1
    blank = <const char*>memchr(base + target, c' ', end - target)
    if blank is NULL:
        blank = base + end
    if blank == base + target:
        return _refuse(head, 400, "The request line is malformed.")
    if blank - base - target > longest:
        return _refuse(head, 414, head_problem(-414))
    if not fe_target_ok(base + target, blank - base - target):
        return _refuse(head, 400, "The request target holds a character that it may not.")
    if _check_version(head, blank, base + end) or _check_method(head):
        return head.status
    return _read_target(head, base + target, blank - base - target)


cdef int _check_version(RequestHead head, const char* at, const char* end) except -1:
    """` HTTP/1.1` or ` HTTP/1.0`; a line without a version is HTTP/0.9."""
    cdef Py_ssize_t n = end - at
    if n == 9 and memcmp(at, b" HTTP/1.", 8) == 0 and (at[8] == c'1' or at[8] == c'0'):
        head.minor = at[8] - c'0'
        return 0
    if n > 1 and (not fe_target_ok(at + 1, n - 1) or memchr(at, c'/', n) is NULL):
        return _refuse(head, 400, "The request line is malformed.")
    return _refuse(head, 505, "This server speaks HTTP/1.1 and HTTP/1.0.")


cdef int _check_method(RequestHead head) except -1:
    if head.method != METHOD_OTHER:
        return 0
    if head.method_bytes in (b"CONNECT", b"TRACE"):
        return _refuse(head, 405, "This method is not allowed.")
    return _refuse(head, 501, "This method is not implemented.")


cdef int _read_target(RequestHead head, const char* at, Py_ssize_t n) except -1:
    """origin-form, absolute-form (its authority becomes the host) or `*`; the target is kept byte for byte."""
    cdef const char* query
    cdef Py_ssize_t scheme
    if at[0] == c'/':
        head.target = at[:n]
    elif n == 1 and at[0] == c'*':
        if head.method != METHOD_OPTIONS:
            return _refuse(head, 400, "The request target `*` belongs to OPTIONS.")
        head.target = b"*"
    else:
        scheme = 7 if n > 7 and fe_equals(at, 7, b"http://", 7) else 8
        if scheme == 8 and not (n > 8 and fe_equals(at, 8, b"https://", 8)):
            return _refuse(head, 400, "The request target is neither a path nor an http URI.")
        _read_absolute(head, at, scheme, n)
        if head.host_length < 0:
            return _refuse(head, 400, "The request target names no proper host.")
    head.upstream_target = head.target
    query = <const char*>memchr(<char*>head.target, c'?', len(head.target))
    head.path_length = len(head.target) if query is NULL else query - <char*>head.target
    return 0


cdef int _read_absolute(RequestHead head, const char* at, Py_ssize_t start, Py_ssize_t n) except -1:
    """The authority goes to head.host, what follows to head.target (RFC 9112 3.2.2, 3.2.4)."""
    cdef Py_ssize_t end = start
    while end < n and at[end] != c'/' and at[end] != c'?':
        end += 1
    head.host.at = at + start - <char*>head.raw
    head.host.length = end - start
    head.host_length = fe_host_length(at + start, end - start)
    if end == n:
        head.target = b"*" if head.method == METHOD_OPTIONS else b"/"
    else:
        head.target = at[end:n] if at[end] == c'/' else b"/" + at[end:n]
    return 0


cdef int _check_host(RequestHead head) except -1:
    """Exactly one proper Host; HTTP/1.0 may leave it out. An absolute-form target has brought its own."""
    cdef Fields* fields = &head.fields
    cdef Span span = _value_of(fields, KIND_HOST)
    cdef Py_ssize_t length = fe_host_length(span_start(head.raw, span), span.length)
    if fields.seen[KIND_HOST] > 1:
        return _refuse(head, 400, "There is more than one Host.")
    if length < 0 and (head.minor == 1 or span.length):
        return _refuse(head, 400, "Host is malformed." if span.length else "Host is missing.")
    if head.host.length == 0 and length > 0:
        head.host = span
        head.host_length = length
    return 0


cdef int _check_framing(RequestHead head) except -1:
    """How long the body is, decided once; nothing that another reader could see differently passes."""
    cdef Fields* fields = &head.fields
    cdef Span span
    if fields.seen[KIND_CODING] and fields.seen[KIND_LENGTH]:
        return _refuse(head, 400, "Transfer-Encoding and Content-Length exclude each other.")
    if fields.seen[KIND_CODING]:
        span = _value_of(fields, KIND_CODING)
        if head.minor == 0:
            return _refuse(head, 400, "HTTP/1.0 knows no Transfer-Encoding.")
        if fields.seen[KIND_CODING] > 1 or not fe_equals(span_start(head.raw, span), span.length, b"chunked", 7):
            return _refuse(head, 501, "The only Transfer-Encoding that is understood is chunked.")
        head.framing = BODY_CHUNKED
    elif fields.seen[KIND_LENGTH]:
        span = _value_of(fields, KIND_LENGTH)
        if fields.seen[KIND_LENGTH] > 1:
            return _refuse(head, 400, "There is more than one Content-Length.")
        head.content_length = _read_length(span_start(head.raw, span), span.length)
        if head.content_length < 0:
            head.content_length = -1
            return _refuse(head, 400, "Content-Length is malformed.")
        head.framing = BODY_LENGTH
    return 0


cdef int _check_fields(RequestHead head) except -1:
    """Connection, Expect, Upgrade, and what must not stand there twice."""
    cdef Fields* fields = &head.fields
    cdef ConnectionSaid said
    cdef bint has_body = head.framing == BODY_CHUNKED or head.content_length > 0
    _read_connection(fields, <char*>head.raw, &said)
    if said.bad:
        return _refuse(head, 400, "Connection is malformed.")
    head.keep_alive = head.minor == 1 and not said.close
    if fields.seen[KIND_EXPECT] and _check_expect(head, has_body):
        return head.status
    if fields.seen[KIND_UPGRADE] and said.upgrade and _check_upgrade(head, has_body):
        return head.status
    if fields.seen[KIND_AUTHORIZATION] > 1:
        return _refuse(head, 400, "There is more than one Authorization.")
    if fields.seen[KIND_PINNED] > 1:
        return _refuse(head, 400, "There is more than one azureml-model-deployment.")
    head.authorization = _value_of(fields, KIND_AUTHORIZATION)
    head.pinned = _value_of(fields, KIND_PINNED)
    head.user_agent = _value_of(fields, KIND_AGENT)
    if fields.seen[KIND_CLIENT_ID]:
        head.client_request_id = _clean_id(head.raw, _value_of(fields, KIND_CLIENT_ID))
    return 0


cdef int _check_expect(RequestHead head, bint has_body) except -1:
    cdef Span span = _value_of(&head.fields, KIND_EXPECT)
    if head.fields.seen[KIND_EXPECT] > 1 or not fe_equals(span_start(head.raw, span), span.length, b"100-continue", 12):
        return _refuse(head, 417, "The only expectation that is understood is 100-continue.")
    # An HTTP/1.0 client would take the 100 for the answer (RFC 9110 10.1.1).
    head.expect_continue = has_body and head.minor == 1
    return 0


cdef int _check_upgrade(RequestHead head, bint has_body) except -1:
    cdef Fields* fields = &head.fields
    cdef Span protocol = _value_of(fields, KIND_UPGRADE)
    cdef Span version = _value_of(fields, KIND_WS_VERSION)
    if has_body:
        # What follows could be read as a body or as another protocol.
        return _refuse(head, 400, "A request to change the protocol may not have a body.")
    head.websocket = (
        head.method == METHOD_GET
        and head.minor == 1
        and fields.seen[KIND_UPGRADE] == 1
        and fe_equals(span_start(head.raw, protocol), protocol.length, b"websocket", 9)
        and fields.seen[KIND_WS_VERSION] == 1
        and fe_equals(span_start(head.raw, version), version.length, b"13", 2)
        and fields.seen[KIND_WS_KEY] == 1
    )
    head.upgrade_ignored = not head.websocket
    return 0


cdef bytes _clean_id(bytes raw, Span span):
    """A client's own id, reduced to what cannot do harm in a header, a log or a shell; None when nothing is left."""
    cdef char out[LONGEST_CLIENT_ID]
    cdef const char* at = span_start(raw, span)
    cdef Py_ssize_t i, n = 0
    cdef unsigned char c
    for i in range(span.length):
        c = at[i]
        if n == LONGEST_CLIENT_ID:
            break
        if c'a' <= c <= c'z' or c'A' <= c <= c'Z' or c'0' <= c <= c'9' or c == c'-' or c == c'_':
            out[n] = c
            n += 1
    return out[:n] if n else None


# --- Responses -------------------------------------------------------------------------------------------------------


@cython.final
@cython.freelist(128)
cdef class ResponseHead:
    """A response's head; usable when `problem` is None. See _head.pxd for the fields."""

    def __cinit__(self):
        self.fields.list = &self.fields.own[0]
        self.fields.room = INLINE_FIELDS
        self.content_length = -1

    def __dealloc__(self):
        if self.fields.list != &self.fields.own[0]:
            free(self.fields.list)


cdef int _spoil(ResponseHead head, str problem) except -1:
    head.problem = problem
    head.keep_alive = False
    return 1


cdef ResponseHead parse_response(const char* data, Py_ssize_t length, int method, bint websocket):
    cdef ResponseHead head = ResponseHead.__new__(ResponseHead)
    cdef ConnectionSaid said
    cdef Py_ssize_t after = 0
    head.raw = data[:length]
    if _read_status_line(head, length, &after):
        return head
    # Their number and size are bounded where the head was delimited.
    if _split_fields(&head.fields, <char*>head.raw, after, length, length, False):
        _spoil(head, "its header fields are malformed")
        return head
    _read_connection(&head.fields, <char*>head.raw, &said)
    if _frame_response(head, method) or (head.status == 101 and _check_switch(head, &said, websocket)):
        return head
    if said.close or said.bad or head.minor == 0 or head.framing == BODY_CLOSE:
        head.keep_alive = False
    if not _second_opinion(_ResponseParser, head.raw):
        _spoil(head, "its head is malformed")
    return head


cdef int _read_status_line(ResponseHead head, Py_ssize_t n, Py_ssize_t* after) except -1:
    """HTTP/1.x SP three digits [SP reason] CRLF."""
    cdef char* base = head.raw
    cdef const char* feed = <const char*>memchr(base, c'\n', n)
    cdef Py_ssize_t end
    if feed is NULL or feed == base or (feed - 1)[0] != c'\r':
        return _spoil(head, "its status line is malformed")
    end = feed - 1 - base
    after[0] = end + 2
    if (
        end < 12
        or memcmp(base, b"HTTP/1.", 7) != 0
        or not (base[7] == c'0' or base[7] == c'1')
        or base[8] != c' '
        or not (c'1' <= base[9] <= c'5' and fe_digit(base[10]) and fe_digit(base[11]))
        or (end > 12 and base[12] != c' ')
        or not fe_text_ok(base, end)
    ):
        return _spoil(head, "its status line is malformed")
    head.minor = base[7] - c'0'
    head.status = (base[9] - c'0') * 100 + (base[10] - c'0') * 10 + base[11] - c'0'
    if end > 13:
        head.reason.at = 13
        head.reason.length = end - 13
    return 0


cdef int _frame_response(ResponseHead head, int method) except -1:
    """Where the body ends (RFC 9112 6.3), given the request's method: the parser cannot know about HEAD."""
    cdef Fields* fields = &head.fields
    cdef Span span
    head.keep_alive = True
    if fields.seen[KIND_CODING]:
        span = _value_of(fields, KIND_CODING)
        if fields.seen[KIND_CODING] > 1 or not fe_equals(span_start(head.raw, span), span.length, b"chunked", 7):
            return _spoil(head, "its Transfer-Encoding is not understood")
        if head.minor == 0 or fields.seen[KIND_LENGTH]:
            return _spoil(head, "its framing is ambiguous")
        head.framing = BODY_CHUNKED
    elif fields.seen[KIND_LENGTH]:
        span = _value_of(fields, KIND_LENGTH)
        head.content_length = _read_length(span_start(head.raw, span), span.length)
        if fields.seen[KIND_LENGTH] > 1 or head.content_length < 0:
            head.content_length = -1
            return _spoil(head, "its Content-Length is malformed")
        head.framing = BODY_LENGTH
    else:
        head.framing = BODY_CLOSE
    if method == METHOD_HEAD or head.status < 200 or head.status == 204 or head.status == 304:
        # A server that sends the declared body all the same would have it read as the next answer; and one that gives
        # no length to HEAD may be one whose bodies end with the connection.
        head.keep_alive = head.content_length == 0 or (head.framing == BODY_CLOSE and method != METHOD_HEAD)
        head.framing = BODY_NONE
    return 0


cdef int _check_switch(ResponseHead head, const ConnectionSaid* said, bint websocket) except -1:
    cdef Span protocol = _value_of(&head.fields, KIND_UPGRADE)
    if not websocket:
        return _spoil(head, "it changes the protocol unasked")
    if not said.upgrade or not fe_equals(span_start(head.raw, protocol), protocol.length, b"websocket", 9):
        return _spoil(head, "it changes to another protocol than was asked for")
    head.switches = True
    head.keep_alive = False
    return 0


# --- For tests and tools ---------------------------------------------------------------------------------------------


cdef tuple FRAMINGS = ("none", "length", "chunked", "close")
cdef tuple METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


cdef HeadLimits _limits(int target_bytes, int header_bytes, int header_fields) noexcept:
    cdef HeadLimits limits
    limits.target_bytes = target_bytes
    limits.header_bytes = header_bytes
    limits.header_fields = header_fields
    return limits


@cython.final
cdef class HeadFinder:
    """`find_head_end` over input that comes in pieces."""

    cdef HeadScan scan
    cdef HeadLimits limits
    cdef bint response
    cdef bytes received

    def __cinit__(self, *, target_bytes=8192, header_bytes=32768, header_fields=100, bint response=False):
        memset(&self.scan, 0, sizeof(HeadScan))
        self.limits = _limits(target_bytes, header_bytes, header_fields)
        self.response = response
        self.received = b""

    def feed(self, bytes data) -> int:
        """The result for everything fed so far."""
        self.received += data
        return find_head_end(&self.scan, <char*>self.received, len(self.received), &self.limits, self.response)


def read_request(bytes data, *, target_bytes=8192, header_bytes=32768, header_fields=100) -> RequestHead:
    """`parse_request` on exactly one head."""
    cdef HeadLimits limits = _limits(target_bytes, header_bytes, header_fields)
    return parse_request(data, len(data), &limits)


def read_response(bytes data, str method="GET", bint websocket=False) -> ResponseHead:
    """`parse_response` on exactly one head."""
    return parse_response(data, len(data), METHODS.index(method), websocket)


def describe(head) -> dict:
    """What a head was understood as, in Python's terms."""
    cdef RequestHead request
    cdef ResponseHead response
    if isinstance(head, RequestHead):
        request = head
        return {
            "framing": FRAMINGS[request.framing],
            "host": span_bytes(request.raw, request.host),
            "authorization": span_bytes(request.raw, request.authorization),
            "pinned": span_bytes(request.raw, request.pinned),
            "fields": [field[1:] for field in _field_list(&request.fields, request.raw)],
        }
    response = head
    return {
        "framing": FRAMINGS[response.framing],
        "reason": span_bytes(response.raw, response.reason),
        "fields": [field[1:] for field in _field_list(&response.fields, response.raw)],
    }
