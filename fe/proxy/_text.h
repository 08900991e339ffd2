/* Bytes of HTTP, classified: tokens, field text, targets, hosts, ASCII case.
 *
 * Owns: tables and loops without state that the parsers of fe/proxy share. Never: a decision about a message (that is
 * _head.pyx), memory, Python. The loops have no early exit so that the compiler can use vectors.
 */
#ifndef FE_PROXY_TEXT_H
#define FE_PROXY_TEXT_H

#include <arpa/inet.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The lower-case form of a token character (RFC 9110 5.6.2), 0 for any other byte. */
static const unsigned char fe_token[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*', ['+'] = '+',
    ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|', ['~'] = '~',
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',
    ['5'] = '5', ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9',
    ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h',
    ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p',
    ['Q'] = 'q', ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x',
    ['Y'] = 'y', ['Z'] = 'z',
    ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h',
    ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p',
    ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x',
    ['y'] = 'y', ['z'] = 'z',
};

static inline unsigned char fe_lower(unsigned char c) {
    return (unsigned char)(c - 'A') < 26 ? (unsigned char)(c + 32) : c;
}

/* Text of a field value or a reason phrase: no control character but the tab; bytes above 0x7f pass (obs-text). */
static inline int fe_text_ok(const char *at, ptrdiff_t n) {
    const unsigned char *p = (const unsigned char *)at;
    unsigned char bad = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        bad |= (unsigned char)((p[i] < 0x20) & (p[i] != 0x09)) | (unsigned char)(p[i] == 0x7f);
    return !bad;
}

/* A request target: visible ASCII without `#` (a fragment is never sent) and `\` (which some servers read as `/`). */
static inline int fe_target_ok(const char *at, ptrdiff_t n) {
    const unsigned char *p = (const unsigned char *)at;
    unsigned char bad = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        bad |= (unsigned char)(p[i] < 0x21) | (unsigned char)(p[i] > 0x7e) | (unsigned char)(p[i] == '#')
               | (unsigned char)(p[i] == '\\');
    return !bad;
}

/* `lower` is the lower-case literal that the text has to be, whatever its case. */
static inline int fe_equals(const char *at, ptrdiff_t n, const char *lower, ptrdiff_t m) {
    if (n != m)
        return 0;
    for (ptrdiff_t i = 0; i < n; i++)
        if (fe_lower((unsigned char)at[i]) != (unsigned char)lower[i])
            return 0;
    return 1;
}

static inline int fe_same_name(const char *a, const char *b, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++)
        if (fe_lower((unsigned char)a[i]) != fe_lower((unsigned char)b[i]))
            return 0;
    return 1;
}

static inline int fe_digit(char c) {
    return (unsigned char)(c - '0') < 10;
}

/* The value of a hexadecimal digit, -1 for any other byte. */
static inline int fe_hex(char c) {
    if (fe_digit(c))
        return c - '0';
    c = (char)fe_lower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The length of an IPv6 address in brackets, or -1. */
static inline ptrdiff_t fe_ipv6_length(const char *at, ptrdiff_t n) {
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    ptrdiff_t i = 1;
    while (i < n && i < (ptrdiff_t)sizeof(text) && (fe_hex(at[i]) >= 0 || at[i] == ':' || at[i] == '.'))
        i++;
    if (i >= n || at[i] != ']')
        return -1;
    memcpy(text, at + 1, (size_t)(i - 1));
    text[i - 1] = 0;
    return inet_pton(AF_INET6, text, &address) == 1 ? i + 1 : -1;
}

/* uri-host [":" port] of RFC 9110 7.2, narrowed to what names a host in practice: labels of letters, digits and `-_~`
 * between single dots, one of which may be the last byte, or an IPv6 literal in brackets; a port of up to five digits
 * within range. Returns the host's length without the port, or -1. */
static inline ptrdiff_t fe_host_length(const char *at, ptrdiff_t n) {
    ptrdiff_t i = 0, host;
    long port = 0;
    if (n > 0 && at[0] == '[') {
        i = fe_ipv6_length(at, n);
        if (i < 0)
            return -1;
    } else {
        for (; i < n; i++) {
            unsigned char c = fe_lower((unsigned char)at[i]);
            if (c == '.' ? i == 0 || at[i - 1] == '.'
                         : !(fe_digit((char)c) || (c >= 'a' && c <= 'z') || c == '-' || c == '_' || c == '~'))
                break;
        }
    }
    host = i;
    if (host == 0 || host == n)
        return host ? host : -1;
    if (at[i] != ':' || n - i > 6)
        return -1;
    for (i++; i < n; i++) {
        if (!fe_digit(at[i]))
            return -1;
        port = port * 10 + (at[i] - '0');
    }
    return port <= 65535 ? host : -1;
}

#endif
