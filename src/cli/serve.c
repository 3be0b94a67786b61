/* `coulomb serve`: settings, then a server until SIGTERM. */
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int read_settings(struct settings *s, int count, char **args, char **env,
                         struct err *err)
{
    settings_init(s);
    for (int at = 0; at < count;) {
        int rc = settings_read_flag(s, args, count, &at, err);
        if (rc == ERR_NOT_FOUND)
            return err_set(
                err, ERR_INVALID,
                "%.80s: `coulomb serve` takes flags only; `coulomb help serve` "
                "lists them",
                args[at]);
        if (rc < 0)
            return rc;
    }
    return settings_read_env(s, env, err);
}

static void log_start(const struct log *log, const struct settings *s, char **env)
{
    settings_log_ignored(log, env);
    const char *features = s->values[SETTING_FEATURE_FLAGS].text;
    if (features)
        log_event(log, LOG_WARNING, "setting.ignored",
                  LOG_TEXT("name", s->values[SETTING_FEATURE_FLAGS].name),
                  LOG_TEXT("value", features),
                  LOG_TEXT("reason", "no feature of that name is known"));
}

int cli_serve(int count, char **args, char **env)
{
    if (cli_wants_help(count, args))
        return cli_print_help("serve");
    struct err err = {0};
    struct settings settings;
    struct server_config config;
    int rc = read_settings(&settings, count, args, env, &err);
    if (rc == 0)
        rc = config_build(&settings, &config, &err);
    if (rc < 0)
        return cli_fail(CLI_USAGE, &err);

    struct log log = {STDERR_FILENO, settings.values[SETTING_LOG_LEVEL].v.level};
    log_start(&log, &settings, env);
    run_prepare(&log);
    config.log = &log;
    struct run run = {.config = &config};
    rc = run_server(&run, &err);
    if (rc < 0)
        return cli_fail(rc == ERR_INVALID ? CLI_USAGE : CLI_FAIL, &err);
    return CLI_OK;
}
