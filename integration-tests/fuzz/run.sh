#!/usr/bin/env bash
# Fuzzes one target: run.sh TARGET SECONDS [further arguments of libFuzzer]
#
# What cargo-fuzz would do, without it and with the stable compiler: the instrumentation for coverage
# is part of LLVM. There is no address sanitizer, which would find nothing in code without `unsafe`.
set -euo pipefail

target="${1:?usage: run.sh TARGET SECONDS}"
seconds="${2:?usage: run.sh TARGET SECONDS}"
shift 2
cd "$(dirname "$0")"

# The versions of the workspace, so that what is fuzzed is what is shipped. The file is not kept.
cp ../../Cargo.lock Cargo.lock
triple="$(rustc -vV | sed -n 's/^host: //p')"
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
flags+=" -Cdebug-assertions -Coverflow-checks=yes -Ccodegen-units=1 --cfg fuzzing"
case "$target" in
  configuration) feature=rules ;;
  pattern | template | expression | envelope) feature=texts ;;
  *) feature="$target" ;;
esac
# A triple keeps the flags away from build scripts, which are not linked with libFuzzer.
RUSTFLAGS="$flags" cargo build --quiet --release --target "$triple" --bin "$target" \
  --features "$feature"

mkdir -p "found/$target"
if [[ -f "corpus/$target.found" ]]; then
  while read -r input; do
    base64 --decode <<<"$input" >"found/$target/$(sha1sum <<<"$input" | cut --bytes=1-40)"
  done <"corpus/$target.found"
fi
exec "target/$triple/release/$target" "found/$target" "corpus/$target" \
  -artifact_prefix="found/" -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 \
  -print_final_stats=1 "$@"
