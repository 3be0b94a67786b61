/* `coulomb help`, --help, --version, and the settings as text: from the tables. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/settings.h"
#include "coulomb_version.h"

#define TEXT_MAX   (256 * 1024)
#define LINE_WIDTH 78
#define INDENT     6

static const char serve_help[] =
    "usage: coulomb serve [--FLAG VALUE]...\n"
    "\n"
    "Syncs tables of a Postgres database to clients over HTTP. Every setting is an\n"
    "environment variable and a flag; a flag wins. DATABASE_URL is required, and one of\n"
    "ELECTRIC_SECRET and ELECTRIC_INSECURE:\n"
    "\n"
    "  DATABASE_URL=postgresql://me:secret@localhost/app coulomb serve --insecure\n"
    "\n"
    "Postgres needs wal_level=logical, the user the REPLICATION attribute and, unless\n"
    "tables are published by hand, ownership of the tables. SIGTERM and SIGINT end it\n"
    "within a second. Exit code: 0 after a signal, 1 when it can't go on, 2 when a\n"
    "setting is wrong.\n"
    "\n";

static const char dev_help[] =
    "usage: coulomb dev [--data-dir DIR] [--port N] [--page-dir DIR] [--log-level "
    "LEVEL]\n"
    "\n"
    "Starts a Postgres cluster of its own, makes a demo schema, serves it on 127.0.0.1\n"
    "without a secret, and shows a live page at /demo/. Data are kept in DIR between\n"
    "runs; Postgres ends with the server.\n"
    "\n"
    "  --data-dir DIR    cluster, logs and shapes: $XDG_DATA_HOME/coulomb-dev or\n"
    "                    ~/.local/share/coulomb-dev; as root /var/lib/coulomb-dev, "
    "owned\n"
    "                    by the user postgres (Postgres does not run as root)\n"
    "  --port N          the port; 3000 or the next free one when not given, 0 for any\n"
    "  --page-dir DIR    the page's files, when not beside the program\n"
    "  --log-level LEVEL debug, info, warning or error; the log goes to stderr\n";

static const char status_help[] =
    "usage: coulomb status [--url URL] [--metrics-url URL]\n"
    "\n"
    "Asks a running server whether what it serves follows the database; if not,\n"
    "why; and as of when what it serves was complete. A server with a secret tells\n"
    "the reason only when ELECTRIC_SECRET is set here too. With --metrics-url also\n"
    "what its metrics say (the server's ELECTRIC_PROMETHEUS_PORT).\n"
    "\n"
    "  --url URL          default http://127.0.0.1:3000\n"
    "  --metrics-url URL  such as http://127.0.0.1:9090\n"
    "\n"
    "Exit code: 0 active, 1 not active (yet), 2 not reached.\n";

static const char tail_help[] =
    "usage: coulomb tail TABLE [--where CLAUSE] [--param N=VALUE]... [--columns A,B]\n"
    "                    [--once] [--json] [--url URL] [--secret SECRET]\n"
    "       coulomb tail TABLE --gatekeeper [--param NAME=VALUE]... [--token TOKEN] ...\n"
    "\n"
    "Prints a shape and what changes in it: + a row, ~ what an update changed, - a\n"
    "deleted row, = when the beginning is over, ! when it begins anew.\n"
    "\n"
    "  coulomb tail todos --where 'owner = $1' --param 1=amira\n"
    "\n"
    "  --once             ends when it is up to date\n"
    "  --json             an object for each message, with key, txids and LSN\n"
    "  --gatekeeper       the user's token is exchanged for the shape's; the parameters\n"
    "                     are those that the authorising function gets\n"
    "  --url URL          of the server; default http://127.0.0.1:3000\n"
    "  --secret SECRET    or ELECTRIC_SECRET\n"
    "  --token TOKEN      or COULOMB_TOKEN (others can see a command's arguments)\n"
    "\n"
    "Exit code: 0 it ended as asked, 1 it failed, 2 the arguments make no sense.\n";

static const char write_help[] =
    "usage: coulomb put TABLE COLUMN=VALUE... [--token TOKEN] [--url URL] [--secret "
    "SECRET]\n"
    "       coulomb patch TABLE KEY=VALUE COLUMN=VALUE... [same flags]\n"
    "       coulomb delete TABLE KEY=VALUE [same flags]\n"
    "\n"
    "Writes one row as an app does: seen here at once, sent to the server under the\n"
    "user's role, and settled when it came back by the table's shape; prints when it\n"
    "reached each of these states. COLUMN:=JSON gives JSON, and null.\n"
    "\n"
    "  coulomb put todos id=7 title='oats' && coulomb patch todos id=7 done=true\n"
    "\n"
    "  --token TOKEN      or COULOMB_TOKEN; others can see a command's arguments\n"
    "  --secret SECRET    or ELECTRIC_SECRET: of the server, to read the shape\n"
    "  --url URL          of the server; default http://127.0.0.1:3000\n"
    "\n"
    "The server needs COULOMB_WRITE_ROLES. Exit code: 0 written, 1 it was not, 2 the\n"
    "arguments make no sense.\n";

static const char token_help[] =
    "usage: coulomb token TABLE [--param NAME=VALUE]... [--token TOKEN] [--url URL]\n"
    "\n"
    "Exchanges a user's token (COULOMB_TOKEN) for one that reads the shape which the\n"
    "server grants for the table and these parameters, and prints it:\n"
    "\n"
    "  curl -H \"authorization: Bearer $(coulomb token messages --param "
    "conversation=c1)\" \\\n"
    "      'http://127.0.0.1:3000/shape?offset=-1'\n";

static const char help_help[] = "usage: coulomb help [COMMAND | settings [--markdown]]\n";

static void put_usage(struct buf *out)
{
    buf_puts(out, "Coulomb syncs Postgres tables to clients over HTTP.\n\n"
                  "usage: coulomb COMMAND [--FLAG VALUE]...\n\n");
#define X(name, function, line) buf_printf(out, "  %-8s %s\n", #name, line);
    CLI_COMMANDS(X)
#undef X
    buf_puts(out, "\n`coulomb help COMMAND` says more, `coulomb help settings` lists all "
                  "settings,\n`coulomb --version` prints the version.\n");
}

/* --- The settings --- */

/* Words of text, wrapped and indented. */
static void put_wrapped(struct buf *out, const char *text)
{
    size_t column = 0;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column == 0 || column + 1 + word > LINE_WIDTH) {
            buf_printf(out, "%s%*s", column ? "\n" : "", INDENT, "");
            column = INDENT;
        } else {
            buf_putc(out, ' ');
            column++;
        }
        buf_put(out, text, word);
        column += word;
        text += word;
        text += *text == ' ';
    }
    buf_putc(out, '\n');
}

void settings_put_help(struct buf *out)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting_info *info = setting_info((enum setting_id)i);
        if (i == 0 || info->group != setting_info((enum setting_id)(i - 1))->group)
            buf_printf(out, "%s%s\n\n", i ? "\n" : "", setting_group_title(info->group));
        buf_printf(out, "  %s, --%s %s\n", info->env, info->flag,
                   setting_kind_argument(info->kind));
        put_wrapped(out, info->help);
        if (info->fallback)
            buf_printf(out, "%*sDefault: %s\n", INDENT, "", info->fallback);
    }
}

static void put_markdown_row(struct buf *out, const struct setting_info *info)
{
    buf_printf(out, "| `%s`<br>`--%s` | %s | ", info->env, info->flag,
               setting_kind_argument(info->kind));
    if (info->fallback)
        buf_printf(out, "`%s`", info->fallback);
    buf_printf(out, " | %s", info->help);
    if (info->older_env)
        buf_printf(out, " Also read as `%s`.", info->older_env);
    buf_puts(out, " |\n");
}

static void put_markdown_kinds(struct buf *out)
{
    static const char *const seen_once[] = {
#define X(id, argument, right) argument,
        SETTING_KINDS(X)
#undef X
    };
    buf_puts(out, "\n## Values\n\n| written | is |\n|---|---|\n");
    for (size_t i = 0; i < sizeof(seen_once) / sizeof(seen_once[0]); i++)
        if (strcmp(seen_once[i], "WORD") != 0)
            buf_printf(out, "| %s | %s |\n", seen_once[i],
                       setting_kind_right((enum setting_kind)i));
}

static void put_markdown_ignored(struct buf *out)
{
    buf_puts(out,
             "\n## Accepted without effect\n\n"
             "These names are known from Electric or come from the surroundings. They "
             "are logged at the start\nand change nothing; any other name that begins "
             "with `ELECTRIC_` or `COULOMB_` stops the\nserver, since it is most likely "
             "a misspelt one.\n\n"
             "| name | why |\n|---|---|\n");
#define X(name, level, why) buf_puts(out, "| `" name "` | " why " |\n");
    SETTINGS_IGNORED(X)
#undef X
}

void settings_put_markdown(struct buf *out)
{
    buf_puts(
        out,
        "# Settings of `coulomb serve`\n\n"
        "<!-- Generated by `coulomb help settings --markdown`. Edit "
        "src/cli/settings.h instead. -->\n\n"
        "Each setting is an environment variable and a flag. A flag wins over the "
        "environment; an\nempty variable counts as not set; a BOOL flag alone means "
        "true. A value that makes no sense,\nor two that contradict each other, stop "
        "the server with exit code 2 and a sentence.\n");
    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting_info *info = setting_info((enum setting_id)i);
        if (i == 0 || info->group != setting_info((enum setting_id)(i - 1))->group)
            buf_printf(out,
                       "\n## %s\n\n| setting | value | default | meaning |\n"
                       "|---|---|---|---|\n",
                       setting_group_title(info->group));
        put_markdown_row(out, info);
    }
    put_markdown_kinds(out);
    put_markdown_ignored(out);
}

/* --- Printing --- */

static int print(struct buf *text)
{
    int failed = text->failed || fwrite(text->ptr, 1, text->len, stdout) != text->len ||
                 fflush(stdout) != 0;
    buf_fini(text);
    return failed ? CLI_FAIL : CLI_OK;
}

int cli_print_help(const char *command)
{
    struct buf text;
    buf_init(&text, TEXT_MAX);
    if (strcmp(command, "serve") == 0) {
        buf_puts(&text, serve_help);
        settings_put_help(&text);
    } else if (strcmp(command, "settings") == 0) {
        settings_put_help(&text);
    } else if (strcmp(command, "dev") == 0) {
        buf_puts(&text, dev_help);
    } else if (strcmp(command, "status") == 0) {
        buf_puts(&text, status_help);
    } else if (strcmp(command, "tail") == 0) {
        buf_puts(&text, tail_help);
    } else if (strcmp(command, "put") == 0 || strcmp(command, "patch") == 0 ||
               strcmp(command, "delete") == 0) {
        buf_puts(&text, write_help);
    } else if (strcmp(command, "token") == 0) {
        buf_puts(&text, token_help);
    } else if (strcmp(command, "help") == 0) {
        buf_puts(&text, help_help);
    } else {
        buf_fini(&text);
        fprintf(stderr,
                "coulomb: there is no command \"%.40s\"; `coulomb help` lists them\n",
                command);
        return CLI_USAGE;
    }
    return print(&text);
}

int cli_help(int count, char **args, char **env)
{
    (void)env;
    struct buf text;
    if (count == 2 && strcmp(args[0], "settings") == 0 &&
        strcmp(args[1], "--markdown") == 0) {
        buf_init(&text, TEXT_MAX);
        settings_put_markdown(&text);
        return print(&text);
    }
    if (count > 1) {
        fputs(help_help, stderr);
        return CLI_USAGE;
    }
    if (count == 1 && !cli_wants_help(count, args))
        return cli_print_help(args[0]);
    buf_init(&text, TEXT_MAX);
    put_usage(&text);
    return print(&text);
}

int cli_wants_help(int count, char **args)
{
    for (int i = 0; i < count; i++)
        if (strcmp(args[i], "--help") == 0 || strcmp(args[i], "-h") == 0)
            return 1;
    return 0;
}

int cli_fail(int code, const struct err *err)
{
    fprintf(stderr, "coulomb: %s\n", err->message);
    return code;
}

int cli_main(int argc, char **argv, char **env)
{
    static const struct command {
        const char *name;
        int (*run)(int count, char **args, char **env);
    } commands[] = {
#define X(name, function, line) {#name, function},
        CLI_COMMANDS(X)
#undef X
    };
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        int code = cli_help(0, NULL, env);
        return argc < 2 ? CLI_USAGE : code;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("coulomb %s\n", COULOMB_VERSION);
        return CLI_OK;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2, env);
    return cli_print_help(argv[1]);
}
