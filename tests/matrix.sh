#!/usr/bin/env bash
# Runs tests/smoke in one virtual environment for each row of a table: a range of versions that no row runs is not claimed.
#   bash tests/matrix.sh                    every row
#   bash tests/matrix.sh oldest newest      these rows
#   bash tests/matrix.sh --list             the table
#   bash tests/matrix.sh --delete [ROW...]  deletes each environment after its row (one takes 2 to 7 GB)
# Environments lie in .matrix/ROW and are used again; the log of a row is .matrix/ROW.log.
# A row whose Python is not there is skipped by name. The exit status is 1 if a row fails or none ran.
set -eu
cd "$(dirname "$0")/.."

# Row, Python, extra of pyproject.toml, and what is pinned; pip chooses the newest of the rest.
# torchvision 0.20 has no wheels for Python 3.13, so PyTorch starts at 2.6 there; onedl-mmsegmentation needs NumPy 2.
ROWS='
oldest        3.10 openmmlab torch==2.5.1 torchvision==0.20.1 numpy==1.26.0 pillow==10.0.0 safetensors==0.4.0 mmengine==0.10.6 mmcv-lite==2.0.1 ftfy==6.0 pytest==8.0.0
pinned-3.10   3.10 openmmlab -r requirements.txt
pinned        3.11 openmmlab -r requirements.txt
old-numpy     3.12 openmmlab torch==2.15.0 torchvision==0.29.2 numpy==1.26.4
old-torch     3.13 openmmlab torch==2.6.0 torchvision==0.21.0 numpy==2.1.0
newest        3.13 openmmlab torch==2.15.0 torchvision==0.29.2 numpy==2.5.5
onedl-oldest  3.10 onedl     torch==2.5.1 torchvision==0.20.1 numpy==2.0.1
onedl         3.12 onedl     torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
onedl-newest  3.13 onedl     torch==2.15.0 torchvision==0.29.2 numpy==2.5.5
'
COLUMNS_FORMAT='%-13s %-8s %-8s %-12s %-7s %-9s %-7s %-7s %-7s  %-32s %s\n'

say() { printf '\n== %s\n' "$*"; }
list() { echo "$ROWS" | grep . ; }
row() { list | grep -E "^$1 " | tr -s ' '; }

# Prints the path of Python $1, from PATH or from pyenv, whose commands on PATH may lead nowhere.
find_python() {
    local python
    for python in "$(command -v "python$1")" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$python" -c "import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2> /dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

# Installs the package with an extra and the pins into .matrix/ROW, unless that is done.
install() {
    local name=$1 python=$2 extra=$3 environment=.matrix/$1 stamp
    shift 3
    stamp="$PWD $python $extra $* $(cat pyproject.toml requirements.txt | sha256sum)"
    [ "$(cat "$environment/.installed" 2> /dev/null)" = "$stamp" ] && return
    rm -rf "$environment"
    "$python" -m venv "$environment" || return
    "$environment/bin/python" -m pip install -q --disable-pip-version-check -e ".[$extra]" 'pytest>=8' "$@" || return
    echo "$stamp" > "$environment/.installed"
}

# Prints what an environment really holds, in the order of the columns.
versions() {
    "$1/bin/python" - << 'END'
import platform
from importlib.metadata import distributions

found = {d.metadata['Name'].lower().removeprefix('onedl-'): d.version for d in distributions()}
names = ['torch'], ['torchvision'], ['numpy'], ['mmengine'], ['mmcv-lite', 'mmcv'], ['mmdet', 'mmdetection'], ['mmsegmentation']
print(platform.python_version(), *(next((found[n] for n in each if n in found), '-') for each in names))
END
}

# Runs one row and adds its line to $TABLE; the exit status says whether it passed.
run() {
    local name=$1 number=$2 extra=$3 environment=.matrix/$1 log=.matrix/$1.log python result status=0 start
    shift 3
    if ! python=$(find_python "$number"); then
        say "$name: skipped, there is no Python $number"
        TABLE+=$(printf "$COLUMNS_FORMAT" "$name" "$number" - - - - - - - 'skipped: no such Python' -)$'\n'
        return
    fi
    say "$name: installing (log: $log)"
    if ! install "$name" "$python" "$extra" "$@" > "$log" 2>&1; then
        tail -n 20 "$log"
        TABLE+=$(printf "$COLUMNS_FORMAT" "$name" "$number" - - - - - - - 'FAILED: not installable' -)$'\n'
        return 1
    fi
    say "$name: tests/smoke (log: $log)"
    "$environment/bin/python" -m pip list --format freeze --disable-pip-version-check >> "$log"
    start=$SECONDS
    "$environment/bin/python" -m pytest tests/smoke --durations=5 >> "$log" 2>&1 || status=1
    grep -E '^(FAILED|ERROR|SKIPPED) ' "$log" || true
    result=$(tail -n 1 "$log" | grep -oE '[0-9]+ (passed|failed|skipped|errors?)' | paste -sd ' ') || true
    # shellcheck disable=SC2046  a word a column
    TABLE+=$(printf "$COLUMNS_FORMAT" "$name" $(versions "$environment") "${result:-FAILED: see its log}" $((SECONDS - start)))$'\n'
    RAN=yes
    return $status
}

delete=
[ "${1:-}" != --list ] || { list; exit; }
[ "${1:-}" != --delete ] || { delete=yes; shift; }
[ $# -gt 0 ] || set -- $(list | cut -d' ' -f1)
for name in "$@"; do
    [ -n "$(row "$name")" ] || { echo "no row is called $name; bash tests/matrix.sh --list shows them" >&2; exit 2; }
done

mkdir -p .matrix
TABLE= RAN= failed=
for name in "$@"; do
    # shellcheck disable=SC2046  a word an argument
    run $(row "$name") || failed+=" $name"
    [ -z "$delete" ] || rm -rf ".matrix/$name"
done
say 'what was installed and what it gave'
printf "$COLUMNS_FORMAT" row python torch torchvision numpy mmengine mmcv mmdet mmseg result seconds
printf '%s' "$TABLE"
[ -z "$failed" ] || say "failed:$failed"
[ -n "$RAN" ] && [ -z "$failed" ]
