#!/usr/bin/env bash
# Sets up everything swin_mm needs; demo/quickstart.sh and tests/run.sh source it. It defines $PYTHON.
# Uses the active virtual or conda environment, else makes .venv in the repository. A second run skips what is done.

say() { printf '\n== %s\n' "$*"; }
die() { printf '\nerror: %s\n' "$*" >&2; exit 1; }

# Debian packages, only ever asked for when something turned out to be missing.
install_system_packages() {
    command -v apt-get > /dev/null || die "install the packages $* of your system, then run this script again"
    local sudo=''
    if [ "$(id -u)" != 0 ]; then
        command -v sudo > /dev/null || die "run as root: apt-get install $*   (then run this script again)"
        sudo=sudo
    fi
    say "installing system packages: $*"
    $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" \
        || die "apt-get could not install $*: install them by hand, then run this script again"
}

make_environment() {
    local venv=$1
    command -v python3 > /dev/null || install_system_packages python3
    python3 -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
        || die "python3 is $(python3 --version 2>&1 | cut -d' ' -f2); swin_mm needs 3.10 to 3.13 (activate an environment that has one)"
    if ! python3 -c 'import ensurepip, venv' 2> /dev/null; then
        install_system_packages python3-venv
    fi
    say "making a virtual environment in $venv"
    rm -rf "$venv"
    python3 -m venv "$venv" || die "python3 -m venv $venv failed"
}

set_up() {
    local repository environment requirements stamp
    repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    environment=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
    if [ -z "$environment" ]; then
        environment=$repository/.venv
        [ -x "$environment/bin/python" ] || make_environment "$environment"
    fi
    PYTHON=$environment/bin/python

    requirements=$(cat "$repository/requirements.txt" "$repository/pyproject.toml" | sha256sum | cut -d' ' -f1)
    stamp=$environment/.swin_mm-installed
    if [ "$(cat "$stamp" 2> /dev/null)" = "$requirements $repository" ]; then
        say "$environment has everything already"
        return
    fi
    say "installing requirements.txt into $environment (PyTorch is large: a minute or more)"
    "$PYTHON" -m pip install -q --disable-pip-version-check -r "$repository/requirements.txt" \
        || die "pip could not install requirements.txt: see its message above"
    "$PYTHON" -m pip install -q --disable-pip-version-check --no-deps -e "$repository" \
        || die "pip could not install swin_mm itself: see its message above"
    # OpenCV's wheel links against two libraries that a bare system does not have.
    "$PYTHON" -c 'import cv2' 2> /dev/null || install_system_packages libgl1 libglib2.0-0
    "$PYTHON" -c 'import cv2, swin_mm' || die 'the installed packages cannot be imported: see the message above'
    echo "$requirements $repository" > "$stamp"
}

set_up
