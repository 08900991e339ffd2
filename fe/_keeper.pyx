# What the supervisor needs from the kernel and Python's standard library does not offer: keepers of local replicas
# (keeper.h says what a keeper does) and a few prctl calls.
#
# Owns: turning Python values into C arrays before a fork. Never: Python code in a keeper - `keeper_spawn` returns in
# the supervisor only.
# Read next: keeper.h, then fe/supervisor/replicas.py.

from libc.errno cimport errno
from libc.stdlib cimport calloc, free, getenv
from libc.string cimport memset, strlen

import os


cdef extern from "keeper.h" nogil:
    ctypedef unsigned long rlim_t
    ctypedef int pid_t
    cdef struct keeper_job:
        char** paths
        char** argv
        char** envp
        const char* cwd
        int output_fd
        int report_fd
        long grace_ms
        rlim_t nofile
        pid_t supervisor
    pid_t keeper_spawn(const keeper_job* job)
    int _STARTED "KEEPER_STARTED"
    int _FAILED "KEEPER_FAILED"
    int _EXITED "KEEPER_EXITED"
    int _STAGE_CWD "KEEPER_STAGE_CWD"
    int _STAGE_EXEC "KEEPER_STAGE_EXEC"

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, ...)
    enum:
        PR_SET_NAME
        PR_SET_PDEATHSIG
        PR_SET_CHILD_SUBREAPER

STARTED = _STARTED
FAILED = _FAILED
EXITED = _EXITED
STAGE_CWD = _STAGE_CWD
STAGE_EXEC = _STAGE_EXEC
REPORT = "=iiii"  # struct keeper_report: pid of the keeper, kind, value, stage


cdef char** _c_array(list strings) except NULL:
    # Borrows the bytes: `strings` has to outlive the array.
    cdef Py_ssize_t i
    cdef char** array = <char**>calloc(len(strings) + 1, sizeof(char*))
    if array is NULL:
        raise MemoryError
    for i in range(len(strings)):
        if b"\0" in strings[i]:
            free(array)
            raise ValueError("a NUL byte cannot be passed to a command")
        array[i] = strings[i]
    return array


def _candidates(bytes command, dict env):
    """The files that `command` may mean: itself when it has a slash, else one per directory of env's PATH."""
    if b"/" in command:
        return [command]
    search = os.fsencode(env.get("PATH") or os.defpath)
    return [os.path.join(directory or b".", command) for directory in search.split(b":")]


def spawn_keeper(argv, dict env, str cwd, int output_fd, int report_fd, int stop_grace_ms, rlim_t nofile=0):
    """Starts `argv` under a keeper and returns the keeper's pid; OSError when it cannot be forked.

    The command gets `env` and nothing else, /dev/null as stdin, `output_fd` as stdout and stderr, and `nofile` as its
    soft limit of descriptors (0: as inherited). What became of it is reported to `report_fd`, a non-blocking pipe, as
    records of the layout REPORT: STARTED (value: pid of the command) or FAILED (value: errno), later EXITED (value:
    wait status). The keeper ends the command on SIGTERM with `stop_grace_ms`, on SIGHUP or our death at once.
    """
    cdef keeper_job job
    cdef int reason = 0
    cdef pid_t pid = -1
    if not argv:
        raise ValueError("an empty command")
    arguments = [os.fsencode(argument) for argument in argv]
    variables = [os.fsencode(key) + b"=" + os.fsencode(value) for key, value in env.items()]
    paths = _candidates(arguments[0], env)
    directory = os.fsencode(cwd)
    if b"\0" in directory:
        raise ValueError("a NUL byte cannot be part of a path")
    job.paths = job.argv = job.envp = NULL
    try:
        job.paths = _c_array(paths)
        job.argv = _c_array(arguments)
        job.envp = _c_array(variables)
        job.cwd = directory
        job.output_fd = output_fd
        job.report_fd = report_fd
        job.grace_ms = stop_grace_ms
        job.nofile = nofile
        job.supervisor = os.getpid()
        pid = keeper_spawn(&job)
        reason = errno
    finally:
        free(job.paths)
        free(job.argv)
        free(job.envp)
    if pid < 0:
        raise OSError(reason, os.strerror(reason))
    return pid


def die_with_parent(int signal, int parent):
    """Asks for `signal` when the parent dies; False when `parent` is our parent no more: it has died already."""
    prctl(PR_SET_PDEATHSIG, signal)
    return os.getppid() == parent


def become_subreaper():
    """From now on orphans below this process become its children, so that it can see and end them."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def set_process_name(str name):
    """The name shown by ps and top; the kernel cuts it to 15 bytes."""
    encoded = os.fsencode(name)
    prctl(PR_SET_NAME, <const char*>encoded)


def forget_variables(names):
    """Overwrites the values of these environment variables, in /proc/PID/environ too: a child has no use for them."""
    cdef char* value
    cdef bytes kept
    for name in names:
        value = getenv(os.fsencode(name))
        if value != NULL:
            memset(value, 0, strlen(value))
        kept = os.environb.get(os.fsencode(name), b"")
        if len(kept) > 1:   # Python shares the objects of single bytes
            memset(<char*> kept, 0, len(kept))
        os.environ.pop(name, None)
