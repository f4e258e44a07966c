"""Every stock config of mmdet and mmseg with a Swin takes our backbone as a drop-in; one of each kind trains."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from torch import nn

from swin_mm import SwinTransformer

pytestmark = pytest.mark.slow
pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

# Their language model needs transformers, most of them also fairscale, and is downloaded when they are built.
TEXT = ('glip', 'grounding_dino', 'mm_grounding_dino')
# mmdet's own fault: it gives FPN an argument that FPN of mmdet 3.3 does not have, so the stock one is not built either.
BROKEN = {'v3det/fcos_swinb_fpn_8x4_sample1e-3_mstrain_v3det_2x.py': 'force_grad_on_level'}

TRAINED = [
    ('mmdet', 'ddq/ddq-detr-4scale_swinl_8xb2-30e_coco.py'),
    ('mmdet', 'dino/dino-5scale_swin-l_8xb2-12e_coco.py'),
    ('mmdet', 'dyhead/atss_swin-l-p4-w12_fpn_dyhead_ms-2x_coco.py'),
    ('mmdet', 'mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py'),
    ('mmdet', 'mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco-panoptic.py'),
    ('mmdet', 'mask2former_vis/mask2former_swin-l-p4-w12-384-in21k_8xb2-8e_youtubevis2021.py'),
    ('mmdet', 'maskformer/maskformer_swin-l-p4-w12_64xb1-ms-300e_coco.py'),
    ('mmdet', 'rtmdet/rtmdet_l_swin_b_p6_4xb16-100e_coco.py'),
    ('mmdet', 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'),
    ('mmdet', 'swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py'),
    ('mmdet', 'v3det/cascade_rcnn_swinb_fpn_8x4_sample1e-3_mstrain_v3det_2x.py'),
    ('mmdet', 'v3det/deformable-detr-refine-twostage_swin_16xb2_sample1e-3_v3det_50e.py'),
    ('mmseg', 'knet/knet-s3_swin-t_upernet_8xb2-adamw-80k_ade20k-512x512.py'),
    ('mmseg', 'mask2former/mask2former_swin-t_8xb2-160k_ade20k-512x512.py'),
    ('mmseg', 'maskformer/maskformer_swin-t_upernet_8xb2-160k_ade20k-512x512.py'),
    ('mmseg', 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'),
]


def folder(scope: str) -> Path:
    return Path(find_spec(scope).origin).parent / '.mim' / 'configs'


def stock_configs() -> list[tuple[str, str]]:
    """Every config of the two packages whose name or text says Swin, but those of which others are made."""
    return [
        (scope, path.relative_to(folder(scope)).as_posix())
        for scope in ('mmdet', 'mmseg')
        for path in sorted(folder(scope).rglob('*.py'))
        if '_base_' not in path.parts and ('swin' in path.name or 'SwinTransformer' in path.read_text())
    ]


def read(scope: str, name: str) -> Config:
    """The config with our backbone and without weights to download."""
    cfg = Config.fromfile(folder(scope) / name)
    assert cfg.model.backbone.type == 'SwinTransformer'
    cfg.model.backbone.type = 'swin_mm.SwinTransformer'
    for part in (cfg.model, cfg.model.backbone):
        part.pop('init_cfg', None)
        part.pop('pretrained', None)
    return cfg


def build(scope: str, model: ConfigDict) -> nn.Module:
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(model)


@pytest.mark.parametrize(('scope', 'name'), stock_configs())
def test_it_builds_with_our_backbone(scope, name):
    if name.startswith(TEXT):
        pytest.skip('its language model needs transformers or fairscale, and a download')
    cfg = read(scope, name)
    with torch.device('meta'):
        if name in BROKEN:
            with pytest.raises(TypeError, match=BROKEN[name]):
                build(scope, cfg.model)
            return
        assert type(build(scope, cfg.model).backbone) is SwinTransformer


def test_a_config_of_every_family_is_trained():
    families = {(scope, name.split('/')[0]) for scope, name in stock_configs()}
    trained = {(scope, name.split('/')[0]) for scope, name in TRAINED}
    assert families - trained == {('mmdet', family) for family in TEXT}


@pytest.mark.parametrize(('scope', 'name'), TRAINED)
def test_it_trains_and_predicts_with_our_backbone(scope, name):
    """One step on small images; the backbone has a block a stage, all else is as the config says."""
    cfg = read(scope, name)
    cfg.model.backbone.depths = [1] * len(cfg.model.backbone.depths)
    if scope == 'mmseg':
        cfg.model.data_preprocessor.update(size=(64, 64))
    cfg.model.data_preprocessor.pop('batch_augments', None)  # they pad to 1024x1024
    if name.startswith('v3det'):  # 13,204 classes take minutes
        set_everywhere(cfg.model, num_classes=3)
    model = revert_sync_batchnorm(build(scope, cfg.model))
    model.init_weights()
    inputs = {'mmseg': seg_inputs, 'mmdet': det_inputs}[scope](name, model)

    data = model.data_preprocessor(inputs, training=True)
    loss, _ = model.parse_losses(model.train()(**data, mode='loss'))
    loss.backward()
    assert loss.isfinite()
    for key, parameter in model.backbone.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(inputs), mode='predict')
    assert len(results) == len(inputs['inputs'])


def set_everywhere(model: ConfigDict, **settings) -> None:
    """Changes ``settings`` wherever ``model`` has them."""
    for key, value in model.items():
        if key in settings:
            model[key] = settings[key]
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ConfigDict):
                set_everywhere(part, **settings)


def det_inputs(name: str, model: nn.Module) -> dict:
    from mmdet.testing import demo_mm_inputs, demo_track_inputs

    if 'mask2former_vis' in name:
        return demo_track_inputs(1, 2, [0], [(3, 64, 64)], num_classes=3, with_mask=True)
    parts = dict(
        with_mask='rtmdet' not in name, with_semantic='panoptic' in name
    )  # with masks RTMDet expects a mask head
    return demo_mm_inputs(2, [(3, 128, 128)] * 2, num_items=[3, 3], num_classes=3, **parts)


def seg_inputs(name: str, model: nn.Module) -> dict:
    from mmseg.structures import SegDataSample

    def sample() -> SegDataSample:
        labels = torch.randint(0, model.decode_head.num_classes, (1, 64, 64))
        metainfo = dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64))
        return SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=metainfo)

    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=[sample() for _ in images])
