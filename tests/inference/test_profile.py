"""The parts of a prediction's time add up to the whole."""

import time

import numpy as np
import pytest

from swin_mm.inference import Detector
from swin_mm.inference.profile import Profile


def test_a_part_within_another_is_not_counted_twice():
    profile = Profile()
    inner = profile.timed('backbone', lambda: time.sleep(0.03), within='heads')
    outer = profile.timed('heads', lambda: (time.sleep(0.01), inner()))
    outer()
    assert profile.seconds['backbone'] == pytest.approx(0.03, abs=0.02)
    assert profile.seconds['heads'] == pytest.approx(0.01, abs=0.02)


def test_time_counts_where_a_function_fails():
    profile = Profile()
    with pytest.raises(ZeroDivisionError):
        profile.timed('write', lambda: 1 // 0)()
    assert profile.seconds['write'] > 0


def test_the_parts_of_a_detector_make_up_its_time(tiny, tmp_path):
    detector = Detector(tiny.config, tiny.checkpoint, device='cpu')
    paths = sorted(tiny.data.glob('images/*.jpg'))
    expected = detector(paths)
    profile = Profile()
    profile.attach(detector)
    start = time.perf_counter()
    found = detector(paths)
    whole = time.perf_counter() - start
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
    assert all(profile.seconds[part] > 0 for part in ('read', 'prepare', 'backbone', 'neck', 'heads'))
    assert 0.5 * whole < sum(profile.seconds.values()) <= whole
    lines = list(profile.lines(len(paths)))
    assert [line.split()[0] for line in lines] == ['read', 'prepare', 'backbone', 'neck', 'heads', 'in']
