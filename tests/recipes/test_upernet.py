"""The UPerNet recipes against the official repository's facts (its config files and README) and mmseg's port."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from PIL import Image

CONFIGS = Path(__file__).parents[2] / 'configs'
# Recipe: arch, ImageNet weights, width of the first map, side of a crop. Those of 640 are known from a table only.
FACTS = {
    't': ('tiny', 'swin_tiny_patch4_window7_224.pth', 96, 512),
    's': ('small', 'swin_small_patch4_window7_224.pth', 96, 512),
    'b': ('base', 'swin_base_patch4_window7_224.pth', 128, 512),
    'b_22k_640': ('base', 'swin_base_patch4_window7_224_22k.pth', 128, 640),
    'l': ('large', 'swin_large_patch4_window7_224_22k.pth', 192, 640),
}
LABELS = ('LoadAnnotations', 'swin_mm.LoadLabels')
RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'upernet_swin_{name}.py')


@pytest.fixture(scope='module')
def recipe() -> Config:
    return load('t')


@pytest.fixture(scope='module')
def stock() -> Config:
    pytest.importorskip('mmseg')
    return get_config('mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py')


def plain(cfg):
    """``cfg`` without the difference between tuples and lists."""
    if isinstance(cfg, dict):
        return {key: plain(value) for key, value in cfg.items()}
    return [plain(value) for value in cfg] if isinstance(cfg, list | tuple) else cfg


def step(pipeline, *types):
    """The one step of ``pipeline`` of these types."""
    (found,) = [step for step in pipeline if step.type in types]
    return found


def test_swin_t_has_the_parameters_of_the_official_checkpoint(recipe):
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        model = MODELS.build(copy.deepcopy(recipe.model))
    assert sum(p.numel() for p in model.parameters()) == 59_941_862


@pytest.mark.parametrize('name', FACTS)
def test_the_backbone_has_the_official_settings(name):
    arch, weights, width, _ = FACTS[name]
    model = load(name).model
    assert model.backbone.type == 'swin_mm.SwinTransformer'
    assert (model.backbone.arch, model.backbone.drop_path_rate) == (arch, 0.3)
    assert model.backbone.init_cfg.checkpoint.endswith(f'/v1.0.0/{weights}')
    assert list(model.decode_head.in_channels) == [width, 2 * width, 4 * width, 8 * width]


@pytest.mark.parametrize('name', ['t', 's', 'b'])
def test_the_official_file_name_exists(name):
    official = f'upernet_swin_{FACTS[name][0]}_patch4_window7_512x512_160k_ade20k.py'
    assert (CONFIGS / 'swin' / official).read_text().endswith(f"_base_ = '../upernet_swin_{name}.py'\n")


def test_all_but_the_backbone_is_mmsegs_own_recipe(recipe, stock):
    ours, theirs = plain(recipe.model.to_dict()), plain(stock.model.to_dict())
    for key in ('type', 'data_preprocessor', 'decode_head', 'auxiliary_head', 'train_cfg', 'test_cfg'):
        assert ours[key] == theirs[key], key
    for key in ('optim_wrapper', 'val_evaluator'):
        assert plain(recipe[key].to_dict()) == plain(stock[key].to_dict()), key
    assert recipe.train_dataloader.sampler == stock.train_dataloader.sampler


@pytest.mark.parametrize('name', FACTS)
def test_a_picture_is_resized_cropped_flipped_and_recoloured(name):
    recipe, side = load(name), FACTS[name][-1]
    pipeline = recipe.train_dataloader.dataset.pipeline
    types = [step.type for step in pipeline]
    assert types[2:] == ['RandomResize', 'RandomCrop', 'RandomFlip', 'PhotoMetricDistortion', 'PackSegInputs']
    resize, crop, flip = pipeline[2:5]
    assert (resize.scale, resize.ratio_range, resize.keep_ratio) == ((4 * side, side), (0.5, 2.0), True)
    assert (crop.crop_size, crop.cat_max_ratio, flip.prob) == ((side, side), 0.75, 0.5)
    assert recipe.model.data_preprocessor.size == (side, side)  # smaller ones are filled up


@pytest.mark.parametrize('name', FACTS)
def test_testing_is_at_one_scale_and_with_labels_of_the_original_size(name):
    recipe, side = load(name), FACTS[name][-1]
    for loader in (recipe.val_dataloader, recipe.test_dataloader):
        resize, labels = step(loader.dataset.pipeline, 'Resize'), step(loader.dataset.pipeline, *LABELS)
        assert (resize.scale, resize.keep_ratio) == ((4 * side, side), True)
        assert loader.dataset.pipeline.index(resize) < loader.dataset.pipeline.index(labels)
    assert recipe.model.test_cfg.mode == 'whole'


@pytest.mark.parametrize('name', FACTS)
def test_several_scales_are_ratios_of_the_fixed_scale_with_and_without_flip(name):
    """Officially; mmseg 1 multiplies each picture's own size, which gives other numbers."""
    recipe, side = load(name), FACTS[name][-1]
    resizes, flips = step(recipe.tta_pipeline, 'TestTimeAug').transforms[:2]
    assert {(resize.type, resize.keep_ratio) for resize in resizes} == {('Resize', True)}
    assert [tuple(resize.scale) for resize in resizes] == [(int(4 * side * r), int(side * r)) for r in RATIOS]
    assert sorted(flip.prob for flip in flips) == [0.0, 1.0]
    assert recipe.tta_model.type.endswith('SegTTAModel')


@pytest.mark.parametrize('part', ['train', 'val'])
def test_labels_count_from_the_first_class(recipe, tmp_path, part):
    """ADE20K's files have 0 for what is none of the 150, and 1 for the first of them."""
    dataset = copy.deepcopy(recipe[f'{part}_dataloader'].dataset)
    for folder, suffix, value in (('img_path', '.jpg', (9, 9, 9)), ('seg_map_path', '.png', 0)):
        path = tmp_path / dataset.data_prefix[folder]
        path.mkdir(parents=True)
        picture = Image.new('L' if value == 0 else 'RGB', (90, 60), value)
        if value == 0:
            picture.paste(1, (30, 0, 60, 60))
            picture.paste(150, (60, 0, 90, 60))
        picture.save(path / f'one{suffix}')
    dataset.data_root = str(tmp_path)
    with DefaultScope.overwrite_default_scope('mmseg'):
        labels = DATASETS.build(dataset)[0]['data_samples'].gt_sem_seg.data
    found = set(labels.unique().tolist())
    assert len(found) > 1  # a training crop may leave one out
    assert found <= {0, 149, 255}
    assert recipe.model.decode_head.num_classes == 150


def test_the_schedule_is_160k_iterations_of_16_pictures(recipe):
    assert (recipe.train_cfg.type, recipe.train_cfg.max_iters) == ('IterBasedTrainLoop', 160_000)
    assert recipe.auto_scale_lr.base_batch_size == 8 * recipe.train_dataloader.batch_size == 16
    assert recipe.optim_wrapper.optimizer == dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01)
    warmup, poly = recipe.param_scheduler
    assert (warmup.end - 1, warmup.start_factor, warmup.by_epoch) == (1500, 1e-6, False)
    assert (poly.end - 1, poly.power, poly.eta_min, poly.by_epoch) == (160_000, 1.0, 0.0, False)
