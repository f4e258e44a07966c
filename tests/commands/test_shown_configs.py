"""The configs that the docs show are what ``swin-mm init`` writes for these data, to the letter."""

import json
import re
from pathlib import Path

import pytest
from samples.own_data import write_coco, write_labelme, write_labels, write_yolo

from swin_mm.commands import init

pytest.importorskip('mmdet')
PAGES = [Path(__file__).parents[2] / 'docs' / name for name in ('own_data.md', 'own_data_configs.md')]
SHOWN = [
    config
    for page in PAGES
    for config in re.findall(r'```python\n(# Written by `swin-mm init.*?)```', page.read_text(), re.DOTALL)
]


def write(data: Path) -> None:
    """Writes the drawings as the docs say: ``data`` has the name of one of the five data sets."""
    if data.name == 'coins':
        write_coco(data, train=40, val=8)
    elif data.name == 'land':
        write_labels(data, train=40)
    elif data.name == 'badges':
        write_coco(data, train=40, val=0)
    else:
        source = write_coco(data.parent / 'source', train=40, val=0)
        coco = json.loads((source / 'labels.json').read_text())
        if data.name == 'tiles':
            write_labelme(data, coco, source / 'images')
        else:
            pytest.importorskip('supervision', reason="not installed: pip install 'swin-mm[own_data]'")
            write_yolo(data, coco, source / 'images', boxes_only=True)
            (data / 'data.yaml').write_text(f'names: {[category["name"] for category in coco["categories"]]}\n')


def test_five_data_sets_are_shown():
    assert len({re.search(r'--data (\S+)', shown)[1] for shown in SHOWN}) == len(SHOWN) == 5


@pytest.mark.parametrize('shown', SHOWN, ids=lambda shown: re.search(r'--data data/(\w+)', shown)[1])
def test_what_is_shown_is_what_is_written(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = re.match(r'# Written by `swin-mm init (.*)`\.\n', shown)[1].split()
    write(tmp_path / arguments[1])
    init.main(arguments)
    written = Path(arguments[1]).with_suffix('.py').name
    assert Path(written).read_text().replace(str(tmp_path.resolve()), '/home/me') == shown
    lines = shown.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
