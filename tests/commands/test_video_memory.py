"""A long video takes no more memory than a short one."""

import os
import sys
import time
from pathlib import Path

import pytest
from samples.moving_shapes import frames, write_video

from swin_mm.commands import predict as predict_command
from swin_mm.inference.sources import Sources

pytest.importorskip('av', reason="pip install 'swin-mm[video]'")
pytest.importorskip('trackers', reason="pip install 'swin-mm[video]'")


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='memory is read from /proc')
def test_two_thousand_frames_take_as_much_memory_as_two_hundred(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(Path('clip.mp4'), frames(2001, width=160, height=120))
    taken = {}

    class Watched(Sources):
        def __iter__(self):
            for source in super().__iter__():
                if self.taken in (201, 2001):
                    taken[self.taken] = (resident(), time.monotonic())
                yield source

    monkeypatch.setattr(sys, 'argv', ['swin-mm predict'])
    monkeypatch.setattr(predict_command, 'Sources', Watched)
    assert predict_command.main(['clip.mp4', str(tiny.config), str(tiny.checkpoint)]) == 0
    (before, began), (after, ended) = taken[201], taken[2001]
    print(f'{(after - before) / 1e6:+.1f} MB from {before / 1e6:.0f} MB, {1800 / (ended - began):.1f} frames/s')
    assert after - before < 20e6
    assert len(list(Path('outputs/preds/clip').iterdir())) == 2001
