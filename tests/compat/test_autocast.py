"""Under autocast the boxes of mmdet's detectors stay in float32, in prediction and in training."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from samples.stock_detectors import write_config

HEIGHT, WIDTH = 352, 640  # above 256, where bfloat16 holds even numbers only, and above 512, where it holds fourths
# Without them a box is the anchor that it came from.
REGRESSION = ('rpn_reg', 'fc_reg', 'retina_reg')


@pytest.fixture
def build(tmp_path):
    """A function that builds a narrow stock detector whose heads move no box."""

    def build(name):
        cfg = write_config(tmp_path, name)
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(cfg.model)
        for key, parameter in model.named_parameters():
            if any(part in key for part in REGRESSION):
                torch.nn.init.zeros_(parameter)
        return model

    return build


def sample():
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    shape = (HEIGHT, WIDTH)
    shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), shape)
    made = DetDataSample(metainfo=dict(shapes, scale_factor=(1, 1)))
    masks = BitmapMasks(torch.ones(1, *shape, dtype=torch.uint8).numpy(), *shape)
    made.gt_instances = InstanceData(
        bboxes=torch.tensor([[301.0, 41.0, 629.0, 333.0]]), labels=torch.tensor([3]), masks=masks
    )
    return made


def distance_from_anchors(model, boxes):
    """How far in pixels each box is from the nearest anchor, cut at the border: mmdet's generator in float32."""
    generator = (model.rpn_head if hasattr(model, 'rpn_head') else model.bbox_head).prior_generator
    sizes = [(-(-HEIGHT // stride), -(-WIDTH // stride)) for _, stride in generator.strides]
    anchors = torch.cat(generator.grid_priors(sizes, device='cpu'))
    anchors = anchors.clamp(min=0).minimum(torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]))
    return torch.cdist(boxes, anchors, p=torch.inf).amin(1)


@pytest.mark.parametrize('name', ['retinanet', 'mask_rcnn', 'htc'])
def test_boxes_that_no_head_moves_are_anchors(build, name):
    model = build(name).eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        (found,) = model.predict(torch.randn(1, 3, HEIGHT, WIDTH), [sample()])
    instances = found.pred_instances
    assert instances.bboxes.dtype == instances.scores.dtype == torch.float32
    assert (instances.bboxes > 512).any()
    assert distance_from_anchors(model, instances.bboxes).max() < 1e-3
    if 'masks' in instances:  # pasted
        assert instances.masks.shape == (len(instances), HEIGHT, WIDTH)


def test_regions_of_a_training_are_anchors_too(build, monkeypatch):
    model = build('mask_rcnn')
    regions, loss = [], model.roi_head.loss

    def noted_loss(maps, found, *rest):
        regions.append(found[0].bboxes.clone())
        return loss(maps, found, *rest)

    monkeypatch.setattr(model.roi_head, 'loss', noted_loss)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(torch.randn(1, 3, HEIGHT, WIDTH), [sample()])
        total = sum(sum(value) if isinstance(value, list) else value for key, value in losses.items() if 'loss' in key)
    total.backward()
    assert len(regions[0]) > 100
    assert distance_from_anchors(model, regions[0]).max() < 1e-3
    assert all(parameter.grad.isfinite().all() for parameter in model.neck.parameters())


def test_layers_compute_in_16_bits_and_maps_leave_the_neck_in_float32(build):
    model = build('mask_rcnn').eval()
    seen = []
    model.neck.fpn_convs[0].conv.register_forward_hook(lambda _, args, answer: seen.append(answer.dtype))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        maps = model.extract_feat(torch.randn(1, 3, 64, 64))
        assert {x.dtype for x in maps} == {torch.float32}
    assert seen == [torch.bfloat16]
    assert torch.equal(maps[0], maps[0].bfloat16().float())


def test_without_autocast_a_16_bit_model_stays_one(build):
    model = build('mask_rcnn').eval().bfloat16()
    maps = [torch.randn(1, channels, 8, 8).bfloat16() for channels in (8, 16, 32, 64)]
    with torch.no_grad():
        assert {x.dtype for x in model.neck(maps)} == {torch.bfloat16}


def test_mmdet_is_patched_once_its_models_are_imported(run_python):
    code = 'import mmdet, swin_mm\nfrom mmdet.models import FPN; print(hasattr(FPN.__call__, "__wrapped__"))'
    assert run_python(code).split()[-1] == 'True'
