/* The page's files: a list, so that no path of a request ever becomes a path of the disk.
 */
#include "cli/demo.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLIENT "node_modules/@electric-sql/client/dist/index.browser.mjs"
#define HTML   "text/html; charset=utf-8"
#define CSS    "text/css; charset=utf-8"
#define JS     "text/javascript; charset=utf-8"

/* The server takes a path's last slash away: /demo/ comes as /demo. */
static const struct page_file {
    const char *path;
    const char *file;
    const char *content_type;
} files[] = {
    {"/demo", "index.html", HTML},
    {"/demo/demo.css", "demo.css", CSS},
    {"/demo/demo.js", "demo.js", JS},
    {"/demo/" CLIENT, CLIENT, JS},
    {"/demo/" CLIENT ".map", CLIENT ".map", "application/json"},
};

static void answer(struct http_extra_response *response, int status, const char *text)
{
    buf_reset(&response->body, 0);
    response->status = status;
    response->content_type = "text/plain; charset=utf-8";
    buf_puts(&response->body, text);
}

static int read_file(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        if (fd >= 0)
            close(fd);
        return ERR_NOT_FOUND;
    }
    ssize_t n = 1;
    while (n > 0) {
        char *room = buf_reserve(out, 65536);
        n = room ? read(fd, room, 65536) : -1;
        if (n > 0)
            out->len += (size_t)n;
        else if (n < 0 && room && errno == EINTR)
            n = 1;
    }
    close(fd);
    return n < 0 ? ERR_IO : 0;
}

void demo_page_get(const struct demo *demo, const char *path,
                   struct http_extra_response *response)
{
    const struct page_file *found = NULL;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]) && !found; i++)
        if (strcmp(path, files[i].path) == 0)
            found = &files[i];
    if (!found) {
        answer(response, 404, "Not found");
        return;
    }
    char full[PATH_MAX * 2];
    snprintf(full, sizeof(full), "%s/%s", demo->page_dir, found->file);
    response->status = 200;
    response->content_type = found->content_type;
    if (read_file(full, &response->body) == 0)
        return;
    answer(response, 404,
           "The file is missing: install the demo's npm package with "
           "`npm ci` in web/demo\n");
}

/* --- Where they are --- */

static bool has_page(const char *dir)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/index.html", dir);
    return access(path, R_OK) == 0;
}

bool demo_has_client(const char *page_dir)
{
    char path[PATH_MAX * 2];
    snprintf(path, sizeof(path), "%s/" CLIENT, page_dir);
    return access(path, R_OK) == 0;
}

int demo_find_page(const char *given, char *out, size_t room, struct err *err)
{
    /* Installed; in a build folder of the checkout, two deep or one; in the checkout. */
    static const char *const places[] = {"/../share/coulomb/demo", "/../../web/demo",
                                         "/../web/demo"};
    if (given) {
        snprintf(out, room, "%s", given);
        return has_page(out)
                   ? 0
                   : err_set(err, ERR_NOT_FOUND,
                             "--page-dir %s: there is no index.html in it", given);
    }
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
        snprintf(out, room, "%s%s", self, places[i]);
        if (has_page(out))
            return 0;
    }
    snprintf(out, room, "web/demo");
    if (has_page(out))
        return 0;
    return err_set(
        err, ERR_NOT_FOUND,
        "the demo page's files are neither near %s nor in ./web/demo: say where "
        "with --page-dir",
        self);
}
