/* base64url (RFC 4648, 5) without padding, as JSON Web Tokens have it. */
#ifndef COULOMB_BASE_BASE64URL_H
#define COULOMB_BASE_BASE64URL_H

#include <stdbool.h>

#include "base/buf.h"

bool base64url_is_digit(char c);
/* Appends the bytes. Strict: no padding, no blanks, no stray bits. False: it is none, or out failed. */
bool base64url_decode(struct slice in, struct buf *out);

#endif
