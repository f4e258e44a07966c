"""Images that look alike: a photograph keeps its fingerprint at another size, quality or format."""

import io

import numpy as np
import pytest
from PIL import Image

from swin_mm.datasets.checks.findings import Findings
from swin_mm.datasets.checks.images import check_overlap, read_file
from swin_mm.datasets.checks.near_duplicates import BITS_APART, Lookalikes, fingerprint


def photograph(seed: int) -> Image.Image:
    """Soft shades as photographs have them."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((320, 240))


def saved_again(image: Image.Image, **options) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', **options)
    return Image.open(buffer)


CHANGES = {
    'another quality': lambda image: saved_again(image, quality=40),
    'half the size': lambda image: image.resize((160, 120)),
    'twice the size': lambda image: image.resize((640, 480)),
    'a little brighter': lambda image: image.point(lambda value: min(255, value + 8)),
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_photograph_is_found_again_among_others(change):
    index = Lookalikes((fingerprint(photograph(seed)), seed) for seed in range(50))
    for seed in range(50):
        assert index.find(fingerprint(CHANGES[change](photograph(seed)))) == seed
    assert all(index.find(fingerprint(photograph(seed))) is None for seed in range(100, 200))


def test_the_index_finds_what_comparing_all_with_all_finds():
    random = np.random.default_rng(0)
    keys = [int(key) for key in random.integers(0, 2**63, 200)]
    index = Lookalikes((key, key) for key in keys)
    for key in keys:
        for flips in range(6):
            other = key
            for bit in random.choice(64, flips, replace=False).tolist():
                other ^= 1 << bit
            assert (index.find(other) == key) == (flips <= BITS_APART)


def test_an_image_without_contrast_looks_like_none():
    assert fingerprint(Image.new('RGB', (64, 48), (90, 90, 90))) is None


def test_lookalikes_are_said_if_the_images_were_decoded(tmp_path):
    photograph(0).save(tmp_path / 'train.png')
    photograph(0).resize((160, 120)).save(tmp_path / 'val.jpg')
    for decode, checks in ((True, ['overlap-look']), (False, [])):
        found = Findings()
        check_overlap(
            [read_file(str(tmp_path / 'train.png'), decode)], [read_file(str(tmp_path / 'val.jpg'), decode)], found
        )
        assert [row.check for row in found.rows] == checks
