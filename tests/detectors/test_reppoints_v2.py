"""RepPoints V2 and Mask RepPoints V2 at a very small size: training, prediction, images without objects."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')
NAMES = ('reppointsv2_swin_t', 'mask_reppointsv2_swin_t')
SIZE = (64, 96)


def small(root, name):
    cfg = Config.fromfile(root / f'configs/{name}.py').model
    cfg.backbone.update(arch=None, embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), init_cfg=None)
    cfg.neck.update(in_channels=[16, 32, 64], out_channels=64)
    cfg.bbox_head.update(num_classes=3, in_channels=64, feat_channels=64, corner_dim=64)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg)
    model.init_weights()
    return model


def batch(*numbers, size=SIZE, pad=SIZE):
    """A picture and a sample with so many objects for each of ``numbers``, in a batch as large as ``pad``."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    torch.manual_seed(1)
    samples = []
    for number in numbers:
        low, side = torch.rand(2, number, 2) * 32
        boxes = torch.cat([low, low + side + 8], 1)
        masks = np.zeros((number, *size), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        labels = torch.randint(0, 3, (number,))
        truth = InstanceData(bboxes=boxes, labels=labels, masks=BitmapMasks(masks, *size))
        meta = dict(
            img_shape=size, ori_shape=(50, 75), pad_shape=size, batch_input_shape=pad, scale_factor=(1.28, 1.28)
        )
        samples.append(DetDataSample(metainfo=meta, gt_instances=truth))
    return torch.randn(len(numbers), 3, *pad), samples


def total(losses):
    return sum(sum(x) if isinstance(x, list) else x for x in losses.values())


@pytest.mark.parametrize('name', NAMES)
def test_a_few_steps_lower_the_loss(root, name):
    model = small(root, name).train()
    images, samples = batch(3, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    seen = []
    for _ in range(5):
        torch.manual_seed(0)
        loss = total(model.loss(images, samples))
        seen.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.isfinite(seen).all()
    assert seen[-1] < seen[0]
    still = [n for n, p in model.named_parameters() if p.grad is None]
    assert still == []


@pytest.mark.parametrize('name', NAMES)
def test_images_without_objects_train_too(root, name):
    """Officially the class maps are then divided by 0; here the loss is finite and every parameter has a gradient."""
    model = small(root, name).train()
    losses = model.loss(*batch(0, 0))
    assert all(sum(losses[key]) == 0 for key in ('loss_pts_init', 'loss_pts_refine', 'loss_offset'))
    assert all(loss == 0 for key, loss in losses.items() if key.startswith('loss_mask'))
    total(losses).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize('name', NAMES)
def test_what_a_batch_adds_around_an_image_teaches_nothing(root, name):
    """Points there take no part in any loss: the targets are those of the image in a batch of its own size."""
    head = small(root, name).bbox_head
    alone, padded = batch(3), batch(3, pad=(64, 192))
    maps = {
        pad: [torch.zeros(1, 64, -(-pad[0] // s), -(-pad[1] // s)) for s in (8, 16, 32, 64, 128)]
        for pad in (SIZE, (64, 192))
    }
    a, b = (head.targets(head(maps[pad]), samples) for pad, (_, samples) in (((64, 96), alone), ((64, 192), padded)))
    keep = b.valid[0]
    assert not keep.all()
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one[0][a.valid[0]], other[0][keep])
    assert not b.heat[0][~keep].any()
    assert (b.refined[0][~keep] == -1).all()


@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('name', NAMES)
def test_predictions_lie_in_the_image(root, name, rescale):
    model = small(root, name).eval()
    model.bbox_head.test_cfg.update(score_thr=0.0, max_per_img=9)
    images, samples = batch(1, 1)
    height, width = (50, 75) if rescale else SIZE
    with torch.no_grad():
        found = [sample.pred_instances for sample in model.predict(images, samples, rescale=rescale)]
    for one in found:
        assert one.bboxes.shape == (9, 4)
        assert (one.bboxes >= 0).all()
        assert (one.bboxes <= torch.tensor([width, height] * 2) + 1e-4).all()
        assert (one.scores.diff() <= 0).all()
        if name.startswith('mask'):
            assert (one.masks.shape, one.masks.dtype) == ((9, height, width), torch.bool)
    with torch.no_grad():
        (second,) = model.predict(images[1:], samples[1:], rescale=rescale)
    torch.testing.assert_close(second.pred_instances.bboxes, found[1].bboxes)
    if name.startswith('mask'):
        assert (second.pred_instances.masks == found[1].masks).float().mean() > 0.999


@pytest.mark.parametrize('name', NAMES)
def test_nothing_may_be_found(root, name):
    model = small(root, name).eval()  # fresh scores are 0.01
    with torch.no_grad():
        found = model.predict(*batch(1))[0].pred_instances
    assert (found.bboxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
    if name.startswith('mask'):
        assert found.masks.shape == (0, 50, 75)


def test_fresh_weights_are_the_official_ones(root):
    """``init_weights`` of the official head and neck: scores start at 0.01."""
    model = small(root, 'mask_reppointsv2_swin_t')
    scores = ('cls_out', 'sem_out', 'hem_tl_score_out', 'hem_br_score_out')
    for name, part in model.bbox_head.named_modules():
        leaf = name.rpartition('.')[2]
        if leaf == 'controller' or (leaf.startswith('reppoints_') and leaf != 'reppoints_sem_embedding'):
            assert part.weight.std().item() == pytest.approx(0.01, rel=0.3), name
            if isinstance(part, torch.nn.Conv2d):  # deformable ones have no bias
                assert torch.allclose(part.bias.sigmoid(), torch.tensor(0.01 if leaf.endswith(scores) else 0.5)), name
        elif name.partition('.')[0] in ('cls_convs', 'reg_convs', 'shared_convs') and leaf == 'conv':
            assert part.weight.std().item() == pytest.approx(0.01, rel=0.05), name
    for name, part in model.neck.named_modules():
        if name.endswith('.conv'):
            fan = part.weight[0].numel() + part.weight[:, 0].numel()
            assert part.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.05), name
            assert part.weight.abs().max() <= (6 / fan) ** 0.5
