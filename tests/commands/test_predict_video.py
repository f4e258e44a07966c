"""``swin-mm predict`` on videos: a video with what is found, a JSON a frame, a sentence for what is broken."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from samples.moving_shapes import frames, write_video
from samples.pico_segmentor import CLASSES, CONFIG, PALETTE, save_checkpoint

from swin_mm.commands import predict as predict_command
from swin_mm.inference import Detector, Segmentor
from swin_mm.inference.sources.video_files import read_video

av = pytest.importorskip('av', reason="pip install 'swin-mm[video]'")
pytest.importorskip('trackers', reason="pip install 'swin-mm[video]'")


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['swin-mm predict'])
    return predict_command


@pytest.fixture(scope='module', params=['detection', 'segmentation'])
def words(request, tiny, tmp_path_factory):
    """Config and checkpoint of a task."""
    if request.param == 'detection':
        return [str(tiny.config), str(tiny.checkpoint)]
    path = tmp_path_factory.mktemp('segmentor') / 'pico.pth'
    save_checkpoint(path, Config.fromfile(CONFIG), dataset_meta=dict(classes=CLASSES, palette=PALETTE))
    return [str(CONFIG), str(path)]


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """A video of seven frames in the working directory."""
    monkeypatch.chdir(tmp_path)
    return str(write_video(Path('clip.mp4'), frames(7, width=96, height=64)))


def complaints(capsys) -> list[str]:
    said = capsys.readouterr().err.splitlines()
    return [line.removeprefix('swin-mm predict: ') for line in said if line.startswith('swin-mm predict: ')]


def test_a_video_gives_a_video_and_predictions_of_each_frame(demo, words, clip, capsys):
    threshold = [] if 'upernet' in words[0] else ['--pred-score-thr', '0.05']
    assert demo.main([clip, *words, '--every', '2', '--batch-size', '2', *threshold]) == 0
    printed = capsys.readouterr().out.split()
    assert printed[-1] == 'outputs/vis/clip.mp4'
    assert sorted(printed) == sorted(str(path) for path in Path('outputs').rglob('*.*') if path.suffix != '.jsonl')
    stems = [f'outputs/preds/clip/clip_00000{i}' for i in (0, 2, 4, 6)]
    assert [name for name in printed if name.endswith('.json')] == [f'{stem}.json' for stem in stems]
    with av.open('outputs/vis/clip.mp4') as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.frames, float(video.average_rate)) == (96, 64, 4, 12.5)

    model = (Segmentor if 'upernet' in words[0] else Detector)(*words, device='cpu')
    tracks = []
    for stem, frame in zip(stems, read_video(clip, every=2), strict=True):
        content = json.loads(Path(f'{stem}.json').read_text())
        (found,) = model(frame.image)
        if 'upernet' in words[0]:
            np.testing.assert_array_equal(np.asarray(Image.open(f'{stem}.png')), found.labels)
        else:
            np.testing.assert_allclose(content['scores'], found.scores, rtol=1e-5)
            assert len(content['track_ids']) == len(content['scores'])
            tracks.append(content['track_ids'])
    if tracks:
        assert not any(tracks[0])
        assert any(tracks[1])


def test_an_image_has_no_tracks_and_a_drawing_of_its_own(demo, tiny, clip):
    Image.fromarray(next(frames(1))).save('a.png')
    assert demo.main([clip, 'a.png', str(tiny.config), str(tiny.checkpoint)]) == 0
    assert 'track_ids' not in json.loads(Path('outputs/preds/a.json').read_text())
    assert sorted(path.name for path in Path('outputs/vis').rglob('*')) == ['a.jpg', 'clip.mp4']


def test_a_damaged_video_is_one_sentence_and_the_frames_before_are_written(demo, words, clip, capsys):
    random = np.random.default_rng(0)
    noise = (random.integers(256, size=(64, 96, 3), dtype=np.uint8) for _ in range(20))
    path = write_video(Path('cut.avi'), noise, codec='mpeg4')
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert demo.main(['cut.avi', clip, *words, '--every', '3']) == 1
    header, line = complaints(capsys)
    written = sorted(Path('outputs/preds/cut').glob('*.json'))
    assert 1 <= len(written) < 6
    assert header == f'1 of {len(written) + 4} pictures have no result:'
    assert line.startswith('cut.avi: ')
    assert [len(list(read_video(f'outputs/vis/{name}.mp4'))) for name in ('cut', 'clip')] == [len(written), 3]


def test_a_broken_video_leaves_no_empty_one(demo, words, clip, capsys):
    Path('broken.mp4').write_bytes(b'no video')
    assert demo.main(['broken.mp4', *words]) == 1
    assert complaints(capsys)[1].startswith('broken.mp4: not a video that FFmpeg can read')
    assert [path.name for path in Path('outputs').rglob('*.*')] == ['journal.jsonl']


def test_ctrl_c_leaves_a_video_that_plays(demo, words, clip, monkeypatch, capsys):
    kind = Segmentor if 'upernet' in words[0] else Detector
    prepare = kind.prepare

    def stop(self, image, number=0):
        if number == 4:
            raise KeyboardInterrupt
        return prepare(self, image, number)

    monkeypatch.setattr(kind, 'prepare', stop)
    assert demo.main([clip, *words]) == 130
    output = capsys.readouterr()
    assert output.out.split()[-1] == 'outputs/vis/clip.mp4'
    assert 'interrupted: the files printed above are whole' in output.err
    assert 1 <= len(list(read_video('outputs/vis/clip.mp4'))) <= 4


def test_a_folder_of_frames_is_a_video_if_it_is_said_to_be(demo, words, clip, capsys):
    Path('in').mkdir()
    for i, image in enumerate(frames(12, width=64, height=48)):
        if i > 7:
            Image.fromarray(image).save(f'in/{i}.png')
    assert demo.main(['in', '--video', *words, '--no-save-pred']) == 0
    assert capsys.readouterr().out.split() == ['outputs/vis/in.mp4']
    assert len(list(read_video('outputs/vis/in.mp4'))) == 4
    assert demo.main(['in/%d.png', *words, '--no-save-vis', '--out-dir', 'numbers']) == 0
    assert sorted(path.name for path in Path('numbers/preds/in').glob('*.json')) == [
        f'in_{i:06d}.json' for i in (8, 9, 10, 11)
    ]
    assert not list(Path('numbers').rglob('*.mp4'))


@pytest.mark.parametrize('value', ['0', '-1', 'x'])
def test_every_must_be_a_step(demo, capsys, value):
    with pytest.raises(SystemExit) as caught:
        demo.main(['a.mp4', 'a.py', 'w.pth', f'--every={value}'])
    assert caught.value.code == 2
    assert '--every' in capsys.readouterr().err.splitlines()[-1]


def test_opencv_reads_what_is_written(demo, words, clip):
    assert demo.main([clip, *words, '--no-save-pred']) == 0
    video = cv2.VideoCapture('outputs/vis/clip.mp4')
    assert sum(1 for _ in iter(lambda: video.read()[0], False)) == 7
