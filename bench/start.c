/* bench_start PORT PATH PROGRAM [ARGUMENT…]: runs the program and prints the milliseconds from its
 * exec until GET PATH is answered with 200, and its process id. The program goes on. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"

#define GIVE_UP_S 30

/* 200 was the answer. Anything else, refused connections too, is "not yet". */
static bool answers(int port, const char *path)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    char text[512];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int n =
        snprintf(text, sizeof(text),
                 "GET %s HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n", path);
    bool ok = false;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)(void *)&to, sizeof(to)) == 0 &&
        send(fd, text, (size_t)n, MSG_NOSIGNAL) == n) {
        ssize_t got = recv(fd, text, sizeof(text) - 1, 0);

        ok = got > 12 && memcmp(text + 9, "200", 3) == 0;
    }
    close(fd);
    return ok;
}

int main(int argc, char **argv)
{
    double start;
    pid_t child;
    int port;

    if (argc < 4)
        die("usage: bench_start PORT PATH PROGRAM [ARGUMENT...]");
    port = (int)strtol(argv[1], NULL, 10);
    start = now_s();
    child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, 0);
        dup2(null, 1);
        execv(argv[3], argv + 3);
        die("can't run %s: %s", argv[3], strerror(errno));
    }
    while (!answers(port, argv[2])) {
        if (now_s() - start > GIVE_UP_S)
            die("no 200 within %d s", GIVE_UP_S);
        usleep(200);
    }
    printf("%.3f %d\n", (now_s() - start) * 1e3, (int)child);
    return 0;
}
