"""Own data in COCO's format: what is found, split, mended and refused, and the heads of every recipe."""

import json
from hashlib import sha256
from random import Random

import pytest
from mmengine.config import Config
from PIL import Image
from samples.own_data import write_coco

from swin_mm.commands import init
from swin_mm.datasets.own import choose_recipe, find_coco, prepare, write_detection
from swin_mm.datasets.own.split import held_out
from swin_mm.errors import PreflightError
from swin_mm.recipes import known_recipes, settings_within

SUITED = [
    path
    for path in known_recipes()
    if not path.stem.startswith(('rtmdet', 'upernet', 'semantic', 'mask_rcnn_swin_pico_heat'))
]
SUITED = [path for path in SUITED if not path.stem.endswith(('ade20k', 'panoptic', 'lvis'))]


def change(file, **parts) -> None:
    """Lets functions change parts of a JSON file in place."""
    content = json.loads(file.read_text())
    for name, alter in parts.items():
        alter(content[name])
    file.write_text(json.dumps(content))


@pytest.fixture
def toys(tmp_path):
    return write_coco(tmp_path / 'toys')


@pytest.mark.parametrize('recipe', SUITED, ids=lambda path: path.stem)
def test_every_head_of_a_recipe_gets_the_number_of_classes(recipe, toys, tmp_path):
    parts, classes = prepare(find_coco(toys), tmp_path / 'written')
    written = write_detection(recipe, parts, classes, toys, 'a test')
    assert len(written.text.splitlines()) <= 40
    (tmp_path / 'own.py').write_text(written.text)
    model, base = (Config.fromfile(path).model for path in (tmp_path / 'own.py', recipe))
    counts = {
        key: (part.get('num_classes'), part.get('num_things_classes')) for key, part in settings_within(model, 'model')
    }
    before = {
        key: (part.get('num_classes'), part.get('num_things_classes')) for key, part in settings_within(base, 'model')
    }
    assert counts.keys() == before.keys()  # no head is lost
    assert {key: tuple(value and len(classes) for value in values) for key, values in before.items()} == counts
    for _, part in settings_within(model, 'model'):
        if part.get('class_weight'):
            assert len(part['class_weight']) == len(classes) + 1


@pytest.mark.parametrize('name', ['rtmdet_swin_t', 'mask_rcnn_swin_t_lvis', 'upernet_swin_t'])
def test_a_recipe_with_data_of_its_own_way_is_refused(name, toys, tmp_path):
    parts, classes = prepare(find_coco(toys), tmp_path)
    with pytest.raises(PreflightError, match=f'{name} has a way of its own'):
        write_detection(choose_recipe(name), parts, classes, toys, 'a test')


def test_models_are_found_by_kind_and_size():
    found = [
        choose_recipe(*words).stem for words in (('mask2former',), ('cascade_mask_rcnn', 'base'), ('dino', 'large'))
    ]
    assert found == ['mask2former_swin_t_instance', 'cascade_mask_rcnn_swin_b_3x', 'dino_swin_l']


def test_copies_that_augmentation_made_of_an_image_stay_together(tmp_path):
    toys = write_coco(tmp_path / 'toys', train=12, val=0)
    change(
        toys / 'labels.json',
        images=lambda images: [i.update(file_name=f'{i["id"] // 3}_jpg.rf.{i["id"]}.jpg') for i in images],
    )
    for i, file in enumerate(sorted((toys / 'images').iterdir()), 1):
        file.rename(file.with_name(f'{i // 3}_jpg.rf.{i}.jpg'))
    parts, _ = prepare(find_coco(toys), tmp_path)
    train, val = ({file.name.partition('.rf.')[0] for file in parts[name].files()} for name in ('train', 'val'))
    assert train
    assert val
    assert not train & val


@pytest.mark.parametrize('seed', range(20))
def test_a_split_has_each_class_in_both_parts(seed):
    """Of some common and some rare classes; one that a single image has is trained on."""
    random = Random(seed)
    classes = {f'{i}.jpg': {int(random.expovariate(0.15)) for _ in range(random.randint(0, 6))} for i in range(200)}
    held = held_out(classes, 'a test')
    assert held == held_out(dict(random.sample([*classes.items()], 200)), 'a test')
    assert 0.2 <= len(held) / 200 < 0.3
    for label in set().union(*classes.values()):
        having = {name for name, found in classes.items() if label in found}
        assert bool(having & held) == (len(having) > 1)
        assert having - held


def test_a_split_keeps_copies_together_and_needs_two_images():
    copies = {f'{i}_jpg.rf.{copy}.jpg': {i % 3} for i in range(9) for copy in range(4)}
    held = held_out(copies, 'a test')
    assert {name for name in copies if name.partition('.rf.')[0] in {n.partition('.rf.')[0] for n in held}} == held
    assert len(held) == 3 * 4  # an image of each class
    with pytest.raises(PreflightError, match='a test must have two different images'):
        held_out({'1.rf.a.jpg': {1}, '1.rf.b.jpg': {1}}, 'a test')
    assert held_out({'a.jpg': {7}, 'b.jpg': set()}, 'a test') == {'b.jpg'}


def test_rare_classes_of_a_file_are_validated_too(tmp_path):
    """By hashes alone all three images of a rare class could be in one part, as they are here."""
    toys = write_coco(tmp_path / 'toys', train=15, val=0)
    names = sorted((f'{i:06d}.jpg' for i in range(1, 16)), key=lambda name: sha256(name.encode()).hexdigest())
    rare = {int(name.partition('.')[0]) for name in names[-3:]}
    change(
        toys / 'labels.json',
        annotations=lambda found: [a.update(category_id=3 if a['image_id'] in rare else 7) for a in found],
    )
    parts, classes = prepare(find_coco(toys), tmp_path)
    assert set(classes) == {'coin', 'tile'}
    assert all(part.count()[label] for part in parts.values() for label in classes)


def test_sizes_and_areas_that_are_left_out_are_added(toys, tmp_path):
    def strip(images):
        for image in images:
            del image['width'], image['height']

    file = toys / 'train/_annotations.coco.json'
    change(file, images=strip, annotations=lambda found: [annotation.pop('area') for annotation in found])
    before = file.read_text()
    parts, _ = prepare(find_coco(toys), tmp_path / 'written')
    parts['train'].save()
    assert file.read_text() == before
    content = json.loads((tmp_path / 'written/train.json').read_text())
    for image in content['images']:
        with Image.open(toys / 'train' / image['file_name']) as opened:
            assert opened.size == (image['width'], image['height'])
    assert all(found['area'] == found['bbox'][2] * found['bbox'][3] for found in content['annotations'])


def test_files_are_told_by_words_of_their_names_or_folders(toys):
    parts = find_coco(toys)
    assert {name: part.images.name for name, part in parts.items()} == {'train': 'train', 'val': 'valid'}
    alone = find_coco(toys / 'valid/_annotations.coco.json')
    assert alone.keys() == {'train'}


def test_images_are_beside_the_folder_of_a_file_that_is_named(toys, tmp_path):
    """As in COCO: annotations/instances_train.json, and train/ beside that folder."""
    (toys / 'annotations').mkdir()
    file = (toys / 'train/_annotations.coco.json').rename(toys / 'annotations/instances_train.json')
    assert find_coco(file)['train'].images == toys / 'train'
    init.main(['--data', str(file), '-o', str(tmp_path / 'own.py')])
    assert Config.fromfile(tmp_path / 'own.py').train['data_prefix']['img'] == 'train/'


FAULTS = {
    'an image that is not there': (
        dict(images=lambda images: images[0].update(file_name='gone.jpg')),
        r'1 of 6 images of .*json are not in .*train: gone.jpg',
    ),
    'an image of another size': (
        dict(images=lambda images: images[0].update(width=5)),
        r'000001.jpg is of \d+ x \d+ pixels, and .*json says 5 x',
    ),
    'a class that is not listed': (
        dict(annotations=lambda found: found[0].update(category_id=99)),
        r'annotation \d+: category_id must be one of the file, got 99',
    ),
    'no box': (dict(annotations=lambda found: found[0].update(bbox=[])), r'bbox must be \[x, y, width, height\]'),
    'a class twice': (
        dict(categories=lambda listed: listed[0].update(name='tile')),
        r"each category name must be there once, got twice: 'tile'",
    ),
    'another order': (dict(categories=lambda listed: listed.reverse()), 'the same classes in the same order'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_what_would_be_read_wrongly_is_refused_by_name(fault, toys, tmp_path):
    alter, reason = FAULTS[fault]
    change(toys / 'train/_annotations.coco.json', **alter)
    with pytest.raises(PreflightError, match=reason):
        prepare(find_coco(toys), tmp_path)


def test_several_files_and_no_file_leave_no_guess(toys, tmp_path):
    (toys / 'train/more.json').write_text((toys / 'train/_annotations.coco.json').read_text())
    with pytest.raises(PreflightError, match='several annotation files to train on'):
        find_coco(toys)
    for i, name in enumerate(('train', 'valid')):
        (toys / name / '_annotations.coco.json').rename(tmp_path / f'{i}.json')
    (toys / 'train/more.json').write_text('{"images": []}')
    assert find_coco(toys) == {}
    (toys / 'a.json').write_text('{')
    with pytest.raises(PreflightError, match=r'a.json cannot be read as JSON'):
        find_coco(toys)


def test_an_image_must_not_be_in_both_parts(toys, tmp_path):
    parts = find_coco(toys)
    parts['val'] = find_coco(toys / 'train/_annotations.coco.json')['train']
    with pytest.raises(PreflightError, match='must not share images'):
        prepare(parts, tmp_path)
