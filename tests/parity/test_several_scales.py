"""`--tta` of the segmentation recipes merges views as the official ``--aug-test`` does: mmseg 0.11, ``aug_test``."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from samples.pico_segmentor import CONFIG, picture, save_checkpoint

SIDES = (64, 96, 160)


@torch.no_grad()
def test_probabilities_at_the_original_size_are_averaged(root, tmp_path):
    """Logits of a view are resized, then a softmax; the mirror image is mirrored back; the largest mean wins."""
    pytest.importorskip('mmseg')
    from mmcv.transforms import Compose

    cfg, recipe = Config.fromfile(CONFIG), Config.fromfile(root / 'configs/upernet_swin_t.py')
    _, flips, _, pack = recipe.tta_pipeline[1].transforms
    scales = [dict(type='Resize', scale=(4 * side, side), keep_ratio=True) for side in SIDES]
    image = picture(75, 110)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model).eval()
        model.load_state_dict(torch.load(save_checkpoint(tmp_path / 'pico.pth', cfg))['state_dict'])
        views = Compose([dict(type='TestTimeAug', transforms=[scales, flips, pack])])
        views = views(dict(img=image, img_path='', ori_shape=image.shape[:2], seg_fields=[]))
        inputs, samples = views['inputs'], views['data_samples']
        merged = MODELS.build(dict(recipe.tta_model, module=model))
        batch = dict(inputs=[[view] for view in inputs], data_samples=[[sample] for sample in samples])
        (got,) = merged.test_step(batch)
    assert sorted((min(s.img_shape), s.flip) for s in samples) == [(n, flip) for n in SIDES for flip in (False, True)]

    probabilities = []
    for view, sample in zip(inputs, samples, strict=True):
        pixels = model.data_preprocessor(dict(inputs=[view]))['inputs']
        logits = model.encode_decode(pixels, [sample.metainfo])
        large = F.interpolate(logits, image.shape[:2], mode='bilinear', align_corners=False)[0].softmax(0)
        probabilities.append(large.flip(-1) if sample.flip else large)
    want = torch.stack(probabilities).mean(0).argmax(0)
    np.testing.assert_array_equal(got.pred_sem_seg.data.squeeze(), want)
    assert all((alone.argmax(0) != want).any() for alone in probabilities)  # the mean matters
