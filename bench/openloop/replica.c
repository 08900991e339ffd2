/* A back-end whose answers take as long as their paths say, on several ports at once.
 *
 *     replica PORT...
 *
 * /?us=N                  answers after N microseconds. X-Service-Us: how long it really took, from the request's last
 *                         byte to the answer; X-In-Flight: how many requests the port had when this one came
 * /?events=N&every_us=M   answers with N server-sent events, M microseconds apart, each "data: NS": CLOCK_MONOTONIC
 *                         when it was sent
 *
 * Owns: those times; a timerfd for each connection, since epoll's own milliseconds are too coarse. Never: deciding
 * whether a port has too many requests (bench/macro/queue.py). Requests need a Content-Length; what is not understood
 * is closed. Ends with SIGTERM.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    MOST_DESCRIPTORS = 20000,
    IN_BYTES = 8192,  // a whole request
    OUT_BYTES = 512,
    BACKLOG = 1024,
    EVENTS = 64,
};
static const int64_t SECOND = 1000000000;

struct port {
    int fd;
    unsigned in_flight;
};

struct connection {
    int fd, timer;
    struct port *port;
    char in[IN_BYTES];
    size_t in_length;
    int busy;            // with a request: counted in the port's in_flight
    unsigned in_flight;  // of the port, when it came
    int64_t since;       // ns
    unsigned long events;
};

// By descriptor; a connection by its socket's and by its timer's.
static struct port *ports[MOST_DESCRIPTORS];
static struct connection *connections[MOST_DESCRIPTORS];
static int epoll_fd;

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd < 0 || fd >= MOST_DESCRIPTORS || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) fail("descriptor");
}

static void drop(struct connection *connection) {
    if (connection->busy) connection->port->in_flight--;
    connections[connection->fd] = connections[connection->timer] = NULL;
    close(connection->fd);
    close(connection->timer);
    free(connection);
}

// Answers are far smaller than a socket's buffer: one that does not go at once is lost, and the benchmark sees it.
static int put(struct connection *connection, const char *text, int length) {
    if (send(connection->fd, text, (size_t)length, MSG_NOSIGNAL) == length) return 1;
    drop(connection);
    return 0;
}

static void set_timer(struct connection *connection, unsigned long us, int again) {
    struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000}};
    if (again) spec.it_interval = spec.it_value;
    timerfd_settime(connection->timer, 0, &spec, NULL);
}

static void end(struct connection *connection) {
    connection->busy = 0;
    connection->port->in_flight--;
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static void answer(struct connection *connection) {
    char text[OUT_BYTES];
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n"
                          "X-Service-Us: %ld\r\nX-In-Flight: %u\r\n\r\n{\"ok\": true}",
                          (long)((now() - connection->since) / 1000), connection->in_flight);
    end(connection);  // before whoever reads the answer can send the next request
    put(connection, text, length);
}

static void begin_events(struct connection *connection, unsigned long every_us) {
    // The last field is for nginx, which else collects an answer before it passes it on.
    static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                               "Transfer-Encoding: chunked\r\nX-Accel-Buffering: no\r\n\r\n";
    if (put(connection, HEAD, sizeof HEAD - 1)) set_timer(connection, every_us, 1);
}

static void send_event(struct connection *connection) {
    char event[64], chunk[OUT_BYTES];
    int size = snprintf(event, sizeof event, "data: %lld\n\n", (long long)now());
    int last = --connection->events == 0;
    int length = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n%s", size, event, last ? "0\r\n\r\n" : "");
    if (last) {
        set_timer(connection, 0, 0);
        end(connection);
    }
    put(connection, chunk, length);
}

static void on_timer(struct connection *connection) {
    uint64_t times;
    if (read(connection->timer, &times, sizeof times) != sizeof times) return;
    if (connection->events) send_event(connection);
    else answer(connection);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static unsigned long parameter(const char *line, const char *name) {
    const char *found = strstr(line, name);
    return found ? strtoul(found + strlen(name), NULL, 10) : 0;
}

static void begin(struct connection *connection) {
    unsigned long us = parameter(connection->in, "?us="), every_us = parameter(connection->in, "&every_us=");
    connection->since = now();
    connection->busy = 1;
    connection->in_flight = ++connection->port->in_flight;
    connection->in_length = 0;
    connection->events = parameter(connection->in, "?events=");
    if (connection->events && every_us) begin_events(connection, every_us);
    else if (us) set_timer(connection, us, 0);
    else answer(connection);
}

static void on_readable(struct connection *connection) {
    char *in = connection->in;
    ssize_t got = recv(connection->fd, in + connection->in_length, IN_BYTES - 1 - connection->in_length, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 || connection->busy) {
        drop(connection);
        return;
    }
    connection->in_length += (size_t)got;
    in[connection->in_length] = 0;
    const char *head_end = strstr(in, "\r\n\r\n");
    if (!head_end) return;
    const char *field = strcasestr(in, "\r\nContent-Length:");
    size_t whole = (size_t)(head_end - in) + 4;  // a probe's GET has no body
    if (field && field < head_end) whole += strtoul(field + strlen("\r\nContent-Length:"), NULL, 10);
    if (connection->in_length == whole) begin(connection);
    else if (connection->in_length > whole) drop(connection);
}

static void accept_from(struct port *port) {
    int one = 1;
    int fd = accept4(port->fd, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    struct connection *connection = calloc(1, sizeof *connection);
    connection->fd = fd;
    connection->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    connection->port = port;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(fd);
    watch(connection->timer);
    connections[fd] = connections[connection->timer] = connection;
}

static void listen_on(uint16_t number) {
    struct port *port = calloc(1, sizeof *port);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(number)};
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    port->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(port->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(port->fd, (struct sockaddr *)&address, sizeof address) || listen(port->fd, BACKLOG)) fail("listen");
    watch(port->fd);
    ports[port->fd] = port;
}

int main(int count, char **arguments) {
    if (count < 2) {
        fputs("usage: replica PORT...\n", stderr);
        return 1;
    }
    epoll_fd = epoll_create1(0);
    for (int i = 1; i < count; i++) listen_on((uint16_t)atoi(arguments[i]));
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            // An event for a connection that was closed within this batch finds none, or one with nothing to read.
            if (ports[fd]) accept_from(ports[fd]);
            else if (connections[fd] == NULL) continue;
            else if (connections[fd]->timer == fd) on_timer(connections[fd]);
            else on_readable(connections[fd]);
        }
    }
}
