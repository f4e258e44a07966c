"""The table of published weights against those who name the same files."""

import importlib.util
import re
from pathlib import Path

import pytest

from swin_mm.backbone.arguments import ARCHS
from swin_mm.checkpoints.published import BY_URL, OFFICIAL, RELEASES

ROOT = Path(__file__).parents[2]


def named_in(folder: Path, pattern: str) -> set[str]:
    text = ''.join(path.read_text(errors='replace') for path in folder.rglob(pattern))
    found = re.findall(rf'{RELEASES}/[\w./]+\.pth', text)
    return {url for url in found if '/v2' not in url and '_mlp_' not in url}


def test_the_name_of_a_file_says_what_the_table_says():
    assert len(BY_URL) == len(OFFICIAL)
    for weights in OFFICIAL:
        assert f'swin_{weights.arch}_patch4_window{weights.window}' in weights.name
        assert weights.arch in ARCHS
        assert weights.url == f'{RELEASES}/{weights.release}/{weights.name}.pth'
        if weights.task == 'classification':
            assert f'_{weights.image_size}' in weights.name
            assert ('22k' in weights.name) == weights.trained_on.startswith('ImageNet-22K')
            assert weights.classes == (21841 if weights.name.endswith('_22k') else 1000)
        assert weights.licence == 'MIT'
        assert weights.sha256 is None or re.fullmatch('[0-9a-f]{8,64}', weights.sha256)


def test_our_recipes_start_from_files_of_the_table():
    urls = named_in(ROOT / 'configs', '*.py')
    assert urls
    assert urls <= set(BY_URL)


@pytest.mark.parametrize('package', ['mmdet', 'timm'])
def test_others_name_the_same_files(package):
    """They are asked where they are installed; what they name, they download."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f'{package} is not installed')
    urls = named_in(Path(spec.origin).parent, '*swin*.py')
    assert len(urls) >= 2
    assert urls <= set(BY_URL)
