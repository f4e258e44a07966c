"""The name of a recipe is enough to predict: its config, the weights published for it, and their class names."""

import dataclasses
import hashlib
import os
import re
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from samples.pico_segmentor import CLASSES, CONFIG, picture, save_checkpoint

import swin_mm
from swin_mm.checkpoints import published
from swin_mm.checkpoints.downloads import BY_URL
from swin_mm.checkpoints.published import BY_RECIPE, Weights
from swin_mm.commands import predict
from swin_mm.errors import PreflightError
from swin_mm.inference import Detector, Segmentor
from swin_mm.inference.loading import _configured
from swin_mm.inference.naming import published_weights
from swin_mm.recipes import find_config

DETECTOR, SEGMENTOR = 'mask_rcnn_swin_pico_shapes', 'upernet_swin_pico_shapes'


@pytest.fixture
def publish(server, monkeypatch):
    """Publishes a file for a recipe on a server of this machine; gives the row of the table."""
    monkeypatch.setattr(published, 'RELEASES', server.url)

    def put(recipe, path):
        server.content = path.read_bytes()
        weights = Weights(f'standin_{recipe}', 'v1', 'any', 'tiny', 7, None, 'nothing', 5, recipe=recipe)
        monkeypatch.setitem(BY_RECIPE, recipe, weights)
        monkeypatch.setitem(BY_URL, weights.url, weights)
        return weights

    return put


@pytest.fixture(scope='module')
def segmentation_weights(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp('named') / 'pico.pth', Config.fromfile(CONFIG))


@pytest.fixture(scope='module')
def detection_weights(tmp_path_factory):
    """Bare weights as an mmdet 2.x file has them, whose class names only the config knows."""
    cfg, path = Config.fromfile(find_config(DETECTOR)), tmp_path_factory.mktemp('named') / 'pico.pth'
    init_default_scope('mmdet')
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {'mmdet_version': '2.11.0'}}, path)
    return path


def test_a_detector_by_name(publish, server, detection_weights, monkeypatch):
    publish(DETECTOR, detection_weights)
    image = picture(96, 128)
    (found,) = swin_mm.Detector(DETECTOR, device='cpu')(image)
    (expected,) = Detector(DETECTOR, detection_weights, device='cpu')(image)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    server.status = 500  # what is in the cache needs no server
    named = swin_mm.Detector(DETECTOR, device='cpu')
    assert named.classes == ['circle', 'square', 'triangle', 'star', 'cross']
    assert server.asked == [None]


def test_the_three_lines_of_the_readme_run(publish, detection_weights, root, tmp_path, monkeypatch, capsys):
    publish(DETECTOR, detection_weights)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(64, 80)).save('street.jpg')
    lines = re.search(r'```python\n(.*?)```', (root / 'README.md').read_text(), re.DOTALL)[1]
    assert len([line for line in lines.splitlines() if line]) == 3
    exec(lines.replace('mask_rcnn_swin_t', DETECTOR))
    assert capsys.readouterr().out.startswith('[')


def test_a_segmentor_by_name_whose_download_breaks_off(publish, server, segmentation_weights):
    publish(SEGMENTOR, segmentation_weights)
    server.breaks_at = [1000, 50_000]
    (found,) = swin_mm.Segmentor(SEGMENTOR, device='cpu')(picture(64, 80))
    (expected,) = Segmentor(SEGMENTOR, segmentation_weights, device='cpu')(picture(64, 80))
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert tuple(swin_mm.Segmentor(SEGMENTOR, device='cpu').classes) == CLASSES
    assert server.asked == [None, 'bytes=1000-', 'bytes=50000-']


def test_the_publishers_sha256_is_held(publish, segmentation_weights, monkeypatch):
    weights = publish(SEGMENTOR, segmentation_weights)
    right = hashlib.sha256(segmentation_weights.read_bytes()).hexdigest()
    for sha256 in ('0' * 64, right):
        monkeypatch.setitem(BY_URL, weights.url, dataclasses.replace(weights, sha256=sha256))
        if sha256 != right:
            with pytest.raises(ValueError, match=f'{weights.url} has the sha256 {right}, which must begin with 0000'):
                Segmentor(SEGMENTOR, device='cpu')
    assert Segmentor(SEGMENTOR, device='cpu').classes == list(CLASSES)


@pytest.mark.parametrize('status', [403, 404])
def test_what_a_server_refuses_says_where_a_copy_goes_and_a_copy_there_is_enough(
    publish, server, segmentation_weights, status
):
    weights = publish(SEGMENTOR, segmentation_weights)
    server.status = status
    with pytest.raises(OSError, match=f'^{weights.url}: the server says {status} .*; put a copy of the file at ') as e:
        Segmentor(SEGMENTOR, device='cpu')
    place = str(e.value).rpartition('put a copy of the file at ')[2]
    assert place == os.path.join(os.environ['SWIN_MM_CACHE'], f'{weights.name}.pth')
    shutil.copy(segmentation_weights, place)
    assert Segmentor(SEGMENTOR, device='cpu').classes == list(CLASSES)


def test_predict_by_name_into_a_cache_of_its_own(publish, server, segmentation_weights, tmp_path, monkeypatch, capsys):
    publish(SEGMENTOR, segmentation_weights)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(64, 80)).save('street.png')
    words = ['street.png', SEGMENTOR, '--device', 'cpu', '--cache', 'mine']
    assert predict.main(words) == 0
    assert capsys.readouterr().out.split() == [
        f'outputs/{name}' for name in ('vis/street.jpg', 'preds/street.png', 'preds/street.json')
    ]
    assert [path.name for path in (tmp_path / 'mine').iterdir()] == [f'standin_{SEGMENTOR}.pth']
    server.status = 500
    assert predict.main(words) == 0
    assert predict.main([*words[:-1], 'other']) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f'{server.url}/v1/standin_{SEGMENTOR}.pth: the server says 500' in said
    assert said.endswith(f'; put a copy of the file at {tmp_path}/other/standin_{SEGMENTOR}.pth')


def test_without_a_network_the_sentence_names_address_and_place(publish, segmentation_weights, monkeypatch):
    publish(SEGMENTOR, segmentation_weights)
    monkeypatch.setattr(published, 'RELEASES', 'http://weights.invalid')
    with pytest.raises(OSError, match=r'^http://weights\.invalid/v1/.*\.pth: .*; put a copy of the file at .*\.pth$'):
        Segmentor(SEGMENTOR, device='cpu')


@pytest.mark.parametrize('name', BY_RECIPE)
def test_class_names_of_published_weights_come_from_their_data_set(name):
    """Without names in the file, as the config's data set has them: as many as the publisher's table says."""
    cfg = Config.fromfile(find_config(name))
    init_default_scope(cfg.default_scope)
    classes = _configured(cfg)['classes']
    first, last = {80: ('person', 'toothbrush'), 150: ('wall', 'flag')}[BY_RECIPE[name].classes]
    assert (len(classes), classes[0], classes[-1]) == (BY_RECIPE[name].classes, first, last)


def test_the_page_lists_the_recipes_with_published_weights(root):
    listed = (root / 'docs/predict.md').read_text().partition('Weights are published for ')[2].partition('. Any')[0]
    assert re.findall(r'`(\w+)`', listed) == [*BY_RECIPE]


def test_an_official_file_name_and_a_copy_in_a_clone_are_the_recipe(root, tmp_path):
    url = BY_RECIPE['mask_rcnn_swin_t'].url
    official = 'mask_rcnn_swin_tiny_patch4_window7_mstrain_480-800_adamw_1x_coco'
    copy = tmp_path / 'configs/mask_rcnn_swin_t.py'
    copy.parent.mkdir()
    shutil.copy(root / 'configs/mask_rcnn_swin_t.py', copy)
    assert {published_weights(path) for path in (find_config('mask_rcnn_swin_t'), find_config(official), copy)} == {url}


def test_a_changed_recipe_under_the_same_name_gets_no_published_weights(tmp_path):
    """Its classes may be others, of the same number."""
    changed = tmp_path / 'mask_rcnn_swin_t.py'
    changed.write_text("_base_ = 'swin_mm::mask_rcnn_swin_t.py'")
    with pytest.raises(PreflightError, match=f'no weights are published for {changed}: name a checkpoint, or train '):
        Detector(changed)


def test_a_recipe_without_published_weights_says_what_to_do(capsys):
    with pytest.raises(
        PreflightError,
        match='published for upernet_swin_l: name a checkpoint, or train one with `swin-mm train upernet_swin_l`',
    ) as e:
        Segmentor('upernet_swin_l')
    assert 'mask_rcnn_swin_t, ' in str(e.value)
    assert '\n' not in str(e.value)
    assert predict.main(['demo.jpg', 'upernet_swin_l']) == 1
    assert 'no weights are published for upernet_swin_l' in capsys.readouterr().err
