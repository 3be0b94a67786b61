#!/usr/bin/env bash
# An optimistic update, its handler's answer and the sync that confirms it, over 100,000 rows with one
# subscription: libcoulomb and @tanstack/db, alternating.

ROWS=${ROWS:-100000}
. "$(dirname "$0")/js/client.sh"

client_begin mutate
client_rounds "$ROWS" "$CHANGES"
figure us "$(calc "$OURS * 1000000 / $CHANGES")" us
figure tanstack_us "$(calc "$THEIRS * 1000000 / $CHANGES")" us
figure vs_tanstack "$(calc "$THEIRS / $OURS")" ratio
