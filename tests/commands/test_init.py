"""``swin-mm init``: a folder becomes a config, which mmdet reads as the files say."""

import json
import shlex
from collections import Counter

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from samples.own_data import IDS, NAMES, write_coco

from swin_mm.commands import init, train
from swin_mm.errors import PreflightError

pytest.importorskip('mmdet')
PICO = 'mask_rcnn_swin_pico_shapes'


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def labels_by_file(dataset) -> dict[str, Counter]:
    """The names of the classes of each image's objects, as mmdet reads them."""
    names = dataset.metainfo['classes']
    data = [dataset.get_data_info(i) for i in range(len(dataset))]
    return {d['img_path'].rpartition('/')[2]: Counter(names[i['bbox_label']] for i in d['instances']) for d in data}


def labels_in(file) -> dict[str, Counter]:
    """The same, from the annotation file itself."""
    content = json.loads(file.read_text())
    names = {category['id']: category['name'] for category in content['categories']}
    files = {image['id']: image['file_name'] for image in content['images']}
    found = {name: Counter() for name in files.values()}
    for annotation in content['annotations']:
        found[files[annotation['image_id']]][names[annotation['category_id']]] += 1
    return found


def test_an_export_with_masks_is_read_as_it_is(tmp_path, capsys):
    data = write_coco(tmp_path / 'toys')
    init.main(['--data', 'toys', '--model', PICO])
    said = capsys.readouterr().out
    assert 'Objects: boxes and masks of 5 classes' in said
    assert 'swin-mm train toys.py' in said
    cfg = Config.fromfile('toys.py')
    init_default_scope('mmdet')
    for loader, part in ((cfg.train_dataloader, 'train'), (cfg.val_dataloader, 'valid')):
        read = labels_by_file(DATASETS.build(loader.dataset))
        assert read == labels_in(data / part / '_annotations.coco.json')
        assert sum(map(sum, map(Counter.values, read.values())))
    assert not (tmp_path / 'toys_data').exists()  # the files of the export are used as they are


@pytest.mark.slow
def test_one_line_trains_on_one_file_that_is_split(tmp_path, capsys):
    write_coco(tmp_path / 'toys', train=10, val=0)
    train.main([PICO, '--data', 'toys', '--cfg-options', 'train_cfg.max_epochs=1'])
    assert 'A fifth of the images' in capsys.readouterr().out
    parts = [labels_in(tmp_path / 'toys_data' / f'{name}.json') for name in ('train', 'val')]
    assert [len(part) for part in parts] == [8, 2]
    assert parts[0] | parts[1] == labels_in(tmp_path / 'toys/labels.json')
    assert (tmp_path / 'work_dirs/toys/epoch_1.pth').is_file()


def test_the_same_data_give_the_same_config_in_any_order(tmp_path):
    file = write_coco(tmp_path / 'toys', train=10, val=0) / 'labels.json'
    init.main(['--data', 'toys'])
    first, held_out = (tmp_path / 'toys.py').read_text(), labels_in(tmp_path / 'toys_data/val.json').keys()
    content = json.loads(file.read_text())
    content['images'].reverse()
    file.write_text(json.dumps(content))
    init.main(['--data', 'toys'])
    assert (tmp_path / 'toys.py').read_text() == first
    assert labels_in(tmp_path / 'toys_data/val.json').keys() == held_out


def test_a_config_that_was_changed_by_hand_is_not_overwritten(tmp_path):
    write_coco(tmp_path / 'toys')
    init.main(['--data', 'toys'])
    with (tmp_path / 'toys.py').open('a') as file:
        file.write('# mine\n')
    with pytest.raises(
        PreflightError, match=r'toys.py is there and says something else: .* write another with `swin-mm init -o`'
    ):
        init.main(['--data', 'toys'])


def test_the_first_line_is_the_command_that_writes_the_same_again(tmp_path, capsys):
    write_coco(tmp_path / 'my toys')
    init.main(['--data', 'my toys'])
    assert capsys.readouterr().out.endswith('Next:    swin-mm train my_toys.py\n')
    written = (tmp_path / 'my_toys.py').read_text()
    command = shlex.split(written.splitlines()[0].split('`')[1])
    assert command[:2] == ['swin-mm', 'init']
    (tmp_path / 'my_toys.py').unlink()
    init.main(command[2:])
    assert (tmp_path / 'my_toys.py').read_text() == written


def test_data_with_boxes_alone_get_a_detector_of_boxes(tmp_path, capsys):
    write_coco(tmp_path / 'toys', boxes_only=True)
    init.main(['--data', 'toys'])
    assert 'Objects: boxes of 5 classes' in capsys.readouterr().out
    cfg = Config.fromfile('toys.py')
    assert (cfg.model.type, cfg.model.roi_head.bbox_head.num_classes) == ('FasterRCNN', 5)
    assert cfg.val_evaluator.metric == 'bbox'
    assert len((tmp_path / 'toys.py').read_text().splitlines()) <= 40
    with pytest.raises(PreflightError, match=r'learns masks, and \d+ of \d+ objects in .*json have a box alone'):
        init.main(['--data', 'toys', '--model', 'cascade_mask_rcnn', '-o', 'other.py'])


def test_names_that_are_not_there_are_said(tmp_path):
    (tmp_path / 'empty').mkdir()
    for wrong, reason in (('nowhere', 'nowhere is not there'), ('empty', 'no annotations that are understood')):
        with pytest.raises(PreflightError, match=reason):
            init.main(['--data', wrong])
    write_coco(tmp_path / 'toys')
    with pytest.raises(PreflightError, match=r'--model mask_rcn with --arch tiny: did you mean mask_rcnn'):
        init.main(['--data', 'toys', '--model', 'mask_rcn'])
    with pytest.raises(SystemExit):
        train.main([])


def test_the_names_and_numbers_of_the_classes_are_those_of_the_file(tmp_path):
    write_coco(tmp_path / 'toys', train=12, val=4)
    init.main(['--data', 'toys'])
    assert Config.fromfile('toys.py').classes == NAMES
    assert sorted(IDS) != list(IDS)
