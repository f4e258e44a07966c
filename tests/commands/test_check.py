"""``check``: a table or JSON, and the exit status that scripts ask for."""

import base64
import io
import json
import re
import sys

import pytest
from mmengine.config import Config
from PIL import Image
from samples.breakable_data import OwnData

from swin_mm.commands.check import main
from swin_mm.datasets.checks import screen
from swin_mm.errors import PreflightError


@pytest.fixture
def own(tmp_path) -> OwnData:
    return OwnData(tmp_path)


@pytest.fixture
def check(own, capsys):
    """Writes the data, checks them with ``flags``; gives the exit status and what was printed."""

    def check(*flags: str) -> tuple[int, str]:
        own.write().dump(own.root / 'own.py')
        return main([str(own.root / 'own.py'), *flags]), capsys.readouterr().out

    return check


def test_good_data_end_with_status_0(check):
    status, out = check()
    assert status == 0
    assert out.splitlines()[-1].endswith('own.py: 0 errors, 0 warnings, 2 notes')


def test_an_error_is_a_row_with_its_examples_and_status_1(own, check):
    own.first['image_id'] = 999
    status, out = check()
    assert status == 1
    row, example = out.splitlines()[:2]
    assert row.split()[:3] == ['error', 'unknown-image', '1']
    assert row.endswith('train.json: annotations are of images that the file does not list')
    assert example.strip() == 'annotation 1 of image 999: (4, 6, 20, 16)'
    assert out.splitlines()[-1].endswith('1 error, 0 warnings, 2 notes')


def test_json_says_the_same(own, check):
    own.image().unlink()
    status, out = check('--json')
    report = json.loads(out)
    assert (status, report['errors']) == (1, 1)
    assert report['findings'][0] == {
        'severity': 'error',
        'check': 'image-missing',
        'data': f'train: {own.root}/train.json',
        'count': 1,
        'sentence': 'images are not there',
        'examples': [str(own.image())],
    }


def test_only_decoding_finds_an_image_that_is_cut_short(own, check):
    own.image().write_bytes(own.image().read_bytes()[:-3000])
    assert check()[0] == 0
    status, out = check('--images')
    assert status == 1
    assert 'image-broken' in out


def test_options_change_the_config(own, check):
    assert check('--cfg-options', 'model.roi_head.bbox_head.num_classes=80')[0] == 1


def test_the_report_shows_the_images_with_their_boxes(own, check, tmp_path):
    own.first['bbox'] = [40, 20, 60, 20]
    own.image(3).write_bytes(b'<script>alert(1)</script>')
    own.train['categories'].append(dict(id=9, name='<b>cow</b>'))
    page = tmp_path / 'faults.html'
    assert check('--report', str(page))[0] == 1
    text = page.read_text()
    assert '<script>' not in text
    assert '&lt;b&gt;cow&lt;/b&gt;' in text
    section = text[text.index('error: box-outside (1)') : text.index('error: mask-outside (1)')]
    assert 'annotation 1 of image 100: (40, 20, 60, 20)' in section
    (data,) = re.findall(r'data:image/jpeg;base64,([^"]+)"', section)
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (240, 180)
        red, green, _ = image.convert('RGB').getpixel((150, 110))  # the left edge of the box, 3.75 times as large
    assert red > 150
    assert green < 110


def test_a_report_that_cannot_be_written_is_said(own, check):
    with pytest.raises(PreflightError, match=r'--report must be a file .*/gone/faults\.html: No such file'):
        check('--report', str(own.root / 'gone/faults.html'))


def test_fix_writes_a_copy_and_a_small_config_that_is_clean(own, check, tmp_path, capsys):
    own.first['image_id'] = 999
    own.cfg.val_evaluator = dict(type='CocoMetric', ann_file=str(own.root / 'val.json'))
    out = tmp_path / 'mended'
    status, said = check('--fix', str(out))
    assert status == 0
    assert said.splitlines()[0].split()[:3] == ['fixed', 'unknown-image', '1']
    assert f'Mended: {out}/own.py' in said
    text = (out / 'own.py').read_text()
    assert f"_base_ = '{own.root}/own.py'" in text
    assert 'roi_head' not in text
    assert main([str(out / 'own.py')]) == 0
    assert 'unknown-image' not in capsys.readouterr().out
    with pytest.raises(PreflightError, match='new or an empty folder'):
        main([str(own.root / 'own.py'), '--fix', str(out)])


def test_fix_keeps_options_and_data_sets_in_lists(own, check, tmp_path):
    own.first['image_id'] = 999
    own.cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[own.dataset, dict(own.dataset)])
    status, said = check('--json', '--fix', str(tmp_path / 'mended'), '--cfg-options', 'model.rpn_head.num_classes=7')
    assert status == 0
    assert json.loads(said)['fixed'][0]['check'] == 'unknown-image'
    cfg = Config.fromfile(tmp_path / 'mended/own.py')
    assert cfg.model.rpn_head.num_classes == 7
    assert {part.ann_file for part in cfg.train_dataloader.dataset.datasets} == {str(tmp_path / 'mended/train.json')}


def test_fix_says_what_is_left(own, check, tmp_path):
    own.first['image_id'] = 999
    own.cfg.model.roi_head.bbox_head.num_classes = 80
    status, said = check('--fix', str(tmp_path / 'mended'))
    assert status == 1
    assert [line.split()[:2] for line in said.splitlines() if line.startswith(('fixed', 'error'))] == [
        ['fixed', 'unknown-image'],
        ['error', 'num-classes'],
        ['error', 'num-classes'],
    ]


def test_fix_has_nothing_to_do_for_whole_data(check, tmp_path):
    assert 'Nothing to mend' in check('--fix', str(tmp_path / 'mended'))[1]
    assert not (tmp_path / 'mended').exists()


def test_fix_writes_a_whole_config_for_one_in_pythons_own_syntax(own, tmp_path):
    own.first['image_id'] = 999
    own.write()
    files = f"data_root='{own.root}/', ann_file='train.json', data_prefix=dict(img='train/')"
    (own.root / 'lazy.py').write_text(
        'from mmdet.datasets import CocoDataset\n'
        f"train_dataloader = dict(dataset=dict(type=CocoDataset, metainfo=dict(classes=('cat', 'dog')), {files}))\n"
        "default_scope = 'mmdet'\n"
    )
    assert main([str(own.root / 'lazy.py'), '--fix', str(tmp_path / 'mended')]) == 0
    assert main([str(tmp_path / 'mended/lazy.py')]) == 0


@pytest.mark.parametrize('is_terminal', [True, False])
def test_a_terminal_shows_that_a_large_file_is_read_and_the_images_go_by(own, check, monkeypatch, is_terminal):
    shown = io.StringIO()
    monkeypatch.setattr(shown, 'isatty', lambda: is_terminal)
    monkeypatch.setattr(sys, 'stderr', shown)
    monkeypatch.setattr(screen, 'LARGE', 100)
    assert check()[0] == 0
    if is_terminal:
        assert f'reading {own.root}/train.json (0.00 MB)' in shown.getvalue()
        assert '12/12' in shown.getvalue()
    else:
        assert shown.getvalue() == ''
