/* Where the programs of Postgres are, and where a cluster belongs. */
#include "cli/cluster.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define INSTALL_DIR  "/usr/lib/postgresql"
#define OLDEST_MAJOR 14

/* What a program prints on its first line; false when it does not run. */
static bool first_line(const char *program, const char *argument, char *out, size_t room)
{
    int fds[2];
    if (pipe(fds) != 0)
        return false;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        execlp(program, program, argument, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    FILE *in = fdopen(fds[0], "r");
    bool ok = pid > 0 && in && fgets(out, (int)room, in);
    if (in)
        fclose(in);
    int status = 1;
    if (pid > 0)
        (void)waitpid(pid, &status, 0);
    if (ok)
        out[strcspn(out, "\n")] = '\0';
    return ok && WIFEXITED(status);
}

/* Both programs are there, of a version that will do. */
static bool usable(const char *dir)
{
    char program[PATH_MAX + 16];
    char line[128];
    snprintf(program, sizeof(program), "%s/initdb", dir);
    if (access(program, X_OK) != 0)
        return false;
    snprintf(program, sizeof(program), "%s/postgres", dir);
    if (access(program, X_OK) != 0 ||
        !first_line(program, "--version", line, sizeof(line)))
        return false;
    const char *number = strpbrk(line, "0123456789");
    return number && strtol(number, NULL, 10) >= OLDEST_MAJOR;
}

static bool find_installed(char *out, size_t room)
{
    long best = OLDEST_MAJOR - 1;
    DIR *dir = opendir(INSTALL_DIR);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        char path[PATH_MAX];
        long version = strtol(entry->d_name, NULL, 10);
        snprintf(path, sizeof(path), INSTALL_DIR "/%s/bin", entry->d_name);
        if (version <= best || !usable(path))
            continue;
        best = version;
        snprintf(out, room, "%s", path);
    }
    if (dir)
        closedir(dir);
    return best >= OLDEST_MAJOR;
}

static bool find_in_path(char *out, size_t room)
{
    const char *p = getenv("PATH");
    while (p && *p) {
        size_t len = strcspn(p, ":");
        snprintf(out, room, "%.*s", (int)len, p);
        if (len > 0 && len < room && usable(out))
            return true;
        p += len;
        p += *p == ':';
    }
    return false;
}

int cluster_find_programs(char *out, size_t room, struct err *err)
{
    if (find_installed(out, room))
        return 0;
    if (first_line("pg_config", "--bindir", out, room) && usable(out))
        return 0;
    if (find_in_path(out, room))
        return 0;
    return err_set(err, ERR_NOT_FOUND,
                   "there is no Postgres server of version %d or later in " INSTALL_DIR
                   ", beside pg_config or in PATH. On Debian: apt-get install postgresql",
                   OLDEST_MAJOR);
}

int cluster_default_dir(bool root, const char *home, const char *xdg_data_home, char *out,
                        size_t room, struct err *err)
{
    int len;
    if (root)
        len = snprintf(out, room, "/var/lib/coulomb-dev");
    else if (xdg_data_home && xdg_data_home[0] == '/')
        len = snprintf(out, room, "%s/coulomb-dev", xdg_data_home);
    else if (home && home[0] == '/')
        len = snprintf(out, room, "%s/.local/share/coulomb-dev", home);
    else
        return err_set(err, ERR_INVALID,
                       "HOME is not set, so there is no folder to keep the data in: use "
                       "--data-dir");
    if (len < 0 || (size_t)len >= room)
        return err_set(err, ERR_LIMIT, "the path of the home folder is too long");
    return 0;
}
