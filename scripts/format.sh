#!/usr/bin/env bash
# make format: clang-format 14 over every C file, in place.

. "$(dirname "$0")/common.sh"

scripts/install.sh lint
project_files '*.[ch]' | xargs -r clang-format-14 -i
