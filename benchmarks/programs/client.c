/* Sends one message over and over, each on a connection of its own: connect, write, half-close, wait for the server's FIN.
 *
 * client HOST PORT THREADS MILLISECONDS MESSAGE-FILE; prints how many messages went and the nanoseconds it took.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in server;
static char *message;
static size_t size;
static long long deadline;

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void one(unsigned number) {
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connection < 0) fail("socket");
#ifdef __linux__
    /* A closed connection keeps its port for a minute; 100 addresses of this machine have ports enough. */
    struct sockaddr_in self = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000100 + number % 100)};
    int yes = 1;
    setsockopt(connection, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &yes, sizeof yes);
    if (bind(connection, (struct sockaddr *)&self, sizeof self) < 0) fail("bind");
#endif
    if (connect(connection, (struct sockaddr *)&server, sizeof server) < 0) fail("connect");
    for (size_t sent = 0; sent < size;) {
        ssize_t part = send(connection, message + sent, size - sent, 0);
        if (part < 0) fail("send");
        sent += part;
    }
    if (shutdown(connection, SHUT_WR) < 0) fail("shutdown");
    char rest[4096];
    ssize_t part;
    while ((part = recv(connection, rest, sizeof rest, 0)) > 0) {}
    if (part < 0) fail("recv");
    close(connection);
}

static void *run(void *first) {
    unsigned number = (unsigned)(size_t)first * 7919;
    long sent = 0;
    while (now() < deadline) {
        one(number++);
        sent++;
    }
    return (void *)sent;
}

int main(int count, char **arguments) {
    if (count != 6) return 2;
    server.sin_family = AF_INET;
    inet_pton(AF_INET, arguments[1], &server.sin_addr);
    server.sin_port = htons(atoi(arguments[2]));
    int threads = atoi(arguments[3]);
    FILE *file = fopen(arguments[5], "rb");
    if (!file) fail(arguments[5]);
    message = malloc(1 << 24);
    size = fread(message, 1, 1 << 24, file);
    long long start = now(), sent = 0;
    deadline = start + atoll(arguments[4]) * 1000000;
    pthread_t ids[64];
    for (long n = 0; n < threads && n < 64; n++) pthread_create(&ids[n], NULL, run, (void *)n);
    for (int n = 0; n < threads && n < 64; n++) {
        void *part;
        pthread_join(ids[n], &part);
        sent += (long)part;
    }
    printf("%lld %lld\n", sent, now() - start);
    return 0;
}
