#!/usr/bin/env bash
# Prints the path of the first interpreter that is CPython 3.10 or newer: $PYTHON where it is set,
# then python3 on the PATH, then the versions by name. Exits 1 where there is none.
set -euo pipefail

for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10; do
  if path=$("$candidate" -c '
import sys
if sys.version_info < (3, 10) or sys.implementation.name != "cpython":
    raise SystemExit(1)
print(sys.executable)' 2>/dev/null); then
    echo "$path"
    exit 0
  fi
done
exit 1
