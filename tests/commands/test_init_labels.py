"""``swin-mm init`` on images and label maps: the folder becomes a config, which mmseg reads as the files say."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image
from samples.own_data import NAMES, write_labels

from swin_mm.commands import init
from swin_mm.datasets.own import choose_recipe, find_classes, find_labels, write_segmentation
from swin_mm.errors import PreflightError
from swin_mm.recipes import known_recipes, settings_within

pytest.importorskip('mmseg')
PICO = 'upernet_swin_pico_shapes'
SUITED = [
    path for path in known_recipes() if path.stem.startswith(('upernet', 'semantic', 'mask2former_swin_t_ade20k'))
]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_folder_of_masks_is_read_as_it_is(tmp_path, capsys):
    write_labels(tmp_path / 'toys', train=10, rest='_mask.png')
    init.main(['--data', 'toys', '--model', PICO])
    said = capsys.readouterr().out
    assert 'label maps of 6 classes: ground, coin, tile' in said
    assert 'A fifth of the images' in said
    assert len((tmp_path / 'toys.py').read_text().splitlines()) <= 40
    cfg = Config.fromfile('toys.py')
    init_default_scope('mmseg')
    seen = []
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = DATASETS.build(loader.dataset)
        assert dataset.metainfo['classes'] == ('ground', *NAMES)
        for i in range(len(dataset)):
            data = dataset.get_data_info(i)
            seen.append(data['img_path'].rpartition('/')[2])
            assert data['seg_map_path'] == data['img_path'].replace('/images/', '/masks/').replace('.jpg', '_mask.png')
            assert data['reduce_zero_label'] is False
    assert sorted(seen) == sorted(path.name for path in (tmp_path / 'toys/images').iterdir())


@pytest.mark.parametrize('recipe', SUITED, ids=lambda path: path.stem)
def test_every_head_of_a_segmentor_gets_the_number_of_classes(recipe, tmp_path):
    data = write_labels(tmp_path / 'toys', val=2)
    parts = find_labels(data)
    classes = find_classes(data, parts)
    written = write_segmentation(recipe, parts, classes, data, tmp_path / 'lists', 'a test')
    (tmp_path / 'own.py').write_text(written.text)
    cfg = Config.fromfile(tmp_path / 'own.py')
    counts = [part['num_classes'] for _, part in settings_within(cfg.model, 'model') if 'num_classes' in part]
    assert counts
    assert set(counts) == {6}
    for _, part in settings_within(cfg.model, 'model'):
        assert len(part.get('class_weight', [0] * 7)) == 7


def test_parts_are_told_by_names_and_classes_by_values(tmp_path):
    data = write_labels(tmp_path / 'toys', val=2)
    (data / 'classes.txt').unlink()
    parts = find_labels(data)
    assert {name: (part.images.name, part.labels.name, len(part.names)) for name, part in parts.items()} == {
        'train': ('train', 'train', 6),
        'val': ('val', 'val', 2),
    }
    assert find_classes(data, parts) == [f'class_{i}' for i in range(6)]


def test_what_would_be_learnt_wrongly_is_refused_by_name(tmp_path):
    data = write_labels(tmp_path / 'toys')
    file = data / 'masks/000001.png'
    whole = file.read_bytes()
    labels = np.asarray(Image.open(file))
    Image.fromarray(np.where(labels > 0, 9, 0).astype(np.uint8)).save(file)
    with pytest.raises(PreflightError, match=r'classes.txt names 6 classes, .* got 9 in .*000001.png'):
        find_classes(data, find_labels(data))
    Image.new('RGB', labels.shape[::-1]).save(file)
    with pytest.raises(PreflightError, match=r'one class index a pixel.*got mode RGB in .*000001.png'):
        find_classes(data, find_labels(data))
    for other in (data / 'masks').iterdir():
        Image.fromarray(np.where(np.asarray(Image.open(other).convert('L')) > 0, 255, 0).astype(np.uint8)).save(other)
    with pytest.raises(PreflightError, match=r'no class but 0, got the values \[0, 255\]: 255 means ignored'):
        find_classes(data, find_labels(data))
    file.write_bytes(whole)
    (data / 'images/000001.jpg').unlink()
    with pytest.raises(PreflightError, match=r'masks has 6 label maps, and no folder of .* has an image for each'):
        find_labels(data)


def test_a_recipe_of_detection_is_refused(tmp_path):
    data = write_labels(tmp_path / 'toys')
    parts = find_labels(data)
    with pytest.raises(PreflightError, match='label maps need a recipe of segmentation, got mask_rcnn_swin_t'):
        write_segmentation(choose_recipe('mask_rcnn'), parts, ['a', 'b'], data, tmp_path, 'a test')
