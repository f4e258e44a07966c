"""The table of published weights against those who name the same files."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest
from libraries import without_memory
from mmengine.config import Config

from swin_mm.backbone.arguments import ARCHS
from swin_mm.backbone.arguments_v2 import ArgumentsV2
from swin_mm.checkpoints.published import BY_URL, OFFICIAL, RELEASES
from swin_mm.recipes import settings_within

ROOT = Path(__file__).parents[2]


def named_in(folder: Path, pattern: str) -> set[str]:
    text = ''.join(path.read_text(errors='replace') for path in folder.rglob(pattern))
    found = re.findall(rf'{RELEASES}/[\w./]+\.pth', text)
    return {url for url in found if '_mlp_' not in url}


def test_the_name_of_a_file_says_what_the_table_says():
    assert len(BY_URL) == len(OFFICIAL)
    for weights in OFFICIAL:
        v2 = weights.release == 'v2.0.0'
        assert re.search(rf'swin{"v2" if v2 else ""}_{weights.arch}_patch4_window(12to)?{weights.window}', weights.name)
        assert v2 == bool(weights.window_sizes) == bool(weights.pretrained_window_sizes)
        assert weights.arch in ARCHS
        assert weights.url == f'{RELEASES}/{weights.release}/{weights.name}.pth'
        if weights.task == 'classification':
            assert re.search(f'(_|_192to){weights.image_size}(_|$)', weights.name)
            assert ('22k' in weights.name) == weights.trained_on.startswith('ImageNet-22K')
            assert weights.classes == (21841 if weights.name.endswith('_22k') else 1000)
        assert weights.licence == 'MIT'
        assert weights.sha256 is None or re.fullmatch('[0-9a-f]{8,64}', weights.sha256)


# As the README files of the official repositories list them: release and file, and the recipe that we have for it.
README = {
    'v1.0.3/mask_rcnn_swin_tiny_patch4_window7_1x': 'mask_rcnn_swin_t',
    'v1.0.2/mask_rcnn_swin_tiny_patch4_window7': 'mask_rcnn_swin_t_3x',
    'v1.0.2/mask_rcnn_swin_small_patch4_window7': 'mask_rcnn_swin_s_3x',
    'v1.0.3/cascade_mask_rcnn_swin_tiny_patch4_window7_1x': 'cascade_mask_rcnn_swin_t',
    'v1.0.2/cascade_mask_rcnn_swin_tiny_patch4_window7': 'cascade_mask_rcnn_swin_t_3x',
    'v1.0.2/cascade_mask_rcnn_swin_small_patch4_window7': 'cascade_mask_rcnn_swin_s_3x',
    'v1.0.2/cascade_mask_rcnn_swin_base_patch4_window7': 'cascade_mask_rcnn_swin_b_3x',
    'v1.0.9/reppointsv2_swin_tiny_patch4_window7_3x': None,
    'v1.0.9/mask_reppointsv2_swin_tiny_patch4_window7_3x': None,
    'v1.0.3/moby_mask_rcnn_swin_tiny_patch4_window7_1x': 'mask_rcnn_swin_t',
    'v1.0.3/moby_mask_rcnn_swin_tiny_patch4_window7_3x': 'mask_rcnn_swin_t_3x',
    'v1.0.3/moby_cascade_mask_rcnn_swin_tiny_patch4_window7_1x': 'cascade_mask_rcnn_swin_t',
    'v1.0.3/moby_cascade_mask_rcnn_swin_tiny_patch4_window7_3x': 'cascade_mask_rcnn_swin_t_3x',
    'v1.0.1/upernet_swin_tiny_patch4_window7_512x512': 'upernet_swin_t',
    'v1.0.1/upernet_swin_small_patch4_window7_512x512': 'upernet_swin_s',
    'v1.0.1/upernet_swin_base_patch4_window7_512x512': 'upernet_swin_b',
    'v1.0.3/moby_upernet_swin_tiny_patch4_window7_512x512': 'upernet_swin_t',
}
WHOLE_MODELS = {f'{w.release}/{w.name}': w for w in OFFICIAL if w.task != 'classification'}


def test_every_published_detector_and_segmentor_is_there():
    assert WHOLE_MODELS.keys() == README.keys()


@pytest.mark.parametrize(('file', 'recipe'), [row for row in README.items() if row[1]])
def test_a_published_model_is_of_the_size_of_its_recipe(file, recipe):
    weights, cfg = WHOLE_MODELS[file], Config.fromfile(ROOT / f'configs/{recipe}.py')
    assert weights.task == {'mmdet': 'detection', 'mmseg': 'segmentation'}[cfg.default_scope]
    assert weights.arch == cfg.model.backbone.arch
    heads = [part for _, part in settings_within(cfg.model, 'model') if 'num_classes' in part]
    assert {head.num_classes for head in heads} == {weights.classes}
    assert ('MoBY' in weights.trained_on) == ('moby_' in file)


def test_a_recipe_has_one_file_of_its_published_number():
    """Those of MoBY fit the same recipes and have other numbers."""
    official = {file: recipe for file, recipe in README.items() if recipe and 'moby_' not in file}
    assert {file: w.recipe for file, w in WHOLE_MODELS.items() if w.recipe} == official
    assert not any(w.recipe for w in OFFICIAL if w.task == 'classification')


def test_our_recipes_start_from_files_of_the_table():
    urls = named_in(ROOT / 'configs', '*.py')
    assert urls
    assert urls <= set(BY_URL)


@pytest.mark.parametrize('path', sorted((ROOT / 'configs').glob('*_swin_v2_*.py')), ids=lambda path: path.stem)
def test_a_recipe_of_v2_counts_offsets_in_the_windows_of_its_weights(path):
    """Otherwise every weight of the position bias is there, and gives other numbers."""
    backbone = Config.fromfile(path).model.backbone
    weights, known = BY_URL[backbone.init_cfg.checkpoint], {field.name for field in fields(ArgumentsV2)}
    assert weights.arch == backbone.arch
    a = ArgumentsV2.parse(backbone.arch, **{key: value for key, value in backbone.items() if key in known})
    units = [max(given) or max(own) for given, own in zip(a.pretrained_window_sizes, a.windows, strict=True)]
    assert units == [*weights.pretrained_window_sizes]


@pytest.mark.parametrize('package', ['mmdet', 'timm'])
def test_others_name_the_same_files(package):
    """They are asked where they are installed; what they name, they download."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f'{package} is not installed')
    urls = named_in(Path(spec.origin).parent, '*swin*.py')
    assert len(urls) >= 2
    assert urls <= set(BY_URL)
    assert package == 'mmdet' or {w.url for w in OFFICIAL if w.window_sizes} <= urls


V2_FILES = [w for w in OFFICIAL if w.window_sizes]


@pytest.mark.parametrize('weights', V2_FILES, ids=lambda weights: weights.name)
def test_windows_of_v2_are_those_that_timm_builds_for_the_file(weights):
    """timm says none for a pretraining with the same windows; its models shrink a window to the map as Microsoft's."""
    swin = pytest.importorskip('timm.models.swin_transformer_v2')
    name = next(key for key, cfgs in swin.default_cfgs.items() if cfgs.default.url == weights.url)
    net = without_memory(getattr(swin, name))
    attentions = [stage.blocks[0].attn for stage in net.layers]
    assert [attention.window_size for attention in attentions] == [(w, w) for w in weights.window_sizes]
    pretrained = [attention.pretrained_window_size[0] for attention in attentions]
    units = [said or own for said, own in zip(pretrained, weights.window_sizes, strict=True)]
    assert units == [*weights.pretrained_window_sizes]
    assert net.default_cfg['input_size'] == (3, weights.image_size, weights.image_size)
    assert net.num_classes == weights.classes
    assert {stage.blocks[0].dim for stage in net.layers} == {ARCHS[weights.arch]['embed_dims'] * 2**i for i in range(4)}
    assert [len(stage.blocks) for stage in net.layers] == [*ARCHS[weights.arch]['depths']]


def test_published_windows_of_v2():
    """As Microsoft's configs give them for what was fine-tuned."""
    windows = {w.name: (w.window_sizes, w.pretrained_window_sizes) for w in V2_FILES}
    assert windows['swinv2_tiny_patch4_window16_256'] == ((16, 16, 16, 8), (16, 16, 16, 8))
    for arch in ('base', 'large'):
        fine_tuned = f'swinv2_{arch}_patch4_window12to24_192to384_22kto1k_ft'
        assert windows[fine_tuned] == ((24, 24, 24, 12), (12, 12, 12, 6))
        assert windows[f'swinv2_{arch}_patch4_window12_192_22k'] == ((12, 12, 12, 6), (12, 12, 12, 6))
