#!/usr/bin/env bash
# Runs every test of the workspace, the ones against real brokers included.
#
#   integration-tests/run-tests.sh [arguments for cargo test] [-- arguments for the tests]
#
# On Debian and Ubuntu, as root or with a passwordless sudo, it first installs what is missing. Where it
# may not, it prints the commands that somebody else may run, and stops. The last line of the
# output is the sum of all test binaries: `N passed, N failed`.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
workspace="$(dirname "$here")"
venv="$here/.venv"
requirements="$here/requirements.txt"

say() { printf '%s\n' "$*" >&2; }

# --- what the machine must have --------------------------------------------------------------

has() { command -v "$1" >/dev/null 2>&1; }

# Daemons live in /usr/sbin, which is not on every user's path.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

python_makes_environments() { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

missing_packages() {
  [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || echo rabbitmq-server
  has mosquitto || echo mosquitto
  has mosquitto_pub && has mosquitto_sub || echo mosquitto-clients
  has curl || echo curl
  # An environment that is already there needs nothing to make it.
  environment_is_current || python_makes_environments || echo python3 python3-venv
  # The linker, and the C compiler that the TLS library's build calls.
  has cc || echo gcc libc6-dev
}

environment_is_current() {
  [[ -x "$venv/bin/python" && -f "$venv/installed" ]] && cmp -s "$requirements" "$venv/installed"
}

# Packages of brokers start a system service on the standard port when they are installed. The
# tests start their own, so a policy says no for as long as the installation takes.
policy=/usr/sbin/policy-rc.d
policy_is_ours=no
remove_policy() {
  if [[ $policy_is_ours == yes ]]; then
    "${as_root[@]}" rm -f "$policy"
    policy_is_ours=no
  fi
}

install_packages() {
  if [[ ! -e $policy ]]; then
    policy_is_ours=yes
    trap remove_policy EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
  fi
  say "Installing: $*"
  # Lists that are out of date are no reason to give up before the installation has been tried.
  "${as_root[@]}" apt-get update -q >&2 || say "The package lists could not be renewed."
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "$@" >&2
  remove_policy
}

as_root=()
may_install() {
  has apt-get || return 1
  if [[ $(id -u) == 0 ]]; then
    as_root=(env)
  elif has sudo && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  else
    return 1
  fi
}

prepare_machine() {
  if ! has cargo; then
    say "The tests are built with cargo, which is not there. Install a Rust toolchain: https://rustup.rs"
    exit 1
  fi
  local packages
  mapfile -t packages < <(missing_packages | tr ' ' '\n')
  [[ ${#packages[@]} -gt 0 ]] || return 0
  if may_install; then
    install_packages "${packages[@]}"
    mapfile -t packages < <(missing_packages | tr ' ' '\n')
    [[ ${#packages[@]} -gt 0 ]] || return 0
    say "Still missing after the installation: ${packages[*]}"
    exit 1
  fi
  say "These tests need programs that are missing here. On Debian and Ubuntu:"
  say ""
  say "  sudo apt-get update"
  say "  sudo apt-get install --no-install-recommends ${packages[*]}"
  say ""
  say "(Where a package starts a system service, the tests do not need it: they start their own.)"
  exit 1
}

prepare_environment() {
  environment_is_current && return 0
  say "Setting up the Python clients and the NATS server in ${venv#"$workspace"/}"
  # Only a directory that this script made is replaced.
  [[ ! -e $venv || -f $venv/pyvenv.cfg ]] || { say "$venv is in the way: it is no Python environment."; exit 1; }
  rm -rf "$venv"
  python3 -m venv "$venv"
  if ! "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >&2; then
    say ""
    say "The Python packages could not be installed. By hand, once the cause is gone:"
    say ""
    say "  python3 -m venv $venv"
    say "  $venv/bin/pip install --requirement $requirements"
    exit 1
  fi
  cp "$requirements" "$venv/installed"
}

# --- the tests ---------------------------------------------------------------------------------

print_versions() {
  say "rabbitmq-server: $(head -n1 <(ls -d /usr/lib/rabbitmq/lib/rabbitmq_server-* 2>/dev/null) | sed 's/.*server-//')"
  say "mosquitto: $(mosquitto -h 2>/dev/null | sed -n '1s/mosquitto version //p')"
  say "nats-server: $("$venv/bin/nats-server" --version | sed 's/.*: v//') ($venv/bin/nats-server)"
}

# The profile must be the same for the binary under test and for the tests.
profile_arguments() {
  while [[ $# -gt 0 && $1 != -- ]]; do
    case $1 in
      --release | -r | --offline | --locked | --frozen | --profile=* | --target-dir=*) echo "$1" ;;
      --profile | --target-dir) echo "$1"; shift; echo "${1:-}" ;;
    esac
    shift
  done
}

prepare_machine
prepare_environment
print_versions
# The benchmark needs the same programs, and no test.
[[ ${1:-} != --prepare ]] || exit 0

cd "$workspace"
mapfile -t profile < <(profile_arguments "$@")
cargo build --package transload-cli "${profile[@]}"

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
outcome=0
cargo test --workspace --no-fail-fast "$@" 2>&1 | tee "$log" || outcome=$?

# `test result: ok. 12 passed; 0 failed; …`, once for each test binary.
read -r passed failed < <(
  sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
    /^test result: / {
      for (i = 2; i <= NF; i++) {
        if ($i ~ /^passed;?$/) passed += $(i - 1)
        if ($i ~ /^failed;?$/) failed += $(i - 1)
      }
    }
    END { print passed + 0, failed + 0 }'
)
if [[ $outcome -ne 0 && $failed -eq 0 ]]; then
  say "cargo test ended with code $outcome before every test had run."
fi
if [[ $outcome -eq 0 && $failed -ne 0 ]]; then
  outcome=1
fi
# Nobody may take a run without tests for a good one.
if [[ $outcome -eq 0 && $passed -eq 0 ]]; then
  say "No test ran."
  outcome=1
fi
echo "$passed passed, $failed failed"
exit "$outcome"
