#!/usr/bin/env bash
# build.sh [DIR]: the page, into DIR (default: dist). Its packages must be installed
# (scripts/npm-ci.sh). esbuild is a program of its own: no Node is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
out=${1:-dist}
mkdir -p "$out"
node_modules/@esbuild/linux-x64/bin/esbuild src/main.tsx src/style.css --bundle --format=esm \
    --target=es2022 --jsx=automatic --minify --sourcemap --loader:.sql=text \
    --define:process.env.NODE_ENV=\"production\" --external:node:* \
    --log-level=warning --outdir="$out"
cp index.html "$out/"
# PGlite looks for its program and its files beside the code that loads them.
cp node_modules/@electric-sql/pglite/dist/{pglite.wasm,pglite.data,initdb.wasm} "$out/"
