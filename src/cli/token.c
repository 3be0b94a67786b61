/* `coulomb token`: exchanges the user's token for one that reads a shape, and prints it. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/remote.h"

struct asking {
    bool done;
    int code;
};

static void on_token(coulomb_server *server, int code, const char *token,
                     const char *message, void *arg)
{
    struct asking *a = arg;

    (void)server;
    if (code == COULOMB_OK)
        printf("%s\n", token);
    else
        fprintf(stderr, "coulomb: %s\n", message);
    a->code = code == COULOMB_OK && fflush(stdout) == 0 ? CLI_OK : CLI_FAIL;
    a->done = true;
}

static int ask(coulomb_client *c, const struct remote *r, struct err *err)
{
    struct asking a = {.code = CLI_FAIL};
    coulomb_server *server = NULL;
    coulomb_server_options o;

    coulomb_options_init(&o, sizeof(o));
    o.url = r->url;
    o.auth_token = r->token;
    o.retry_ms = 5000;
    int code = coulomb_server_new(c, &o, &server);
    if (code == COULOMB_OK)
        code = coulomb_server_shape_token(server, r->table, r->params, r->param_count,
                                          on_token, &a);
    if (code == COULOMB_OK)
        remote_loop(c, &a.done);
    else
        err_set(err, ERR_INVALID, "%s", coulomb_last_error(c)->message);
    coulomb_server_release(server);
    return code == COULOMB_OK ? a.code : cli_fail(CLI_USAGE, err);
}

int cli_token(int count, char **args, char **env)
{
    coulomb_client *c = NULL;
    struct remote r;
    struct err err = {0};
    int code;

    if (cli_wants_help(count, args))
        return cli_print_help("token");
    int rc = remote_read(&r, "token", REMOTE_GATEKEEPER, count, args, env, &err);
    if (rc == 0 && !r.token)
        rc = err_set(&err, ERR_INVALID,
                     "whose? Set COULOMB_TOKEN to the user's token, or give --token");
    if (rc != 0)
        return cli_fail(CLI_USAGE, &err);
    if (remote_client(&c, &err) != 0)
        return cli_fail(CLI_FAIL, &err);
    code = ask(c, &r, &err);
    coulomb_client_close(c);
    return code;
}
