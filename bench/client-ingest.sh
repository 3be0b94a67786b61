#!/usr/bin/env bash
# A million rows from memory into a collection of libcoulomb and of @tanstack/db, alternating.

. "$(dirname "$0")/js/client.sh"

client_begin ingest
client_rounds "$ROWS"
figure rows_per_s "$(calc "$ROWS / $OURS")" rows/s %.0f
figure tanstack_rows_per_s "$(calc "$ROWS / $THEIRS")" rows/s %.0f
figure vs_tanstack "$(calc "$THEIRS / $OURS")" ratio
figure bytes_per_row "$(calc "$OUR_BYTES / $ROWS")" B %.0f
figure tanstack_bytes_per_row "$(calc "$THEIR_BYTES / $ROWS")" B %.0f
figure memory_vs_tanstack "$(calc "$OUR_BYTES / $THEIR_BYTES")" ratio
