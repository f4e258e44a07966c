"""Videos with results: H.264 that a browser plays, the times of the frames, tracks that stay with their objects."""

import http.server
import shutil
import subprocess
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from samples.moving_shapes import COLOURS, boxes_at, frames

from swin_mm.inference import Detections
from swin_mm.inference.sources.video_files import read_video

av = pytest.importorskip('av', reason="pip install 'swin-mm[video]'")
pytest.importorskip('trackers', reason="pip install 'swin-mm[video]'")

from swin_mm.inference.video import ClipWriter, Tracker, VideoWriter  # noqa: E402

NAMES = ['red', 'green', 'blue', 'yellow', 'violet']


def found_at(i: int, number: int = 3, scores=None, order=None, **options) -> Detections:
    """The squares of `moving_shapes`, as a detector finds them."""
    order = np.arange(number) if order is None else order
    return Detections(
        boxes=boxes_at(i, number, 160, 120)[order],
        scores=(np.full(number, 0.9) if scores is None else np.asarray(scores, float))[order],
        labels=np.arange(number)[order],
        names=[NAMES[k] for k in order],
        masks=None,
        panoptic=None,
        sample=None,
        **options,
    )


def written(path: Path, images, times) -> Path:
    video = VideoWriter(path)
    for image, now in zip(images, times, strict=True):
        video.add(image, now)
    video.close()
    return path


@pytest.mark.parametrize('size', [(160, 120), (161, 121)])
def test_a_video_is_what_browsers_and_phones_play(tmp_path, size):
    path = written(tmp_path / 'a.mp4', frames(50, width=size[0], height=size[1]), np.arange(50) / 25)
    assert [file.name for file in tmp_path.iterdir()] == ['a.mp4']
    data = path.read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')  # the index first
    with av.open(str(path)) as container:
        (video,) = container.streams
        assert (video.codec_context.name, video.codec_context.pix_fmt, video.frames) == ('h264', 'yuv420p', 50)
        assert (video.width, video.height) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
        assert video.average_rate == 25
        assert float(video.duration * video.time_base) == pytest.approx(2.0, abs=0.001)
    found = [frame.image.pixels[..., ::-1].astype(int) for frame in read_video(path)]
    for one, other in zip(found, frames(50, width=size[0], height=size[1]), strict=True):
        assert np.abs(one[: size[1], : size[0]] - other).mean() < 3
        added = one[:, size[0] :]
        assert (np.abs(added[: size[1]] - other[:, -1:]) < 60).all()  # is like its neighbour


def test_colours_come_back(tmp_path):
    """Written and read by one table of colours; the other one turns red by tens."""
    patches = np.repeat(np.repeat(COLOURS[None], 64, axis=0), 32, axis=1)
    path = written(tmp_path / 'a.mp4', [patches] * 3, [0, 1, 2])
    (*_, last) = read_video(path)
    middles = last.image.pixels[32, 16::32, ::-1].astype(int)
    assert np.abs(middles - COLOURS).max() <= 6
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.colorspace == 1


def test_irregular_times_stay(tmp_path):
    times = [0, 0.04, 0.05, 0.05, 0.3, 1.0]
    path = written(tmp_path / 'a.mp4', frames(6), times)
    np.testing.assert_allclose([frame.time for frame in read_video(path)], times, atol=1e-4)


def test_a_frame_of_another_size_is_refused_and_the_others_are_written(tmp_path):
    video = VideoWriter(tmp_path / 'a.mp4')
    small, large = next(frames(1, width=64, height=48)), next(frames(1, width=80, height=48))
    video.add(small, 0)
    with pytest.raises(ValueError, match='frames must be 64x48, as the first of the video, got 80x48'):
        video.add(large, 1)
    video.add(small, 2)
    video.close()
    assert len(list(read_video(tmp_path / 'a.mp4'))) == 2


def test_a_video_that_cannot_be_finished_leaves_nothing_behind(tmp_path):
    video = VideoWriter(tmp_path / 'a.mp4')
    video.add(next(frames(1)), 0)
    video._stream = SimpleNamespace(encode=lambda frame: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        video.close()
    assert list(tmp_path.iterdir()) == []


PAGE = """<video id=v muted autoplay src=/a.mp4></video><script>
const v = document.getElementById('v'), said = {};
v.onloadeddata = () => { said.width = v.videoWidth; said.height = v.videoHeight; said.duration = v.duration; };
v.onerror = () => fetch('/said?error=' + encodeURIComponent(v.error.message));
v.onended = () => {
  const c = document.createElement('canvas'); c.width = v.videoWidth; c.height = v.videoHeight;
  const g = c.getContext('2d'); g.drawImage(v, 0, 0);
  said.background = g.getImageData(80, 40, 1, 1).data.slice(0, 3).join(' ');
  said.time = v.currentTime; fetch('/said?' + new URLSearchParams(said));
};
</script>"""


def seen_by_chromium(video: Path, folder: Path) -> dict[str, str]:
    """What a page says of a video that it has played to its end."""
    said: dict[str, str] = {}
    done = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = {'/': PAGE.encode(), '/a.mp4': video.read_bytes()}.get(self.path, b'')
            if self.path.startswith('/said'):
                said.update(parse_qsl(urlsplit(self.path).query))
                done.set()
            self.send_response(200)
            self.send_header('Content-Type', 'video/mp4' if self.path == '/a.mp4' else 'text/html')
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', f'--user-data-dir={folder}']
    flags += ['--autoplay-policy=no-user-gesture-required', '--remote-debugging-port=0']
    address = f'http://127.0.0.1:{server.server_port}/'
    browser = subprocess.Popen(
        [shutil.which('chromium'), *flags, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert done.wait(60), 'chromium said nothing'
    finally:
        browser.terminate()
        browser.wait(20)
        server.shutdown()
        server.server_close()
    return said


@pytest.mark.skipif(shutil.which('chromium') is None, reason='there is no chromium to play it')
def test_chromium_plays_it_to_the_end(tmp_path):
    path = written(tmp_path / 'a.mp4', frames(25, width=161, height=121), np.arange(25) / 25)
    said = seen_by_chromium(path, tmp_path / 'profile')
    assert 'error' not in said
    assert (said['width'], said['height']) == ('162', '122')
    assert float(said['duration']) == pytest.approx(1, abs=0.01)
    assert float(said['time']) == pytest.approx(1, abs=0.05)
    assert np.abs(np.array(said['background'].split(), int) - (90, 95, 100)).max() <= 4


def test_each_object_keeps_one_track_whatever_the_order_of_the_detections():
    """Squares that pass each other in lanes, turn at the edges, and come in another order in each frame."""
    tracker, random = Tracker(0.3), np.random.default_rng(0)
    seen: dict[str, Counter] = {name: Counter() for name in NAMES}
    for i in range(300):
        found = found_at(i, 5, random.uniform(0.35, 1, 5), random.permutation(5))
        for name, track in zip(found.names, tracker.update(found, i / 25), strict=True):
            seen[name][int(track)] += 1
    assert all(counts[0] == 1 and len(counts) == 2 for counts in seen.values())  # none in the first frame, then one
    assert sorted(max(counts) for counts in seen.values()) == [1, 2, 3, 4, 5]


def test_a_track_survives_low_scores_and_half_a_second_out_of_sight():
    tracker = Tracker(0.3)
    tracks = []
    for i in range(60):
        scores = [0.15 if 20 <= i < 30 else 0.9, 0.05, 0.2]
        found = found_at(i, 3, scores) if not 40 <= i < 52 else found_at(i, 3, [0.01] * 3)
        tracks.append(tracker.update(found, i / 25))
    tracks = np.array(tracks)
    assert set(tracks[1:40, 0]) == set(tracks[52:, 0]) == {1}
    assert not tracks[40:52].any()
    assert not tracks[:, 1:].any()  # noise, and what never scored enough to begin a track


@pytest.mark.parametrize(('hidden', 'tracks'), [(10, {0, 1, 2, 3}), (50, {0, 1, 2, 3, 4, 5, 6})])
def test_times_of_frames_count_not_their_number(hidden, tracks):
    """Of 25 frames a second each fifth is taken: ten frames out of sight are 0.4 seconds, 50 are two, and too long."""
    tracker, seen = Tracker(0.3), set()
    for i in range(0, 200, 5):
        found = found_at(0, 3, [0.01] * 3 if 100 <= i < 100 + hidden else None)
        seen |= set(tracker.update(found, i / 25).tolist())
    assert seen == tracks


def test_a_frame_shows_the_tracks_of_its_objects():
    image = np.full((480, 640, 3), 100, np.uint8)
    boxes = np.array([[100, 200, 200, 300], [400, 200, 500, 300]], np.float32)
    options = dict(names=['red', 'green'], masks=None, panoptic=None, sample=None, labels=np.array([0, 1]))
    plain, tracked, without = (
        Detections(boxes, np.array([0.9, 0.8]), tracks=tracks, **options).plot(image)
        for tracks in (None, np.array([12, 3]), np.array([0, 0]))
    )
    assert (plain != tracked).any()
    assert (plain[240:] == tracked[240:]).all(), 'only the labels differ, at the upper edges'
    np.testing.assert_array_equal(plain, without)


def test_clips_are_videos_of_their_own_with_tracks_from_one_on(tmp_path):
    clips = ClipWriter(tmp_path, lambda image, found: found.plot(image), 0.3)
    for clip in ('a', 'sub/b'):
        clips.turn_to(clip)
        for i, image in enumerate(frames(3)):
            found = clips.add(i / 25, image[..., ::-1], found_at(i))
        assert found.tracks.tolist() == [1, 2, 3]
        assert clips.turn_to(clip) == []
        assert clips.turn_to('c') == [tmp_path / f'{clip}.mp4']
    assert clips.turn_to(None) == []  # of c came no frame
    assert [len(list(read_video(tmp_path / name))) for name in ('a.mp4', 'sub/b.mp4')] == [3, 3]
