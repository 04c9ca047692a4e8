#!/bin/sh
# Makes the virtual environment $1 and installs the requirements file $2 into it.
set -eu
venv=$1
requirements=$2

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer was not found; install it, or name it: make PYTHON=/path/to/python" >&2
    return 1
}

make_venv() {
    "$python" -m venv "$venv" && return
    # Debian keeps ensurepip in a package of its own.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && apt-get install -y -qq python3-venv && "$python" -m venv "$venv"
    else
        echo "the virtual environment could not be made; on Debian: sudo apt install python3-venv" >&2
        return 1
    fi
}

if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python)
    make_venv
fi

# uv resolves and installs the same pins about ten times faster than pip; pip's own settings for
# package sources do not reach it, so they are handed on, and pip is the way out where uv fails.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv==0.13.8
UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
export UV_FIND_LINKS
if [ -n "${PIP_INDEX_URL:-}" ]; then
    UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}
    export UV_DEFAULT_INDEX
fi
"$venv/bin/uv" pip install --system-certs --python "$venv/bin/python" -r "$requirements" ||
    "$venv/bin/python" -m pip install --disable-pip-version-check -r "$requirements"
