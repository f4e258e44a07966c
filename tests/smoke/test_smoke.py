"""What every set of versions that we claim must do, from import to prediction; tests/matrix.sh runs it in each."""

import json
import math
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from pycocotools import mask as coco

import swin_mm
from swin_mm.inference import Detector

DETECTOR = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
SEGMENTOR = 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
HEALTHY = ['python', 'swin_mm', 'torch', 'torchvision', 'numpy', 'pillow', 'safetensors', 'mmengine', 'mmcv', 'mmdet']
HEALTHY += ['mmseg', 'mmcv ops', 'kernel reference', 'kernel sdpa', 'kernel cpu', 'backbone', 'checkpoint', 'worker']


def test_import_loads_no_library_that_it_serves(run_python, tmp_path):
    code = "import sys, swin_mm; print(swin_mm.__file__, *({'mmcv', 'mmdet', 'mmseg'} & set(sys.modules)))"
    assert run_python(tmp_path, '-c', code).split() == [swin_mm.__file__]


def test_doctor_finds_nothing_wrong(run_python, tmp_path):
    """Whether the machine has room to spare is not looked at."""
    report = run_python(tmp_path, '-m', 'swin_mm.doctor', allowed=(0, 1))
    assert [name for name in HEALTHY if not re.search(rf'^{name} +ok ', report, re.MULTILINE)] == [], report


def build_two(folder, recipe):
    """The models of a stock recipe with the two lines of README.md and without the second, with equal weights."""
    scope, models = recipe.partition('::')[0], []
    for second in ("model = dict(backbone=dict(type='swin_mm.SwinTransformer'))", ''):
        (folder / 'recipe.py').write_text(f'_base_ = {recipe!r}\n{second}\n')
        with DefaultScope.overwrite_default_scope(scope):
            models.append(MODELS.build(Config.fromfile(folder / 'recipe.py').model).eval())
    ours, stock = models
    assert type(ours.backbone) is swin_mm.SwinTransformer
    assert type(stock.backbone).__module__ == f'{scope}.models.backbones.swin'
    with torch.no_grad():
        for parameter in stock.backbone.parameters():
            parameter += 0.02 * torch.randn_like(parameter)  # so that no bias is zero and no norm does nothing
    ours.load_state_dict(stock.state_dict(), strict=True)
    return ours, stock


def assert_equal_maps(ours, stock):
    for got, want in zip(ours, stock, strict=True):
        assert got.shape == want.shape
        assert want.std() > 0
        assert (got - want).abs().max() < 1e-4 * want.std()


@torch.no_grad()
def test_two_lines_are_a_drop_in_for_mmdet(tmp_path):
    """Equal maps at a size that all stages pad, equal scores of the proposals, and whole predictions."""
    from mmdet.structures import DetDataSample

    ours, stock = build_two(tmp_path, DETECTOR)
    image = torch.randn(1, 3, 100, 130)
    assert_equal_maps(ours.backbone(image), stock.backbone(image))
    scores, stock_scores = (model.rpn_head(model.extract_feat(image))[0] for model in (ours, stock))
    assert_equal_maps(scores, stock_scores)

    ours.roi_head.test_cfg.update(score_thr=0.0, max_per_img=5)
    sample = DetDataSample(metainfo=dict(img_shape=(100, 130), ori_shape=(100, 130), scale_factor=(1.0, 1.0)))
    found = ours.predict(image, [sample])[0].pred_instances
    assert found.bboxes.shape == (5, 4)
    assert found.masks.shape == (5, 100, 130)
    assert found.scores.isfinite().all()


@torch.no_grad()
def test_two_lines_are_a_drop_in_for_mmseg(tmp_path):
    """Equal logits of every class for every pixel."""
    ours, stock = build_two(tmp_path, SEGMENTOR)
    image = torch.randn(1, 3, 100, 130)
    logits = ours(image, mode='tensor')
    assert logits.shape[:2] == (1, 150)
    assert_equal_maps([logits], [stock(image, mode='tensor')])


@pytest.mark.parametrize(('checker', 'cases'), [('check_swin_official.py', 5), ('check_mmcv_ops.py', 67)])
def test_recorded_numbers(run_python, shared, tmp_path, checker, cases):
    """The official backbone's maps and gradients; the ops that mmcv compiles."""
    printed = run_python(tmp_path, shared / 'golden' / checker)
    assert printed.splitlines()[-1] == f'{cases} passed, 0 failed'


def losses(text, epoch):
    return [float(loss) for loss in re.findall(rf'Epoch\(train\) +\[{epoch}\]\[.*? loss: (\S+)', text)]


def steps_of(checkpoint):
    loaded = torch.load(checkpoint, weights_only=True)
    assert all(value.isfinite().all() for value in loaded['state_dict'].values())
    assert {int(state['step']) for state in loaded['optimizer']['state'].values()} == {loaded['meta']['iter']}
    return loaded['meta']['iter']


@pytest.mark.slow
def test_training_learns(short_run):
    found = losses(short_run.printed, epoch=1)
    assert len(found) == steps_of(short_run.checkpoint) == short_run.steps
    assert all(map(math.isfinite, found))
    assert np.mean(found[-5:]) < 0.9 * np.mean(found[:5])


@pytest.mark.slow
def test_resume_goes_on(short_run, run_python, root):
    """The second epoch follows the first, and its first losses are those of a model that has learned."""
    arguments = [root / 'tools/train.py', short_run.config, '--work-dir', 'run', '--resume']
    printed = run_python(short_run.folder, *arguments, '--cfg-options', 'train_cfg.max_epochs=2')
    found = losses(printed, epoch=2)
    assert losses(printed, epoch=1) == []
    assert len(found) == short_run.steps
    assert np.mean(found[:5]) < 0.9 * np.mean(losses(short_run.printed, epoch=1)[:5])
    assert steps_of(short_run.folder / 'run/epoch_2.pth') == 2 * short_run.steps


@pytest.mark.slow
def test_evaluation_gives_average_precisions(short_run, run_python, root):
    printed = run_python(short_run.folder, root / 'tools/test.py', short_run.config, short_run.checkpoint)
    found = dict(re.findall(r'(coco/\w+): (\S+)', printed))
    for name in ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/segm_mAP', 'coco/segm_mAP_50'):
        assert 0 <= float(found[name]) <= 1


@pytest.mark.slow
def test_demo_writes_what_the_detector_finds(short_run, run_python, root):
    picture = short_run.folder / 'shapes/val/000001.jpg'
    arguments = [picture, short_run.config, short_run.checkpoint, '--out-dir', 'out']
    run_python(short_run.folder, root / 'demo/image_demo.py', *arguments)
    written = json.loads((short_run.folder / 'out/preds/000001.json').read_text())
    (found,) = Detector(short_run.config, short_run.checkpoint, device='cpu')(picture)
    assert len(written['labels']) == 5
    assert written['labels'] == found.labels.tolist()
    np.testing.assert_allclose(written['bboxes'], found.boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(written['scores'], found.scores, rtol=1e-4)
    with Image.open(picture) as image, Image.open(short_run.folder / 'out/vis/000001.jpg') as drawn:
        assert drawn.size == image.size
        assert coco.decode(written['masks']).shape == (*image.size[::-1], 5)


@pytest.mark.slow
def test_segmentor_trains_and_is_evaluated(short_run, run_python, root):
    """One step of the small recipe for mmseg, on the same pictures, and its validation."""
    options = [
        f'{split}_dataloader.dataset.{name}' for split in ('train', 'val') for name in ('indices=8', 'data_root=shapes')
    ]
    arguments = [root / 'configs/upernet_swin_pico_shapes.py', '--work-dir', 'segmentor', '--cfg-options', *options]
    printed = run_python(
        short_run.folder, root / 'tools/train.py', *arguments, 'train_cfg.max_iters=1', 'train_cfg.val_interval=1'
    )
    assert 0 < float(re.search(r' mIoU: (\S+)', printed)[1]) < 100
