#!/usr/bin/env bash
# From nothing to predicted masks: sets everything up, draws a small data set, trains a model with a small Swin on it,
# evaluates, and draws predictions. About ten minutes on two CPU cores; nothing is downloaded but Python packages.
#   bash demo/quickstart.sh                Mask R-CNN: every shape with its box and mask
#   bash demo/quickstart.sh --task seg     UPerNet: the class of every pixel
set -eu
cd "$(dirname "$0")/.."

case $* in
    '' | '--task det') model=mask_rcnn_swin_pico_shapes outputs=outputs/shapes ;;
    '--task seg') model=upernet_swin_pico_shapes outputs=outputs/shapes_seg ;;
    *) echo "usage: bash demo/quickstart.sh [--task det|seg], got: $*" >&2; exit 2 ;;
esac
config=configs/$model.py
work_dir=work_dirs/$model

. tools/setup.sh

say "training $config (log and checkpoints: $work_dir)"
"$PYTHON" tools/train.py "$config" --work-dir "$work_dir" --cfg-options val_cfg=None val_dataloader=None val_evaluator=None

# The note is an absolute path; its name in the folder above reads better.
checkpoint=$work_dir/$(basename "$(cat "$work_dir/last_checkpoint")")
say "evaluating $checkpoint on the held-out pictures"
"$PYTHON" tools/test.py "$config" "$checkpoint" --work-dir "$work_dir"

say 'predicting on held-out pictures'
"$PYTHON" demo/image_demo.py data/shapes/val "$config" "$checkpoint" --out-dir "$outputs"
say "done: the pictures with predicted masks are in $PWD/$outputs/vis"
