"""The credential of endpoints with auth_mode `key`: `Authorization: Bearer <key>`.

Owns: taking the key out of the field, its digest, a comparison that takes the same time whatever it finds. Never: the
keys themselves (workers hold SHA-256 digests only), logging, what is answered. A key of another endpoint is a wrong
key: only this endpoint's digests are looked at. Read `fe/model.py` EndpointView for where the digests come from.
"""

from hashlib import sha256

from fe.proxy._head cimport RequestHead, Span, span_start

cdef extern from "proxy/_text.h" nogil:
    bint fe_equals(const char* at, Py_ssize_t n, const char* lower, Py_ssize_t m)

cdef enum:
    LONGEST_KEY = 4096
    DIGEST_BYTES = 32

cdef object _sha256 = sha256


cdef bint key_matches(RequestHead head, tuple digests) except -1:
    cdef Span span = head.authorization
    cdef const char* at
    cdef Py_ssize_t start = 7
    if span.length <= 7 or span.length > LONGEST_KEY:
        return False
    at = span_start(head.raw, span)
    if not fe_equals(at, 6, b"bearer", 6) or at[6] != c' ':
        return False
    while start < span.length and at[start] == c' ':
        start += 1
    return _has_digest(_sha256(at[start:span.length]).digest(), digests)


cdef bint _has_digest(bytes digest, tuple digests) except -1:
    """Every digest is compared to its end: the time says neither which one matched nor how far."""
    cdef const unsigned char* mine = digest
    cdef const unsigned char* theirs
    cdef unsigned char difference
    cdef unsigned char found = 0
    cdef bytes other
    cdef int i
    for other in digests:
        if len(other) != DIGEST_BYTES:
            continue
        theirs = other
        difference = 0
        for i in range(DIGEST_BYTES):
            difference |= mine[i] ^ theirs[i]
        found |= difference == 0
    return found != 0


def matches(RequestHead head, tuple digests) -> bool:
    """`key_matches` for tests."""
    return key_matches(head, digests)
