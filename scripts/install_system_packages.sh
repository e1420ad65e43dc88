#!/usr/bin/env bash
# Sees to the system packages that building and testing kvroute needs (Debian's names).
# Installs what is missing with apt where it may, otherwise says exactly what is missing and exits 1.
set -euo pipefail

missing=()
extra_include_path=${CPLUS_INCLUDE_PATH:-}
needs_command() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
needs_header() {
  local dir
  for dir in /usr/include /usr/local/include "/usr/include/$(uname -m)-linux-gnu" \
    ${extra_include_path//:/ }; do
    [ -e "$dir/$1" ] && return 0
  done
  missing+=("$2")
}

needs_command g++ g++
needs_command cmake cmake
needs_command ninja ninja-build
needs_command pkg-config pkg-config
needs_command curl curl
if command -v apt-get >/dev/null 2>&1; then
  needs_command dpkg-source dpkg-dev # for the sources of what the wheel links statically
fi
needs_header zmq.h libzmq3-dev
needs_header zmq.hpp cppzmq-dev
needs_header absl/container/flat_hash_map.h libabsl-dev
needs_header tsl/robin_map.h robin-map-dev
needs_header xxhash.h libxxhash-dev
needs_header msgpack.hpp libmsgpack-cxx-dev
needs_header gtest/gtest.h libgtest-dev
needs_header gmock/gmock.h libgmock-dev
needs_header benchmark/benchmark.h libbenchmark-dev

# The interpreter that the virtual environment will stand on, with venv, pip and its headers.
python=$("$(dirname "$0")/find_python.sh" || true)
if [ -z "$python" ]; then
  missing+=(python3 python3-venv python3-dev)
else
  "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  "$python" - <<'PY' || missing+=(python3-dev)
import pathlib, sys, sysconfig
sys.exit(not (pathlib.Path(sysconfig.get_paths()["include"]) / "Python.h").exists())
PY
fi

if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo -n)
fi
if ! command -v apt-get >/dev/null 2>&1; then
  reason="there is no apt here"
elif [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
  reason="that takes root, or sudo without a password"
else
  echo "Installing system packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if timeout 300 "${as_root[@]}" apt-get -qq update &&
    timeout 900 "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null; then
    exit 0
  fi
  reason="apt failed"
fi
{
  echo "System packages are missing and were not installed: $reason."
  echo "They are, under Debian's names: ${missing[*]}"
  echo "On Debian or Ubuntu: sudo apt-get install ${missing[*]}"
} >&2
exit 1
