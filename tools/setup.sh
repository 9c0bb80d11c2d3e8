#!/usr/bin/env bash
# The environment in $1 (a link), from hashed requirements: tools/setup.sh .venv [python]
#
# Built beside the one in use, to which nothing happens until the new one is whole; then the link
# is replaced in one step. (An environment cannot be moved: its scripts hold its own path.)
# Folders are named LINK-made-PID-XXXXXX. Removed are only those: replaced ones, and those whose
# maker is dead.
set -euo pipefail
link="$1"
asked="${2-}"

say() { echo "$1" >&2; }

# ------------------------------------------------------------------------------- which Python
version_ok='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
python=
for candidate in ${asked:-python3 python3.13 python3.12 python3.11}; do
  if command -v "$candidate" >/dev/null && "$candidate" -c "$version_ok" 2>/dev/null; then
    python="$candidate"
    break
  fi
done
if [ -z "$python" ]; then
  say "Python 3.11, 3.12 or 3.13 is needed: install one, or name it: make PYTHON=/path/to/python3.12"
  exit 1
fi
echo "Setting up $link with $("$python" --version) ..."

# ---------------------------------------------------------------------- whatever happens to it
new=
undo() {
  code=$?
  trap '' INT TERM HUP
  set +e
  for group in $(jobs -p); do
    kill -TERM -- -"$group"
    wait "$group"
    kill -KILL -- -"$group"
  done 2>/dev/null
  if [ -n "$new" ]; then
    if [ -d "$new.old" ]; then mv "$new.old" "$link"; fi
    rm -rf "$new" "$new.link"
    if [ -e "$link" ]; then say "Not set up: the previous environment in $link was kept as it was."; fi
  fi
  exit $code
}
trap undo EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# Each step is a process group that this shell waits for, so that a signal is answered at once
# and ends it.
step() {
  set -m
  "$@" </dev/null &
  set +m
  wait $!
}

# ------------------------------------------------------------------------------------- build
new="$(mktemp -d "$link-made-$$-XXXXXX")"
chmod =rwx "$new" # mktemp's folders are the owner's alone; this one follows the umask
if command -v uv >/dev/null; then
  step uv venv -q --prompt "$link" --python "$(command -v "$python")" "$new"
  step uv pip install -q --python "$new/bin/python" --require-hashes --compile-bytecode -r requirements.txt
  step uv pip install -q --python "$new/bin/python" --no-deps --no-build-isolation -e .
else
  step "$python" -m venv --prompt "$link" "$new" || {
    say "Python's venv module is missing: install it (on Debian: apt install python3-venv)"
    exit 1
  }
  pip() { step "$new/bin/python" -m pip install -q --no-input --disable-pip-version-check "$@"; }
  pip --require-hashes -r requirements.txt
  pip --no-deps --no-build-isolation -e .
fi
mkdir -p "$new/etc/ipython"
echo "c.IPKernelApp.capture_fd_output = False" >"$new/etc/ipython/ipython_kernel_config.py"
# Activated shells go by the link's name: they outlive the folder.
"$python" -c 'import pathlib, sys
new, link = map(pathlib.Path, sys.argv[1:])
for script in new.glob("bin/[aA]ctivate*"):
    script.write_bytes(script.read_bytes().replace(new.name.encode(), link.name.encode()))
' "$new" "$link"

# -------------------------------------------------------------------------------------- swap
ln -s "${new##*/}" "$new.link"
touch "$new/.ready"
trap '' INT TERM HUP
if [ -d "$link" ] && [ ! -L "$link" ]; then mv "$link" "$new.old"; fi
"$python" -c 'import os, sys; os.replace(*sys.argv[1:])' "$new.link" "$link"
ready="$new"
new=
for old in "$link"-made-*; do
  maker="${old#"$link-made-"}"
  maker="${maker%%-*}"
  if [ "$old" = "$ready" ]; then continue; fi
  if [ -e "$old/.ready" ] || [ "$maker" = $$ ] || ! kill -0 "$maker"; then rm -rf "$old" || :; fi
done 2>/dev/null
