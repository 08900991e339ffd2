# Access lines, and the numbers by which a refusal explains itself, formatted in C: what one costs is paid by every
# request while the log is on, and by every refusal of an overload.

from libc.stdint cimport int64_t

from fe._core cimport DeploymentState
from fe.proxy._build cimport Peer
from fe.proxy._head cimport RequestHead


cdef struct Facts:
    # what is known of a request that has ended; times in ns, 0: it did not come to that
    int status
    int model_status          # the replica's own; 0: none
    int64_t request_bytes
    int64_t response_bytes
    int64_t total_ns
    int64_t queue_ns
    int64_t model_ns
    const DeploymentState* met    # the deployment's load when fe refused the request; NULL: it did not


# One line without its end, as JSON or for people; strings may be None. Printable ASCII, whatever the client sent.
cdef bytes build_line(bint json, RequestHead head, Peer peer, bytes request_id, str endpoint, str deployment,
                      str reason, const Facts* facts)

# The load that a refused request has met: a member `"state": {...}` of a JSON object, with the comma before it; or a
# line for people.
cdef bytes build_state(bint plain, const DeploymentState* state, int64_t waited_ns)
