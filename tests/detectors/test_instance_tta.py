"""Test-time augmentation against the same protocol written as a loop over views, for both tasks."""

import itertools
import pickle

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from PIL import Image
from pycocotools import mask as coco
from samples import tiny_segmentation, tiny_training
from samples.stock_detectors import save_random_weights, write_config
from torch.nn import functional

from swin_mm.commands import test as test_command

MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])  # RGB
AXES = {None: (), 'horizontal': (1,), 'vertical': (0,), 'diagonal': (0, 1)}


def view_of(picture, size, flip):
    """A picture (H, W, 3), BGR, as the network sees it: (1, 3, h, w) for ``size`` (w, h)."""
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    normed = (np.flip(resized, AXES[flip])[..., ::-1] - MEAN) / STD
    return torch.from_numpy(normed.transpose(2, 0, 1).astype(np.float32).copy())[None]


def fit(picture, long, short):
    """(w, h) of the picture inside (long, short), rounded as mmcv does."""
    height, width = picture.shape[:2]
    factor = min(long / max(height, width), short / min(height, width))
    return int(width * factor + 0.5), int(height * factor + 0.5)


def model_of(tiny, scope, **changes):
    cfg = Config.fromfile(tiny.config)
    cfg.merge_from_dict(changes)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model)
    load_checkpoint(model, str(tiny.checkpoint))
    return model.eval()


# --- semantic segmentation: mmseg's SegTTAModel, as configured here


def test_segmentation_is_the_argmax_of_the_mean_probability(tmp_path_factory, tmp_path):
    """The official protocol, and the files of a run: ratios times one fixed scale, each view and its mirror image."""
    tiny = tiny_segmentation.trained(tmp_path_factory.getbasetemp())
    model = model_of(tiny, 'mmseg')
    torch.manual_seed(0)  # whether the model was trained in this test or before it
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)  # two iterations leave most pixels to one class
    checkpoint = tmp_path / 'alive.pth'
    torch.save(model.state_dict(), checkpoint)
    test_command.main([
        str(tiny.config), str(checkpoint), '--tta', '--out', str(tmp_path / 'out'), '--work-dir',
        str(tmp_path / 'work'), '--cfg-options', f'data_root={tiny.data}',
    ])  # fmt: skip
    for path in sorted(tiny.data.glob('images/*.jpg')):
        picture = cv2.imread(str(path))
        probabilities = []
        for ratio, flip in itertools.product(tiny_segmentation.RATIOS, (None, 'horizontal')):
            size = fit(picture, int(tiny_segmentation.LONG * ratio), int(tiny_segmentation.SHORT * ratio))
            view = view_of(picture, size, flip)
            with torch.no_grad():
                logits = model.decode_head(model.backbone(view))
            for shape in (view.shape[2:], picture.shape[:2]):
                logits = functional.interpolate(logits, shape, mode='bilinear', align_corners=False)
            probabilities.append(np.flip(logits[0].softmax(0).numpy(), [axis + 1 for axis in AXES[flip]]))
        mean = np.mean(probabilities, axis=0)
        found = np.asarray(Image.open(tmp_path / 'out' / f'{path.stem}.png')) - 1
        margin = np.diff(np.sort(mean, axis=0), axis=0)[-1]
        assert (found == mean.argmax(0))[margin > 1e-5].all()
        assert (margin > 1e-5).mean() > 0.99
        assert len(np.unique(found)) > 1
        # The test can tell: the first view alone is another map.
        assert (found != probabilities[0].argmax(0)).any()


# --- instance segmentation: swin_mm.InstanceTTAModel

LIMIT = 12
TTA = dict(type='swin_mm.InstanceTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=LIMIT))
SCALES = [(128, 96), (80, 60)]
VIEWS = list(itertools.product(SCALES, (None, 'horizontal', 'vertical', 'diagonal')))


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    return tiny_training.trained(tmp_path_factory.getbasetemp())


@pytest.fixture(scope='module')
def detector(tiny):
    return model_of(tiny, 'mmdet')


@pytest.fixture(scope='module')
def paths(tiny):
    return sorted(tiny.data.glob('images/*.jpg'))


def merged(model, paths, *settings, **more):
    """Predictions of the TTA model around ``model`` for each picture alone, as a run tests them."""
    return [merged_batch(model, [path], *settings, **more)[0] for path in paths]


def merged_batch(model, paths, scales=SCALES, flips=(None, 'horizontal', 'vertical', 'diagonal'), tta=TTA):
    """The same for all pictures in one batch."""
    turns = [dict(type='RandomFlip', prob=float(flip is not None), direction=flip or 'horizontal') for flip in flips]
    sizes = [dict(type='Resize', scale=scale, keep_ratio=True) for scale in scales]
    views = dict(type='TestTimeAug', transforms=[sizes, turns, [dict(type='PackDetInputs')]])
    with DefaultScope.overwrite_default_scope('mmdet'):
        pipeline = Compose([dict(type='LoadImageFromFile'), views])
        wrapper = MODELS.build(dict(tta, module=model))
    data = pseudo_collate([pipeline(dict(img_path=str(path), img_id=i)) for i, path in enumerate(paths)])
    with torch.no_grad():
        return [sample.pred_instances for sample in wrapper.test_step(data)]


def by_hand(model, path):
    """Boxes, scores, labels and mask probabilities (n, H, W) of the protocol; nothing of ours runs here."""
    from mmdet.structures import DetDataSample

    picture = cv2.imread(str(path))
    height, width = picture.shape[:2]
    views, boxes, scores, labels = [], [], [], []
    for scale, flip in VIEWS:
        size = fit(picture, max(scale), min(scale))
        view = view_of(picture, size, flip)
        factor = torch.tensor([size[0] / width, size[1] / height] * 2)
        meta = dict(img_shape=view.shape[2:], ori_shape=(height, width), scale_factor=tuple(factor[:2].tolist()))
        features = model.extract_feat(functional.pad(view, (0, -size[0] % 32, 0, -size[1] % 32)))
        proposals = model.rpn_head.predict(features, [DetDataSample(metainfo=meta)], rescale=False)
        (found,) = model.roi_head.predict_bbox(features, [meta], proposals, model.roi_head.test_cfg, rescale=False)
        views.append((features, factor, flip, size))
        boxes.append(turn(found.bboxes, size, flip) / factor)
        scores.append(found.scores)
        labels.append(found.labels)
    boxes, scores, labels = (torch.cat(values) for values in (boxes, scores, labels))
    keep = suppress(boxes, scores, labels)[:LIMIT]
    boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
    mean = 0
    for features, factor, flip, size in views:
        rois = functional.pad(turn(boxes * factor, size, flip), (1, 0))
        masks = model.roi_head.mask_head(model.roi_head.mask_roi_extractor(features, rois)).sigmoid()
        mean = mean + masks[range(len(keep)), labels].flip([axis + 1 for axis in AXES[flip]]) / len(views)
    return boxes, scores, labels, torch.stack([paste(*pair, height, width) for pair in zip(mean, boxes, strict=True)])


def turn(boxes, size, flip):
    """Boxes of a view of this size (w, h), as they stand in its mirror image."""
    x1, y1, x2, y2 = boxes.unbind(1)
    if flip in ('horizontal', 'diagonal'):
        x1, x2 = size[0] - x2, size[0] - x1
    if flip in ('vertical', 'diagonal'):
        y1, y2 = size[1] - y2, size[1] - y1
    return torch.stack([x1, y1, x2, y2], 1)


def box_of(mask):
    """The smallest box around what is True in a mask (H, W)."""
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    if not len(rows):
        return torch.zeros(4)
    return torch.cat([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def suppress(boxes, scores, labels):
    """Places of the boxes that greedy NMS at 0.5 keeps in each class, best first."""
    keep = []
    for i in scores.argsort(descending=True).tolist():
        x1, y1 = torch.maximum(boxes[i, :2], boxes[:, :2]).unbind(1)
        x2, y2 = torch.minimum(boxes[i, 2:], boxes[:, 2:]).unbind(1)
        shared = (x2 - x1).clamp(0) * (y2 - y1).clamp(0)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        overlap = shared / (area[i] + area - shared)
        if not any(labels[j] == labels[i] and overlap[j] > 0.5 for j in keep):
            keep.append(i)
    return keep


def paste(mask, box, height, width):
    """Probabilities (H, W): ``mask`` (28, 28) stretched over ``box``, bilinear between pixel centres, 0 outside."""
    padded = functional.pad(mask, (1, 1, 1, 1))
    axes = []
    for low, high, length in ((box[1], box[3], height), (box[0], box[2], width)):
        place = (torch.arange(length) + 0.5 - low) / (high - low) * len(mask) - 0.5
        axes.append((place + 1).clamp(0, len(mask) + 0.999))  # in the padded mask, whose rim is 0
    (y, x) = axes
    top, left = y.long(), x.long()
    dy, dx = (y - top)[:, None], (x - left)[None]
    rows, below = padded[top], padded[top + 1]
    upper = rows[:, left] * (1 - dx) + rows[:, left + 1] * dx
    lower = below[:, left] * (1 - dx) + below[:, left + 1] * dx
    return upper * (1 - dy) + lower * dy


@torch.no_grad()
def test_boxes_and_masks_equal_a_loop_over_the_views(tiny, paths):
    shares = model_of(tiny, 'mmdet', **{'model.test_cfg.rcnn.mask_thr_binary': -1})  # masks in 255ths, not cut at 0.5
    torch.nn.init.normal_(shares.roi_head.mask_head.conv_logits.weight)  # two iterations leave them all the same
    for path, found in zip(paths, merged(shares, paths), strict=True):
        boxes, scores, labels, probabilities = by_hand(shares, path)
        torch.testing.assert_close(found.bboxes, boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(found.scores, scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.labels, labels)
        assert probabilities.std() > 0.1
        assert ((found.masks + 0.5) / 255 - probabilities).abs().max() < 0.51 / 255 + 1e-3


def test_masks_are_cut_at_the_threshold_once_they_are_averaged(tiny, detector, paths):
    shares = model_of(tiny, 'mmdet', **{'model.test_cfg.rcnn.mask_thr_binary': -1})
    for cut, share in zip(merged(detector, paths), merged(shares, paths), strict=True):
        assert cut.masks.dtype == torch.bool
        assert torch.equal(cut.masks & (share.masks != 127), share.masks > 127)


def test_one_view_is_the_plain_prediction(detector, paths):
    """Boxes that NMS has left once are left again."""
    for path, found in zip(paths, merged(detector, paths, SCALES[:1], (None,)), strict=True):
        plain = plainly(detector, path)
        torch.testing.assert_close(found.bboxes, plain.bboxes, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.scores, plain.scores)
        assert torch.equal(found.labels, plain.labels)
        assert torch.equal(found.masks, plain.masks)


def plainly(model, path, flipped=False):
    steps = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=SCALES[0], keep_ratio=True)]
    if flipped:
        steps.append(dict(type='RandomFlip', prob=1.0))
    keys = ('img_id', 'ori_shape', 'img_shape', 'scale_factor')  # no word of a flip
    with DefaultScope.overwrite_default_scope('mmdet'):
        pipeline = Compose([*steps, dict(type='PackDetInputs', meta_keys=keys)])
    with torch.no_grad():
        (sample,) = model.test_step(pseudo_collate([pipeline(dict(img_path=str(path), img_id=0))]))
    return sample.pred_instances


def test_boxes_are_those_of_mmdet(tiny, detector, paths):
    without = model_of(tiny, 'mmdet', **{'model.roi_head.mask_head': None, 'model.roi_head.mask_roi_extractor': None})
    # mmdet reads its settings as attributes.
    theirs = merged(without, paths, tta=Config(dict(TTA, type='DetTTAModel'))._cfg_dict)
    for kind, model in (('with masks', detector), ('without', without)):
        for ours, expected in zip(merged(model, paths), theirs, strict=True):
            for name in ('bboxes', 'scores', 'labels'):
                torch.testing.assert_close(ours[name], expected[name], msg=f'{name} {kind}')
            assert ('masks' in ours) == (kind == 'with masks')


def test_a_batch_is_its_pictures(detector, paths):
    """Two pictures of a size: others are padded to the larger, which alters what a network finds."""
    pair = [paths[0], paths[0]]
    (alone,) = merged(detector, pair[:1])
    for found in merged_batch(detector, pair):
        torch.testing.assert_close(found.bboxes, alone.bboxes, atol=1e-3, rtol=0)
        assert (found.masks != alone.masks).float().mean() < 1e-3


def test_finding_nothing_is_a_prediction(tiny, paths):
    model = model_of(tiny, 'mmdet', **{'model.test_cfg.rcnn.score_thr': 1.1})
    (found,) = merged(model, paths[:1])
    assert found.bboxes.shape == (0, 4)
    assert found.masks.shape == (0, *tiny_training.SIZES[0])


@pytest.fixture
def stock(tmp_path):
    """A function from a name in `STOCK` to mmdet's model with our backbone, narrow and random."""

    def stock(name):
        cfg = write_config(tmp_path, name)
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(cfg.model)
        load_checkpoint(model, str(save_random_weights(cfg, tmp_path)))
        return model.eval()

    return stock


@pytest.mark.parametrize('name', ['htc', 'mask2former', 'solo'])
def test_boxes_of_other_heads_keep_the_masks_that_they_were_found_with(stock, paths, name):
    """Against the model's own results for a picture and its mirror image, flipped back."""
    model = stock(name)
    (found,) = merged(model, paths[1:2], SCALES[:1], (None, 'horizontal'))
    height, width = tiny_training.SIZES[1]
    own, mirrored = plainly(model, paths[1]), plainly(model, paths[1], flipped=True)
    masks = torch.cat([own.masks, mirrored.masks.flip(2)])
    boxes = torch.cat([own.bboxes, turn(mirrored.bboxes, (width, height), 'horizontal')])
    if name == 'solo':  # which gives no boxes
        assert not own.bboxes.any()
        boxes = torch.stack([box_of(mask) for mask in masks])
    keep = suppress(boxes, torch.cat([own.scores, mirrored.scores]), torch.cat([own.labels, mirrored.labels]))[:LIMIT]
    assert len({i < len(own) for i in keep}) == 2
    torch.testing.assert_close(found.bboxes, boxes[keep], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.scores, torch.cat([own.scores, mirrored.scores])[keep])
    assert torch.equal(found.labels, torch.cat([own.labels, mirrored.labels])[keep])
    assert found.masks.any()
    assert torch.equal(found.masks, masks[keep])


@pytest.mark.parametrize('name', ['panoptic_fpn', 'mask2former_panoptic'])
def test_panoptic_maps_are_refused(stock, paths, name):
    with pytest.raises(ValueError, match='panoptic maps of several views cannot be merged: test without --tta'):
        merged(stock(name), paths[:1])


def test_the_flag_writes_boxes_and_masks_of_the_recipe(tiny, detector, paths, tmp_path):
    options = [f'data_root={tiny.data}', f'tta_model.tta_cfg.max_per_img={LIMIT}']
    metrics = test_command.main([
        str(tiny.config), str(tiny.checkpoint), '--tta', '--out', str(tmp_path / 'out.pkl'), '--show-dir', 'drawn',
        '--work-dir', str(tmp_path), '--cfg-options', *options,
    ])  # fmt: skip
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= metrics.keys()
    predictions = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    for prediction, found in zip(predictions, merged(detector, paths, flips=(None, 'horizontal')), strict=True):
        instances = prediction['pred_instances']
        np.testing.assert_allclose(instances['bboxes'], found.bboxes, atol=1e-4)
        np.testing.assert_array_equal(coco.decode(instances['masks']).transpose(2, 0, 1), found.masks)
    drawn = sorted(tmp_path.glob('*/drawn/*.jpg'))
    assert [Image.open(path).size for path in drawn] == [(2 * width, height) for height, width in tiny_training.SIZES]
