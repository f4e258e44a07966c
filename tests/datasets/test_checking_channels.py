"""``check_data`` compares the channels that are loaded, normalised and taken by the backbone."""

import pytest
from mmengine.config import Config

from swin_mm.datasets.checks import Findings, check_data
from swin_mm.datasets.checks.channels import check_channels
from swin_mm.recipes import find_config, known_recipes

HEAT = 'mask_rcnn_swin_pico_heat'


def errors(cfg: Config) -> list[list[str]]:
    """All that is said of each error of channels."""
    rows = check_data(cfg).of('error')
    return [[offender.text for offender in row.offenders] for row in rows if row.check == 'channels']


@pytest.mark.parametrize('recipe', known_recipes(), ids=lambda path: path.stem)
def test_recipes_agree_with_themselves(recipe):
    found = Findings()
    check_channels(Config.fromfile(recipe), ('train', 'val', 'test'), found)
    assert found.rows == []


SPOILT = {
    'three bands': ({'train_dataloader.dataset.pipeline.0.loader.bands': (0, 1, 2)}, 'loader.bands (LoadBands): 3'),
    'three means': ({'model.data_preprocessor.mean': [0, 0, 0]}, 'model.data_preprocessor.mean: 3'),
    'three channels': ({'model.backbone.in_channels': 3}, 'model.backbone.in_channels: 3'),
    'colours in validation': (
        {'val_dataloader.dataset.pipeline.0': dict(type='LoadImageFromFile')},
        'val_dataloader.dataset.pipeline.0.color_type (LoadImageFromFile): 3',
    ),
}


@pytest.mark.parametrize('case', SPOILT)
def test_one_that_differs_is_one_error_with_all_numbers(case):
    settings, said = SPOILT[case]
    cfg = Config.fromfile(find_config(HEAT))
    cfg.merge_from_dict(settings)
    (error,) = errors(cfg)
    assert [line for line in error if said in line]
    assert len([line for line in error if line.endswith(': 4')]) == len(error) - 1


def test_grey_images_need_one_mean_and_one_channel():
    cfg = Config.fromfile(find_config('mask_rcnn_swin_pico_shapes'))
    for loop in ('train', 'val', 'test'):
        cfg[f'{loop}_dataloader'].dataset.pipeline[0]['color_type'] = 'grayscale'
    assert len(errors(cfg)) == 1
    grey = dict(type='swin_mm.DetDataPreprocessor', mean=[120.0], std=[60.0], bgr_to_rgb=False)
    cfg.model.update(data_preprocessor=grey)
    cfg.model.backbone.in_channels = 1
    assert errors(cfg) == []


def test_what_depends_on_the_file_and_one_mean_for_all_are_let_through():
    cfg = Config.fromfile(find_config('mask_rcnn_swin_pico_shapes'))
    cfg.model.data_preprocessor.update(mean=[120.0], std=[60.0])  # mmdet's takes it off every channel
    assert errors(cfg) == []
    for loop in ('train', 'val', 'test'):
        cfg[f'{loop}_dataloader'].dataset.pipeline[0]['color_type'] = 'unchanged'
    cfg.model.backbone.in_channels = 5
    assert errors(cfg) == []
