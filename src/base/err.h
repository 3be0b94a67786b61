/* Detail of an expected failure: what, where, what would be right.
 *
 * Functions return 0 or a negative ERR_ code and fill the caller's struct err when one is
 * given (NULL is allowed everywhere). A message is one sentence for people, never a
 * secret. */
#ifndef COULOMB_BASE_ERR_H
#define COULOMB_BASE_ERR_H

#include <stdarg.h>

enum err_code {
    ERR_NONE = 0,
    ERR_MEMORY = -1,    /* an allocation failed */
    ERR_LIMIT = -2,     /* a stated maximum was reached */
    ERR_INVALID = -3,   /* bad input: fix the caller */
    ERR_IO = -4,        /* the disk or a descriptor failed */
    ERR_CORRUPT = -5,   /* stored bytes do not check out */
    ERR_NOT_FOUND = -6, /* no such thing */
    ERR_EXISTS = -7,    /* already there */
    ERR_RETRY = -8,     /* transient: the same call may work later */
    ERR_FATAL = -9,     /* a retry can't cure it: a person must act */
    ERR_CANCELLED = -10,
    ERR_DB = -11,         /* Postgres refused: see sqlstate */
    ERR_UNSUPPORTED = -12 /* may be right, but nothing here can do it */
};

struct err {
    int code;          /* an err_code */
    int http_status;   /* 0 when none is implied */
    char sqlstate[6];  /* "" when not from Postgres */
    char message[768]; /* terminated, cut at the end when longer */
};

/* Fills *err (when not NULL) and returns code. http_status and sqlstate are cleared. An
 * argument may point into *err, so that err_set(err, err->code, "x: %s", err->message)
 * wraps what is there. */
int err_set(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int err_vset(struct err *err, int code, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
/* err_set with ": <strerror(errnum)>" behind it. */
int err_errno(struct err *err, int code, int errnum, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What clang's analyzer can't see for itself: these return their code, and so not 0. */
#ifdef __clang_analyzer__
#define err_set(err, code, ...)   (err_set((err), (code), __VA_ARGS__), (code))
#define err_vset(err, code, ...)  (err_vset((err), (code), __VA_ARGS__), (code))
#define err_errno(err, code, ...) (err_errno((err), (code), __VA_ARGS__), (code))
#endif
void err_clear(struct err *err);
/* A fixed lower-case name for logs and metric labels, such as "retry". */
const char *err_name(int code);

#endif
