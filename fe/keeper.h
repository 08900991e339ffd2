/* The keeper: one small process per local replica, between fe-serve and the replica's command. Plain C, run in a
 * child that was forked but never executes anything else, so that it costs no interpreter and no Python code can run
 * in it. Owns: the command's process group and everything that descends from it. Never: Python, the table, sockets.
 *
 * Why it exists: a signal to a process group misses those who left it (double fork and setsid), and nobody ends a
 * group when fe-serve is killed with -9. A subreaper inherits every orphan below it, and PR_SET_PDEATHSIG tells it
 * when the supervisor is gone. Its children cannot be mistaken for others: a pid is not used again before it has been
 * reaped, so the keeper signals only its own unreaped children and, while the command is unreaped, the command's group.
 *
 *   STARTING/RUNNING --SIGTERM, or the command died--> ENDING: SIGTERM to the group, then wait for `grace`
 *   any --SIGHUP (supervisor gone, or "at once"), grace is over, nothing of the group left--> KILLING: SIGKILL until no child
 *
 * Read next: fe/_keeper.pyx (the Python side), fe/supervisor/replicas.py (who starts keepers and hears their reports).
 */
#ifndef FE_KEEPER_H
#define FE_KEEPER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEEPER_KILL_LIMIT_MS 10000 /* a process that survives SIGKILL for this long hangs in the kernel: give up on it */
#define KEEPER_KILL_STEP_MS 10     /* how often KILLING looks for orphans that have just become children */

enum keeper_report_kind { KEEPER_STARTED = 1, KEEPER_FAILED = 2, KEEPER_EXITED = 3 };
enum keeper_stage { KEEPER_STAGE_SETUP = 1, KEEPER_STAGE_CWD = 2, KEEPER_STAGE_EXEC = 3 };

/* Written to the supervisor's pipe in one write below PIPE_BUF, hence never torn or mixed with another keeper's. */
struct keeper_report {
    int32_t keeper;
    int32_t kind;
    int32_t value; /* STARTED: pid of the command; FAILED: errno; EXITED: wait status */
    int32_t stage; /* FAILED: where */
};

struct keeper_job {
    char **paths; /* what to try to execute, in order, ended by NULL */
    char **argv;
    char **envp;
    const char *cwd;
    int output_fd;
    int report_fd;
    long grace_ms;
    rlim_t nofile; /* soft limit of descriptors for the command; 0: as inherited */
    pid_t supervisor;
};

enum { KEEPER_REPORT_FD = 3, KEEPER_OUTPUT_FD = 4, KEEPER_FIRST_FREE_FD = 5 };

struct keeper_state {
    pid_t command;
    int exec_fd; /* EOF when the command has been executed; an errno when it could not be; -1 afterwards */
    int signal_fd;
    int want_stop, want_kill, dead, failed, told_rest;
    enum { KEEPER_RUNNING, KEEPER_ENDING, KEEPER_KILLING } phase;
    int64_t deadline_ms;
};

static int64_t keeper_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void keeper_tell(int fd, int kind, int value, int stage)
{
    struct keeper_report report = {(int32_t)getpid(), kind, value, stage};
    /* Non-blocking: a supervisor that does not read must not keep the keeper from its work. */
    while (write(fd, &report, sizeof report) < 0 && errno == EINTR) {
    }
}

static void keeper_close_from(int first)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)first, ~0U, 0U) == 0)
        return;
#endif
    long most = sysconf(_SC_OPEN_MAX);
    for (long fd = first; fd < (most > 0 ? most : 65536); fd++)
        close((int)fd);
}

/* Leaves 0-2 on /dev/null, the report pipe on 3 and the output on 4, both closed by exec, and nothing else. */
static int keeper_arrange_fds(const struct keeper_job *job)
{
    int report = fcntl(job->report_fd, F_DUPFD_CLOEXEC, 16);
    int output = fcntl(job->output_fd, F_DUPFD_CLOEXEC, 16);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (report < 0 || output < 0 || null < 0)
        return -1;
    int high = fcntl(null, F_DUPFD_CLOEXEC, 16); /* `null` itself may be one of the numbers about to be replaced */
    if (high < 0)
        return -1;
    if (dup2(high, 0) < 0 || dup2(high, 1) < 0 || dup2(high, 2) < 0)
        return -1;
    if (dup3(report, KEEPER_REPORT_FD, O_CLOEXEC) < 0 || dup3(output, KEEPER_OUTPUT_FD, O_CLOEXEC) < 0)
        return -1;
    keeper_close_from(KEEPER_FIRST_FREE_FD);
    return 0;
}

static void keeper_default_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL); /* fails for SIGKILL, SIGSTOP and glibc's own, as it should */
}

__attribute__((noreturn)) static void keeper_command_failed(int fd, int stage)
{
    int32_t told[2] = {errno, stage};
    while (write(fd, told, sizeof told) < 0 && errno == EINTR) {
    }
    _exit(127);
}

/* In the grandchild: becomes the command. */
__attribute__((noreturn)) static void keeper_exec(const struct keeper_job *job, pid_t keeper, int exec_fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper)
        _exit(127);
    setsid();
    if (dup2(KEEPER_OUTPUT_FD, 1) < 0 || dup2(KEEPER_OUTPUT_FD, 2) < 0)
        keeper_command_failed(exec_fd, KEEPER_STAGE_SETUP);
    if (job->nofile) {
        struct rlimit limit;
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && job->nofile < limit.rlim_cur) {
            limit.rlim_cur = job->nofile;
            setrlimit(RLIMIT_NOFILE, &limit);
        }
    }
    if (chdir(job->cwd) < 0)
        keeper_command_failed(exec_fd, KEEPER_STAGE_CWD);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int reason = ENOENT;
    for (char **path = job->paths; *path; path++) {
        execve(*path, job->argv, job->envp);
        if (errno != ENOENT && errno != ENOTDIR && reason == ENOENT)
            reason = errno; /* as a shell: "permission denied" further up PATH says more than "not found" at its end */
    }
    errno = reason;
    keeper_command_failed(exec_fd, KEEPER_STAGE_EXEC);
}

/* The parent of `pid`, or -1. The name in the second field may hold anything, so the last ')' is what counts. */
static pid_t keeper_parent_of(const char *pid)
{
    char path[64] = "/proc/", text[512];
    strncat(path, pid, 20);
    strcat(path, "/stat");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return -1;
    text[length] = 0;
    char *end = strrchr(text, ')');
    return end && strlen(end) > 4 ? (pid_t)strtol(end + 4, NULL, 10) : -1;
}

/* Reaps what has died and returns how many children other than the command are left; with `force` each gets SIGKILL.
 * `in_group` counts those that stayed in the command's process group. */
static int keeper_orphans(pid_t command, int force, int *in_group)
{
    pid_t self = getpid();
    int left = 0;
    *in_group = 0;
    DIR *proc = opendir("/proc");
    if (!proc)
        return 0;
    for (struct dirent *entry; (entry = readdir(proc));) {
        if (!isdigit((unsigned char)entry->d_name[0]) || keeper_parent_of(entry->d_name) != self)
            continue;
        pid_t child = (pid_t)strtol(entry->d_name, NULL, 10);
        if (child == command || waitpid(child, NULL, WNOHANG) == child)
            continue;
        left++;
        if (getpgid(child) == command)
            ++*in_group;
        if (force)
            kill(child, SIGKILL);
    }
    closedir(proc);
    return left;
}

/* Looks without reaping: as long as the command is a zombie nobody else can get its process group's number. */
static void keeper_watch_command(struct keeper_state *state)
{
    siginfo_t info;
    while (!state->dead) {
        memset(&info, 0, sizeof info);
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return;
        if (info.si_pid == state->command)
            state->dead = 1;
        else
            waitpid(info.si_pid, NULL, WNOHANG); /* an orphan that came to us and has ended */
    }
}

static void keeper_on_exec(struct keeper_state *state)
{
    int32_t told[2];
    ssize_t length = read(state->exec_fd, told, sizeof told);
    if (length < 0)
        return;
    close(state->exec_fd);
    state->exec_fd = -1;
    if (length == sizeof told) {
        state->failed = 1;
        keeper_tell(KEEPER_REPORT_FD, KEEPER_FAILED, told[0], told[1]);
    } else {
        keeper_tell(KEEPER_REPORT_FD, KEEPER_STARTED, (int)state->command, 0);
    }
}

static void keeper_on_signals(struct keeper_state *state)
{
    struct signalfd_siginfo info;
    while (read(state->signal_fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGTERM)
            state->want_stop = 1;
        else if (info.ssi_signo == SIGHUP)
            state->want_kill = 1;
    }
}

/* One step of the automaton in the head of this file; true when nothing is left to keep. */
static int keeper_step(struct keeper_state *state, long grace_ms)
{
    int in_group = 0;
    int orphans = state->dead ? keeper_orphans(state->command, 0, &in_group) : 0;
    int64_t now = keeper_now_ms();
    if (state->phase == KEEPER_RUNNING && (state->dead || state->want_stop)) {
        /* The group does not exist before the command's setsid: then only the process itself can be told. */
        if (kill(-state->command, SIGTERM) < 0)
            kill(state->command, SIGTERM);
        kill(-state->command, SIGCONT);
        state->phase = KEEPER_ENDING;
        state->deadline_ms = now + grace_ms;
    }
    if (state->phase == KEEPER_ENDING && state->dead && in_group && !state->told_rest) {
        kill(-state->command, SIGTERM); /* who was forked while the first one was on its way has not got it */
        state->told_rest = 1;
    }
    if (state->phase != KEEPER_KILLING
        && (state->want_kill
            || (state->phase == KEEPER_ENDING && (now >= state->deadline_ms || (state->dead && !in_group))))) {
        kill(-state->command, SIGKILL);
        if (!state->dead)
            kill(state->command, SIGKILL);
        state->phase = KEEPER_KILLING;
        state->deadline_ms = now + KEEPER_KILL_LIMIT_MS;
    }
    if (state->phase != KEEPER_KILLING)
        return 0;
    orphans = keeper_orphans(state->command, 1, &in_group);
    return (state->dead && !orphans) || now >= state->deadline_ms;
}

static int keeper_patience_ms(const struct keeper_state *state)
{
    if (state->phase == KEEPER_RUNNING)
        return -1; /* a signal ends it: SIGCHLD, SIGTERM, or SIGHUP when the supervisor has gone */
    if (state->phase == KEEPER_KILLING)
        return KEEPER_KILL_STEP_MS;
    int64_t left = state->deadline_ms - keeper_now_ms();
    return left < 0 ? 0 : (int)left;
}

static int keeper_keep(struct keeper_state *state, long grace_ms)
{
    int status = 0;
    for (;;) {
        struct pollfd fds[2] = {{state->signal_fd, POLLIN, 0}, {state->exec_fd, POLLIN, 0}};
        poll(fds, 2, keeper_patience_ms(state));
        if (fds[1].revents)
            keeper_on_exec(state);
        keeper_on_signals(state);
        keeper_watch_command(state);
        if (keeper_step(state, grace_ms))
            break;
    }
    if (state->exec_fd >= 0)
        keeper_on_exec(state); /* died in the same instant: its errno is still in the pipe */
    waitpid(state->command, &status, WNOHANG);
    if (!state->failed)
        keeper_tell(KEEPER_REPORT_FD, KEEPER_EXITED, status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

__attribute__((noreturn)) static void keeper_run(const struct keeper_job *job)
{
    struct keeper_state state;
    int exec_pipe[2];
    sigset_t heard;
    memset(&state, 0, sizeof state);
    /* Every signal stays blocked from before the fork: none is lost, and the supervisor's handlers never run here. */
    prctl(PR_SET_PDEATHSIG, SIGHUP);
    if (getppid() != job->supervisor)
        _exit(127);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "fe-keeper");
    setsid(); /* kill -9 of fe-serve's process group must not take the keepers with it */
    keeper_default_signals();
    if (keeper_arrange_fds(job) < 0) {
        keeper_tell(job->report_fd, KEEPER_FAILED, errno, KEEPER_STAGE_SETUP);
        _exit(127);
    }
    sigemptyset(&heard);
    sigaddset(&heard, SIGTERM);
    sigaddset(&heard, SIGHUP);
    sigaddset(&heard, SIGCHLD);
    state.signal_fd = signalfd(-1, &heard, SFD_CLOEXEC | SFD_NONBLOCK);
    pid_t self = getpid();
    state.command = state.signal_fd < 0 || pipe2(exec_pipe, O_CLOEXEC | O_NONBLOCK) < 0 ? -1 : fork();
    if (state.command < 0) {
        keeper_tell(KEEPER_REPORT_FD, KEEPER_FAILED, errno, KEEPER_STAGE_SETUP);
        _exit(127);
    }
    if (state.command == 0)
        keeper_exec(job, self, exec_pipe[1]);
    close(exec_pipe[1]);
    close(KEEPER_OUTPUT_FD);
    state.exec_fd = exec_pipe[0];
    _exit(keeper_keep(&state, job->grace_ms));
}

/* Forks a keeper; returns its pid, or -1 and errno. The arrays of `job` are not needed by the parent afterwards. */
static pid_t keeper_spawn(const struct keeper_job *job)
{
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        keeper_run(job);
    int reason = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = reason;
    return pid;
}

#endif
