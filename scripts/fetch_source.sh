#!/usr/bin/env bash
# Fetches the source of a library for the wheel's own static copy:
#   scripts/fetch_source.sh PACKAGE DIR
# PACKAGE is a source package with a CMakeLists.txt in the distribution's archive. It comes through
# apt, which checks it against the archive's signed index; apt's own configuration stays as it is,
# and no rights are needed.
# Exits 0 with DIR holding the source tree, 1 with a reason where it cannot be had.
set -euo pipefail

package=${1:?usage: fetch_source.sh PACKAGE DIR}
target=$(realpath --canonicalize-missing "${2:?usage: fetch_source.sh PACKAGE DIR}")
if [ -f "$target/CMakeLists.txt" ]; then
  exit 0
fi
fail() {
  echo "fetch_source: $*" >&2
  exit 1
}

for tool in apt-get dpkg-source; do
  command -v "$tool" >/dev/null || fail "$tool is not here (Debian packages: apt, dpkg-dev)"
done
# shellcheck disable=SC1091
. /etc/os-release
case "${ID:-}" in
  debian)
    archive=http://deb.debian.org/debian
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    ;;
  ubuntu)
    archive=http://archive.ubuntu.com/ubuntu
    keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
    ;;
  *) fail "no source archive is known for the distribution '${ID:-unknown}'" ;;
esac
[ -f "$keyring" ] || fail "the archive's keys are not here: $keyring"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,parts}
printf 'deb-src [signed-by=%s] %s %s main universe\n' "$keyring" "$archive" "$VERSION_CODENAME" \
  | if [ "$ID" = debian ]; then sed 's/ universe$//'; else cat; fi >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/parts";
Dir::State::lists "$work/lists";
Dir::Cache "$work/cache";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::http::Timeout "30";
Acquire::Retries "2";
CONF
export APT_CONFIG="$work/apt.conf"

cd "$work"
timeout 180 apt-get -qq update >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "no package index"; }
timeout 180 apt-get -qq source "$package" >"$work/log" 2>&1 \
  || { cat "$work/log" >&2; fail "no source package"; }
tree=$(find "$work" -maxdepth 1 -type d -name "$package-*" | head -n 1)
[ -n "$tree" ] && [ -f "$tree/CMakeLists.txt" ] || fail "the source package holds no CMakeLists.txt"
mkdir -p "$(dirname "$target")"
rm -rf "$target"
mv "$tree" "$target"
