"""The chunked transfer coding, strict and without a copy: where body bytes lie in what was received.

Owns: sizes (bounded hexadecimal), CRLF and nothing else as a line's end, extensions and trailers (checked, bounded,
dropped), framing out of proportion to the body. Never: memory, Python, the limit on the body's size (the caller sees
every piece). Nothing is ever read twice: each byte moves the state on, so input may be cut anywhere.
Read `_chunked.pxd` for the interface.
"""

from libc.string cimport memset

cdef extern from "proxy/_text.h" nogil:
    const unsigned char fe_token[256]
    int fe_hex(char c)

cdef enum State:
    SIZE               # a digit of the size, or what ends it
    EXTENSION          # after `;`: the first character of a name
    EXTENSION_NAME
    EXTENSION_EQUALS   # after `=`: the first character of a value
    EXTENSION_VALUE
    EXTENSION_QUOTED
    EXTENSION_ESCAPED  # after a backslash within quotes
    EXTENSION_CLOSED   # after the closing quote
    SIZE_FEED          # the LF after the size
    DATA
    DATA_RETURN        # the CR after a chunk
    DATA_FEED
    TRAILER_START      # a trailer's name, or the CR of the line that ends the body
    TRAILER_NAME
    TRAILER_VALUE
    TRAILER_FEED
    LAST_FEED
    DONE
    BROKEN

cdef enum:
    MOST_DIGITS = 15             # of a size: below 2^60
    LONGEST_EXTENSION = 256
    LONGEST_TRAILERS = 8192
    FREE_OVERHEAD = 16 * 1024    # of framing, whatever the body; beyond it at most twice the body's bytes,
    OVERHEAD_PER_BYTE = 2        # which chunks of three bytes keep to and chunks of one do not


cdef void chunks_start(ChunkDecoder* decoder, bint bounded) noexcept nogil:
    memset(decoder, 0, sizeof(ChunkDecoder))
    decoder.bounded = bounded


cdef int64_t announced(const ChunkDecoder* decoder) noexcept nogil:
    return decoder.left if decoder.state == DATA else 0


cdef int next_piece(ChunkDecoder* decoder, const char* data, Py_ssize_t n, Py_ssize_t* consumed,
                    const char** body, Py_ssize_t* body_length) noexcept nogil:
    cdef Py_ssize_t at = 0
    while at < n:
        if decoder.state == DATA:
            body[0] = data + at
            body_length[0] = n - at if n - at < decoder.left else decoder.left
            decoder.left -= body_length[0]
            decoder.received += body_length[0]
            if decoder.left == 0:
                decoder.state = DATA_RETURN
            consumed[0] = at + body_length[0]
            return PIECE_DATA
        if decoder.state == DONE:
            break
        if decoder.state == BROKEN or not _step(decoder, data[at]):
            decoder.state = BROKEN
            consumed[0] = at
            return PIECE_ERROR
        at += 1
    consumed[0] = at
    return PIECE_DONE if decoder.state == DONE else PIECE_MORE


cdef bint _step(ChunkDecoder* decoder, char c) noexcept nogil:
    """One byte of framing; False: it may not stand there."""
    cdef uint8_t state = decoder.state
    decoder.overhead += 1
    if decoder.bounded and decoder.overhead > FREE_OVERHEAD + OVERHEAD_PER_BYTE * decoder.received:
        return False
    if state == SIZE:
        return _step_size(decoder, c)
    if state < SIZE_FEED:
        return _step_extension(decoder, c)
    if state == SIZE_FEED:
        decoder.state = DATA if decoder.left else TRAILER_START
        decoder.digits = 0
        decoder.line = 0
        return c == c'\n'
    if state == DATA_RETURN:
        decoder.state = DATA_FEED
        return c == c'\r'
    if state == DATA_FEED:
        decoder.state = SIZE
        return c == c'\n'
    if state == LAST_FEED:
        decoder.state = DONE if c == c'\n' else BROKEN
        return c == c'\n'
    return _step_trailer(decoder, c)


cdef bint _step_size(ChunkDecoder* decoder, char c) noexcept nogil:
    cdef int digit = fe_hex(c)
    if digit >= 0:
        decoder.digits += 1
        decoder.left = decoder.left * 16 + digit
        return decoder.digits <= MOST_DIGITS
    decoder.state = SIZE_FEED if c == c'\r' else EXTENSION
    return decoder.digits > 0 and (c == c'\r' or c == c';')


cdef bint _is_text(char c) noexcept nogil:
    return c == c'\t' or (<unsigned char>c >= 0x20 and c != 0x7f)


cdef bint _step_extension(ChunkDecoder* decoder, char c) noexcept nogil:
    """name, name=token or name="text", without blanks (RFC 9112 7.1.1 tells senders to leave them out)."""
    cdef uint8_t state = decoder.state
    decoder.line += 1
    if decoder.line > LONGEST_EXTENSION and c != c'\r':
        return False
    if state == EXTENSION_QUOTED:
        if c == c'"':
            decoder.state = EXTENSION_CLOSED
        elif c == c'\\':
            decoder.state = EXTENSION_ESCAPED
        return _is_text(c)
    if state == EXTENSION_ESCAPED:
        decoder.state = EXTENSION_QUOTED
        return _is_text(c)
    if fe_token[<unsigned char>c] and state != EXTENSION_CLOSED:
        decoder.state = EXTENSION_NAME if state <= EXTENSION_NAME else EXTENSION_VALUE
        return True
    if state == EXTENSION_EQUALS:
        decoder.state = EXTENSION_QUOTED
        return c == c'"'
    if state == EXTENSION_NAME and c == c'=':
        decoder.state = EXTENSION_EQUALS
        return True
    decoder.state = EXTENSION if c == c';' else SIZE_FEED
    return state != EXTENSION and (c == c';' or c == c'\r')


cdef bint _step_trailer(ChunkDecoder* decoder, char c) noexcept nogil:
    decoder.trailers += 1
    if decoder.trailers > LONGEST_TRAILERS:
        return False
    if decoder.state == TRAILER_START:
        decoder.state = LAST_FEED if c == c'\r' else TRAILER_NAME
        return c == c'\r' or fe_token[<unsigned char>c] != 0
    if decoder.state == TRAILER_NAME:
        if c == c':':
            decoder.state = TRAILER_VALUE
            return True
        return fe_token[<unsigned char>c] != 0
    if decoder.state == TRAILER_VALUE:
        if c == c'\r':
            decoder.state = TRAILER_FEED
        return c == c'\r' or _is_text(c)
    decoder.state = TRAILER_START
    return c == c'\n'


cdef int put_chunk_head(char* out, Py_ssize_t length) noexcept nogil:
    cdef int digits = 1, i
    while digits < 16 and length >> (4 * digits):
        digits += 1
    for i in range(digits):
        out[i] = b"0123456789abcdef"[(length >> (4 * (digits - 1 - i))) & 15]
    out[digits] = c'\r'
    out[digits + 1] = c'\n'
    return digits + 2


# --- For tests and tools ---------------------------------------------------------------------------------------------


cdef class Decoder:
    """The decoder with Python values; what a worker runs is the C function itself."""

    cdef ChunkDecoder decoder

    def __cinit__(self, bint bounded=True):
        chunks_start(&self.decoder, bounded)

    def feed(self, bytes data):
        """Decode data: (pieces, bytes consumed, "more", "done" or "error")."""
        cdef const char* body = NULL
        cdef Py_ssize_t consumed = 0, length = 0, at = 0
        cdef int result = PIECE_MORE
        pieces = []
        while at < len(data):
            result = next_piece(&self.decoder, <char*>data + at, len(data) - at, &consumed, &body, &length)
            at += consumed
            if result != PIECE_DATA:
                break
            pieces.append(body[:length])
        return pieces, at, {PIECE_ERROR: "error", PIECE_DONE: "done"}.get(result, "more")


def chunk_head(Py_ssize_t length) -> bytes:
    """The line before a chunk of this length."""
    cdef char out[CHUNK_HEAD_ROOM]
    return out[:put_chunk_head(out, length)]
