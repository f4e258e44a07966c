"""One process and two train the same: equal losses at every step, also after one goes on from the other's checkpoint.

Two processes with an image each average their gradients, so a step is that of one process with both images if a loss
is a mean over equally many things in each of them. That holds for

* UPerNet, whose loss is a mean over pixels of pictures of one size. Batch norm would take its statistics from the
  images of one process, so group norm stands in its place.
* Mask R-CNN, where all pictures have as many objects, proposals and anchors and every one counts: samplers leave none
  out, and no overlap lies between the thresholds of positive and negative ones.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import recorded_losses
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from samples import tiny_segmentation, tiny_training
from samples.tiny_training import ROOT

from swin_mm.commands import train

SAVED, STEPS = 5, 8
RUN = f"""
custom_imports = dict(imports=['swin_mm', 'recorded_losses'], allow_failed_imports=False)
custom_hooks = [dict(type='RecordedLosses')]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters={STEPS})
val_cfg = val_dataloader = val_evaluator = None
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval={SAVED}, save_best=None))
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=0.5))  # every step is clipped
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end={STEPS})]
resize = dict(type='Resize', scale=(128, 96), keep_ratio=False)
randomness = dict(seed=0)
"""
DETECTOR = f"""
_base_ = '{ROOT}/configs/mask_rcnn_swin_pico_shapes.py'
{RUN}
load = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=False),
    dataset=dict(type='CocoDataset', metainfo=dict(classes={tiny_training.CLASSES}), ann_file='instances.json',
                 data_prefix=dict(img='images/'),
                 pipeline=[dict(type='LoadImageFromFile'), load, resize, dict(type='PackDetInputs')]))
everything = dict(num=10**6)
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=2), mask_head=dict(num_classes=2)),
    train_cfg=dict(
        rpn=dict(assigner=dict(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5), sampler=everything),
        rpn_proposal=dict(max_per_img=20),
        # The objects themselves are the only positive proposals.
        rcnn=dict(assigner=dict(pos_iou_thr=0.999, neg_iou_thr=0.999, min_pos_iou=0.999), sampler=everything)))
"""
SEGMENTOR = f"""
_base_ = '{ROOT}/configs/upernet_swin_pico_shapes.py'
{RUN}
load = dict(type='swin_mm.LoadLabels', num_classes=3)
train_dataloader = dict(
    sampler=dict(shuffle=False),
    dataset=dict(type='BaseSegDataset', reduce_zero_label=True,
                 data_prefix=dict(img_path='images', seg_map_path='labels'),
                 metainfo=dict(classes={tiny_segmentation.CLASSES}, palette=[(255, 0, 0), (0, 255, 0), (0, 0, 255)]),
                 pipeline=[dict(type='LoadImageFromFile'), load, resize, dict(type='PackSegInputs')]))
test_dataloader = dict(dataset=dict(pipeline=[load]))
head = dict(num_classes=3, dropout_ratio=0.0, norm_cfg=dict(_delete_=True, type='GN', num_groups=8))
model = dict(data_preprocessor=dict(size=(96, 128)), decode_head=head, auxiliary_head=head)
"""
RECIPES = {'mask_rcnn': (DETECTOR, tiny_training), 'upernet': (SEGMENTOR, tiny_segmentation)}
MODES = {
    'ddp': [],
    'ddp of FlexibleRunner': ['runner_type=FlexibleRunner'],
    'fsdp': ['presets=fsdp'],
}


@pytest.fixture(scope='module', params=RECIPES)
def reference(request, tmp_path_factory):
    """The config, its data, and the work dir of a training of one process."""
    text, samples = RECIPES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    (folder / 'small.py').write_text(text)
    samples.write_data(folder / 'data')
    cfg = Config.fromfile(folder / 'small.py')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    torch.manual_seed(0)
    model.init_weights()
    torch.save(model.state_dict(), folder / 'start.pth')  # Runner and FlexibleRunner draw others
    return alone(folder, 'reference')


def options(folder: Path, batch: int, more: list[str]) -> list[str]:
    root = f'train_dataloader.dataset.data_root={folder}/data'
    return ['--cfg-options', root, f'load_from={folder}/start.pth', f'train_dataloader.batch_size={batch}', *more]


def alone(folder: Path, name: str, *flags: str, mode: list[str] = ()) -> Path:
    """The work dir of a training in this process, both images of a step in a batch."""
    work_dir = folder / name
    train.main([str(folder / 'small.py'), '--work-dir', str(work_dir), *flags, *options(folder, 2, list(mode))])
    return work_dir


def together(folder: Path, name: str, *flags: str, mode: list[str]) -> Path:
    """The work dir of a training of two processes, an image of a step in each."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    work_dir = folder / name
    environment = dict(PYTHON=sys.executable, PORT=port, OMP_NUM_THREADS='1', GLOO_SOCKET_IFNAME='lo')
    command = ['bash', str(ROOT / 'tools/dist_train.sh'), 'small.py', '2', '--work-dir', str(work_dir), *flags]
    done = subprocess.run(
        [*command, *options(folder, 1, mode)], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, **environment, 'PYTHONPATH': str(Path(__file__).parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return work_dir


def assert_equal_losses(found: dict, wanted: dict, steps: range) -> None:
    assert list(found) == list(steps)
    for step in steps:
        assert found[step] == pytest.approx(wanted[step], rel=1e-4, abs=1e-6), step
    pairs = [(found[step][name], wanted[step][name]) for step in steps for name in found[step]]
    print(f'largest relative difference of a loss: {max(abs(a - b) / max(abs(b), 1e-9) for a, b in pairs):.1e}')


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason='PyTorch was built without gloo')
@pytest.mark.parametrize('mode', MODES)
def test_two_processes_train_as_one(reference, mode):
    folder, wanted = reference.parent, recorded_losses.read(reference, 1)
    assert wanted[STEPS]['loss'] < 0.95 * wanted[1]['loss'], 'it learns'
    two = together(folder, mode.replace(' ', '_'), mode=MODES[mode])
    assert_equal_losses(recorded_losses.read(two, 2), wanted, range(1, STEPS + 1))
    saved = f'iter_{SAVED}.pth'
    one = alone(folder, f'{two.name}_then_alone', '--resume', str(two / saved))
    assert_equal_losses(recorded_losses.read(one, 1), wanted, range(SAVED + 1, STEPS + 1))
    if mode == 'fsdp':
        return  # it keeps the optimizer's state by names, and goes on from no other
    two = together(folder, f'alone_then_{two.name}', '--resume', str(reference / saved), mode=MODES[mode])
    assert_equal_losses(recorded_losses.read(two, 2), wanted, range(SAVED + 1, STEPS + 1))
