"""The pages of ``browse`` and ``check --report`` as Chromium shows them, on a desk and on a telephone."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from samples.breakable_data import OwnData

from swin_mm.commands import browse, check

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='no Chromium here: apt-get install chromium')
COUNT = """<script>addEventListener('load', () => {
    const shown = [...document.images].filter(image => image.naturalWidth && image.getBoundingClientRect().width > 50);
    const rows = new Set(shown.map(image => image.getBoundingClientRect().top));
    const root = document.documentElement;
    document.title = [shown.length, rows.size, root.scrollWidth > root.clientWidth].join(' ');
})</script>"""


def shown(page: str, width: int) -> tuple[int, int, bool]:
    """How many images the window shows, in how many rows, and whether anything is wider than it."""
    folder = Path.cwd()
    (folder / 'counted.html').write_text(Path(page).read_text() + COUNT)
    command = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={folder}/profile']
    command += [f'--window-size={width},900', '--dump-dom', f'file://{folder}/counted.html']
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    images, rows, too_wide = re.search('<title>(.*?)</title>', done.stdout)[1].split()
    return int(images), int(rows), too_wide == 'true'


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Twelve images to train on and as many to validate, and a config that reads them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a_folder_with_a_name_that_no_telephone_has_the_room_for').mkdir()
    data = OwnData(tmp_path / 'a_folder_with_a_name_that_no_telephone_has_the_room_for')
    for loader in (data.cfg.train_dataloader, data.cfg.val_dataloader, data.cfg.test_dataloader):
        loader.dataset.pipeline.append(dict(type='PackDetInputs'))
    return data


def test_browse_shows_its_images_side_by_side_or_one_below_the_other(data):
    data.write().dump('toys.py')
    browse.main(['toys.py', '--number', '4'])
    assert shown('browsed/train.html', 1200) == (4, 2, False)
    assert shown('browsed/train.html', 390) == (4, 4, False)


@pytest.mark.parametrize('width', [1200, 390])
def test_a_report_shows_an_image_for_each_fault_and_no_path_is_wider_than_the_window(data, width):
    for annotation in data.train['annotations'][:3]:
        annotation['bbox'][2] = 200
    data.write().dump('toys.py')
    assert check.main(['toys.py', '--report', 'report.html']) == 1
    images, _, too_wide = shown('report.html', width)
    assert images == Path('report.html').read_text().count('<img ') >= 3
    assert not too_wide
