# The chunked transfer coding, decoded from and encoded into C buffers without a copy and without Python.

from libc.stdint cimport int64_t, uint8_t


cdef enum Piece:
    PIECE_ERROR = -1   # the framing is broken, for good: 400 for a request, an aborted exchange for a response
    PIECE_MORE = 0     # all n bytes are consumed and there was no body in the rest of them
    PIECE_DATA = 1     # *body, *body_length: a slice of data; call again with what follows *consumed
    PIECE_DONE = 2     # the body is complete, its trailers are dropped; what follows *consumed is not the body's

cdef struct ChunkDecoder:
    uint8_t state
    uint8_t digits     # of the size that is being read
    uint8_t bounded
    int64_t left       # of the chunk that is being read
    int64_t received   # body bytes so far
    int64_t overhead   # framing bytes so far
    int64_t line       # bytes of the extension or trailer line so far
    int64_t trailers   # bytes of trailers so far


# `bounded`: a request, whose framing has to be in proportion to its body. A replica may stream in chunks of one byte.
cdef void chunks_start(ChunkDecoder* decoder, bint bounded) noexcept nogil
# Consumes up to n bytes; PIECE_DATA is given as often as there are slices. Call while *consumed < n.
cdef int next_piece(ChunkDecoder* decoder, const char* data, Py_ssize_t n, Py_ssize_t* consumed,
                    const char** body, Py_ssize_t* body_length) noexcept nogil
# What is still to come of the chunk whose size line has been read.
cdef int64_t announced(const ChunkDecoder* decoder) noexcept nogil

cdef enum: CHUNK_HEAD_ROOM = 18
cdef int put_chunk_head(char* out, Py_ssize_t length) noexcept nogil   # bytes written, CRLF included; length > 0
# After a chunk's bytes comes b"\r\n", after the last chunk's b"0\r\n\r\n".
