#!/usr/bin/env bash
# Finds a Python 3.10 or newer and hands over to deploy/comfyui; `./install.sh --help` says what there is.
set -euo pipefail

real_script() {
  local script=${BASH_SOURCE[0]} target
  while [[ -L $script ]]; do
    target=$(readlink "$script")
    [[ $target == /* ]] || target=$(dirname "$script")/$target
    script=$target
  done
  printf '%s\n' "$script"
}

usable_python() {
  local name
  for name in python3 python python3.{14..10}; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      printf '%s\n' "$name"
      return
    fi
  done
  echo "No Python 3.10 or newer was found: install one, then run this again." >&2
  return 1
}

python=$(usable_python)
folder=$(dirname "$(real_script)")
CDPATH='' cd -- "$folder"
exec "$python" -m deploy.comfyui "$@"
