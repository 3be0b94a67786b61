/* Lines of COPY … TO STDOUT in text format to rows of values.
 *
 * https://www.postgresql.org/docs/15/sql-copy.html ("Text Format")
 *
 *   line   := field { TAB field } [ LF ]
 *   field  := "\N" (null) | { byte | escape }
 *   escape := "\b" | "\f" | "\n" | "\r" | "\t" | "\v"
 *           | "\" octal{1,3} | "\x" hex{1,2} | "\" any other byte, which stands for
 * itself */
#ifndef COULOMB_SERVER_SNAPSHOT_COPYTEXT_H
#define COULOMB_SERVER_SNAPSHOT_COPYTEXT_H

#include "base/err.h"
#include "server/row/value.h"

/* Splits one line into count fields and unescapes them in place: field i becomes
 * row[columns[i]], pointing into line. ERR_CORRUPT when the line has fewer or more
 * fields, or ends within an escape. */
int copytext_parse(char *line, size_t len, const uint16_t *columns, size_t count,
                   struct value *row, struct err *err);

#endif
