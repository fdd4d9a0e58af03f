#!/usr/bin/env bash
# Keeps what a target has found: keep.sh TARGET
#
# The fewest inputs that reach every place which `found` and the corpus reach, one in each line of
# `corpus/TARGET.found`, in base64. `run.sh` and the tests take them with the corpus.
set -euo pipefail

target="${1:?usage: keep.sh TARGET}"
cd "$(dirname "$0")"
triple="$(rustc -vV | sed -n 's/^host: //p')"
kept="$(mktemp -d)"
trap 'rm -rf "$kept"' EXIT
cp "corpus/$target"/* "$kept"
"target/$triple/release/$target" -set_cover_merge=1 -use_counters=0 "$kept" "found/$target"
for input in "corpus/$target"/*; do rm -f "$kept/$(basename "$input")"; done
for input in "$kept"/*; do base64 --wrap=0 "$input"; echo; done | sort -u >"corpus/$target.found"
wc --lines "corpus/$target.found"
