#!/usr/bin/env bash
# From nothing to predicted masks: sets everything up, draws a small data set, trains Mask R-CNN with a small Swin on it,
# evaluates, and draws predictions. About ten minutes on two CPU cores; nothing is downloaded but Python packages.
set -eu
cd "$(dirname "$0")/.."
. tools/setup.sh

config=configs/mask_rcnn_swin_pico_shapes.py
work_dir=work_dirs/mask_rcnn_swin_pico_shapes

say "training $config (log and checkpoints: $work_dir)"
"$PYTHON" tools/train.py "$config" --work-dir "$work_dir" --cfg-options val_cfg=None val_dataloader=None val_evaluator=None

checkpoint=$(cat "$work_dir/last_checkpoint")
say "evaluating $checkpoint on the held-out pictures"
"$PYTHON" tools/test.py "$config" "$checkpoint" --work-dir "$work_dir"

say 'predicting on held-out pictures'
"$PYTHON" demo/image_demo.py data/shapes/val "$config" "$checkpoint" --out-dir outputs/shapes
say "done: the pictures with predicted masks are in $PWD/outputs/shapes/vis"
