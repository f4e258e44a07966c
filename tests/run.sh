#!/usr/bin/env bash
# Sets everything up and runs the checks: ruff, mypy, then the tests, one process a core, with line coverage of swin_mm/.
#   bash tests/run.sh            the fast suite
#   bash tests/run.sh --slow     the slow proofs as well
#   bash tests/run.sh -k grid    any other arguments go to pytest
set -eu
cd "$(dirname "$0")/.."
. tools/setup.sh

marker='not slow'
if [ "${1:-}" = --slow ]; then
    marker=''
    shift
fi
# Its own list of needs would put an OpenCV without windows over the one that is there.
"$PYTHON" -c 'import pytorch_grad_cam' 2> /dev/null \
    || "$PYTHON" -m pip install -q --disable-pip-version-check --no-deps grad-cam==1.5.7 \
    || say 'without grad-cam: tests of its maps are skipped'
"$PYTHON" -c 'import panopticapi' 2> /dev/null \
    || timeout 30 "$PYTHON" -m pip install -q --disable-pip-version-check git+https://github.com/cocodataset/panopticapi.git \
    || say 'without panopticapi, which only GitHub has: the test of panoptic data is skipped'
"$PYTHON" -c 'from importlib.util import find_spec; exit(not find_spec("tidecv"))' \
    || "$PYTHON" -m pip install -q --disable-pip-version-check --no-deps tidecv==1.0.1 \
    || say "without tidecv: the comparison with TIDE's own program is skipped"
"$PYTHON" -c 'from importlib.util import find_spec; exit(not find_spec("ray"))' \
    || "$PYTHON" -m pip install -q --disable-pip-version-check 'ray[data]==2.60.0' \
    || say 'without ray: prediction on a cluster is not tested'
say 'ruff'
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
say 'mypy'
"$PYTHON" -m mypy
say 'pytest'
exec "$PYTHON" -m pytest -m "$marker" --numprocesses auto --dist loadfile --cov=swin_mm --cov-report=term:skip-covered --durations=10 "$@"
