/* An open-loop load generator: each request leaves when the schedule says so, however busy the targets are.
 *
 *     openloop REQUEST SCHEDULE RECORDS PORT...
 *
 * REQUEST   what follows a request line: header fields, an empty line, the body; the same for all requests
 * SCHEDULE  lines "NS TARGET PATH" in order: NS after the start, POST PATH goes to the TARGETth PORT, counted from 0
 * RECORDS   is written: a struct record for each line of SCHEDULE, in its order
 *
 * Owns: connections, the moment of sending, timestamps, strict framing of answers. Never: what is sent when, and
 * figures (__init__.py makes the one and reads the other). A request takes a kept connection, or opens one when all are
 * busy, so that a slow answer never delays a later request. The first error ends the run with status 1: another status
 * than 200, an answer framed by neither length nor chunks, a connection that breaks, MOST_CONNECTIONS requests at once.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    MOST_TARGETS = 16,
    MOST_CONNECTIONS = 1024,  // of a target
    OUT_BYTES = 4096,         // a whole request
    LINE_BYTES = 1024,        // a line of an answer's head
    EVENTS = 64,
};
static const int64_t SECOND = 1000000000;
static const int64_t LEAD = 1000000;  // from the start to the first request, for whoever has to wake up for it
static const int64_t LAST_ANSWER = 60 * SECOND;
/* A core that sleeps is about 30 us late (seen on a virtual machine). So the last stretch before a request is spent
 * looking for answers; sched_yield leaves the core to the back-end on it whenever that has something to do. */
static const int64_t LOOK = 60000;

// In RECORDS. Times are ns after the start.
struct record {
    int64_t scheduled, sent, first_byte, end;
    uint32_t target, status;
    uint32_t service_us, in_flight;  // as the answer's X-Service-Us and X-In-Flight say; 0: it does not
};

enum state { STATUS_LINE, FIELD, BODY, CHUNK_SIZE, CHUNK_END, TRAILER };

struct connection {
    int fd;
    uint32_t target;
    struct record *record;    // of the request under way; NULL: none
    struct connection *next;  // in the target's list of those without one
    char out[OUT_BYTES];
    size_t out_end, out_sent;
    enum state state;
    char line[LINE_BYTES];  // what has come of the line that `state` waits for
    size_t line_length;
    int64_t rest;  // of the body or chunk; -1: not known
    int chunked;
};

struct target {
    struct sockaddr_in address;
    struct connection *idle;  // the last used first
    int connections;
};

static struct target targets[MOST_TARGETS];
static int target_count;
static const char *request;
static size_t request_length;
static struct record *records;
static const char **paths;
static size_t record_count, answered;
static int64_t start;
static int epoll_fd;

static noreturn void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec - start;
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static struct connection *connect_to(uint32_t index) {
    struct target *target = &targets[index];
    struct connection *connection = calloc(1, sizeof *connection);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
    int one = 1;
    if (++target->connections > MOST_CONNECTIONS)
        fail("target %u: more than %d requests at once", index, MOST_CONNECTIONS);
    connection->target = index;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connection->fd < 0) fail("socket: %s", strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(connection->fd, (struct sockaddr *)&target->address, sizeof target->address) && errno != EINPROGRESS)
        fail("target %u: %s", index, strerror(errno));
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
    return connection;
}

// Writes as much as goes; the rest when the socket is writable, which it is not before it is connected.
static void flush(struct connection *connection) {
    while (connection->out_sent < connection->out_end) {
        ssize_t sent = send(connection->fd, connection->out + connection->out_sent,
                            connection->out_end - connection->out_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) return;
        if (sent < 0) fail("target %u: %s", connection->target, strerror(errno));
        connection->out_sent += (size_t)sent;
    }
}

static void send_request(size_t index) {
    struct record *record = &records[index];
    struct target *target = &targets[record->target];
    struct connection *connection = target->idle;
    if (connection == NULL) connection = connect_to(record->target);
    else target->idle = connection->next;
    int line = snprintf(connection->out, OUT_BYTES, "POST %s HTTP/1.1\r\n", paths[index]);
    if (line < 0 || (size_t)line + request_length > OUT_BYTES) fail("the request is too long");
    memcpy(connection->out + line, request, request_length);
    connection->out_end = (size_t)line + request_length;
    connection->out_sent = 0;
    connection->record = record;
    connection->state = STATUS_LINE;
    connection->rest = -1;
    connection->chunked = 0;
    record->sent = now();
    flush(connection);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static void finish(struct connection *connection) {
    connection->record->end = now();
    connection->record = NULL;
    connection->next = targets[connection->target].idle;
    targets[connection->target].idle = connection;
    answered++;
}

static const char *value_of(const char *line, const char *name) {
    size_t length = strlen(name);
    if (strncasecmp(line, name, length) || line[length] != ':') return NULL;
    return line + length + 1 + strspn(line + length + 1, " ");
}

static void on_field(struct connection *connection, const char *line) {
    struct record *record = connection->record;
    const char *value;
    if ((value = value_of(line, "Content-Length"))) connection->rest = strtoll(value, NULL, 10);
    else if ((value = value_of(line, "Transfer-Encoding"))) connection->chunked = !strcasecmp(value, "chunked");
    else if ((value = value_of(line, "X-Service-Us"))) record->service_us = (uint32_t)strtoul(value, NULL, 10);
    else if ((value = value_of(line, "X-In-Flight"))) record->in_flight = (uint32_t)strtoul(value, NULL, 10);
}

static void on_head_end(struct connection *connection) {
    if (connection->chunked) connection->state = CHUNK_SIZE;
    else if (connection->rest < 0) fail("target %u: an answer without a length", connection->target);
    else if (connection->rest == 0) finish(connection);
    else connection->state = BODY;
}

static void on_line(struct connection *connection) {
    const char *line = connection->line;
    char *end;
    switch (connection->state) {
    case STATUS_LINE:
        connection->record->status = strncmp(line, "HTTP/1.1 ", 9) ? 0 : (uint32_t)strtoul(line + 9, NULL, 10);
        if (connection->record->status != 200) fail("target %u: %s", connection->target, line);
        connection->state = FIELD;
        return;
    case FIELD:
        if (*line) on_field(connection, line);
        else on_head_end(connection);
        return;
    case CHUNK_SIZE:
        connection->rest = strtoll(line, &end, 16);
        if (end == line || connection->rest < 0) fail("target %u: no chunk size: %s", connection->target, line);
        connection->state = connection->rest ? BODY : TRAILER;
        return;
    case CHUNK_END:
        if (*line) fail("target %u: a chunk is longer than it said", connection->target);
        connection->state = CHUNK_SIZE;
        return;
    case TRAILER:
        if (!*line) finish(connection);
        return;
    case BODY:
        return;
    }
}

// Appends to the line; true when it is whole, then without its end.
static int take_line(struct connection *connection, const char *data, size_t length, int whole) {
    char *line = connection->line;
    if (connection->line_length + length >= LINE_BYTES) fail("target %u: a line is too long", connection->target);
    memcpy(line + connection->line_length, data, length);
    connection->line_length += length;
    if (!whole) return 0;
    line[connection->line_length] = 0;
    line[strcspn(line, "\r\n")] = 0;
    connection->line_length = 0;
    return 1;
}

static void on_bytes(struct connection *connection, const char *data, size_t length) {
    while (length) {
        size_t taken;
        if (connection->record == NULL) fail("target %u: bytes that nobody asked for", connection->target);
        if (connection->state == BODY) {
            taken = length < (size_t)connection->rest ? length : (size_t)connection->rest;
            connection->rest -= (int64_t)taken;
            if (connection->rest == 0 && connection->chunked) connection->state = CHUNK_END;
            else if (connection->rest == 0) finish(connection);
        } else {
            const char *end = memchr(data, '\n', length);
            taken = end ? (size_t)(end - data) + 1 : length;
            if (take_line(connection, data, taken, end != NULL)) on_line(connection);
        }
        data += taken;
        length -= taken;
    }
}

static void on_readable(struct connection *connection) {
    static char buffer[1 << 16];
    ssize_t length;
    do {
        length = recv(connection->fd, buffer, sizeof buffer, 0);
        if (length < 0 && errno == EAGAIN) return;
        if (length < 0) fail("target %u: %s", connection->target, strerror(errno));
        if (length == 0) fail("target %u: it closed the connection", connection->target);
        if (connection->record && !connection->record->first_byte) connection->record->first_byte = now();
        on_bytes(connection, buffer, (size_t)length);
    } while (length == sizeof buffer);
}

/* --- the run ------------------------------------------------------------------------------------------------------ */

// Handles what has come; sleeps until something comes, but not beyond LOOK before `at`.
static void wait_until(int64_t at) {
    struct epoll_event events[EVENTS];
    int64_t left = at - now() - LOOK;
    if (left < 0) left = 0;
    struct timespec timeout = {.tv_sec = left / SECOND, .tv_nsec = left % SECOND};
    int count = epoll_pwait2(epoll_fd, events, EVENTS, &timeout, NULL);
    if (count < 0 && errno != EINTR) fail("epoll_pwait2: %s", strerror(errno));
    if (count == 0 && left == 0) sched_yield();
    for (int i = 0; i < count; i++) {
        flush(events[i].data.ptr);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(events[i].data.ptr);
    }
}

static void run(void) {
    size_t next = 0;
    start += now() + LEAD;
    while (answered < record_count) {
        // One at a time: a generator that is late must not leave the answers lying until it has caught up.
        if (next < record_count && records[next].scheduled <= now()) send_request(next++);
        int64_t last = records[record_count - 1].scheduled + LAST_ANSWER;
        if (now() > last) fail("%zu requests were not answered", record_count - answered);
        wait_until(next < record_count ? records[next].scheduled : last);
    }
}

static char *read_file(const char *name, size_t *length) {
    int fd = open(name, O_RDONLY);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts)) fail("%s: %s", name, strerror(errno));
    char *text = malloc((size_t)facts.st_size + 1);
    if (read(fd, text, (size_t)facts.st_size) != facts.st_size) fail("%s: cannot be read", name);
    text[facts.st_size] = 0;
    close(fd);
    *length = (size_t)facts.st_size;
    return text;
}

static void read_schedule(const char *name) {
    size_t length;
    char *text = read_file(name, &length);
    for (char *at = text; (at = strchr(at, '\n')); at++) record_count++;
    records = calloc(record_count, sizeof *records);
    paths = calloc(record_count, sizeof *paths);
    for (size_t i = 0; i < record_count; i++) {
        records[i].scheduled = strtoll(text, &text, 10);
        records[i].target = (uint32_t)strtoul(text, &text, 10);
        if (*text != ' ' || records[i].target >= (uint32_t)target_count) fail("%s: line %zu", name, i + 1);
        paths[i] = ++text;
        text = strchr(text, '\n');
        *text++ = 0;
    }
    if (record_count == 0) fail("%s: no line", name);
}

int main(int count, char **arguments) {
    if (count < 5 || count > 4 + MOST_TARGETS) fail("usage: openloop REQUEST SCHEDULE RECORDS PORT...");
    for (int i = 4; i < count; i++) {
        struct sockaddr_in *address = &targets[target_count++].address;
        address->sin_family = AF_INET;
        address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address->sin_port = htons((uint16_t)atoi(arguments[i]));
    }
    request = read_file(arguments[1], &request_length);
    read_schedule(arguments[2]);
    epoll_fd = epoll_create1(0);
    prctl(PR_SET_TIMERSLACK, 1);  // the default lets each wake-up be 50 us late
    run();
    FILE *file = fopen(arguments[3], "wb");
    if (!file || fwrite(records, sizeof *records, record_count, file) != record_count || fclose(file))
        fail("%s: %s", arguments[3], strerror(errno));
    return 0;
}
