"""Frames of videos, cameras and numbered files: upright, with their own times; what is broken ends in one sentence."""

import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from samples.moving_shapes import frames, sound_of, write_video

from swin_mm.errors import PreflightError
from swin_mm.inference.sources import Sources, video_files
from swin_mm.inference.sources.frames import read_camera
from swin_mm.inference.sources.video_files import read_video

av = pytest.importorskip('av', reason="pip install 'swin-mm[video]'")
pytest.importorskip('trackers', reason="pip install 'swin-mm[video]'")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened_by_opencv(path) -> list[np.ndarray]:
    video, images = cv2.VideoCapture(str(path)), []
    while (read := video.read())[0]:
        images.append(read[1])
    return images


@pytest.mark.parametrize('turned', [0, 90, 180, -90])
def test_frames_are_upright_as_players_show_them(here, turned):
    if turned and not hasattr(av.video.stream.VideoStream, 'set_display_rotation'):
        pytest.skip('this PyAV cannot write a rotation')
    write_video(Path('a.mp4'), frames(6, width=90, height=64), turned=turned)
    found = [frame.image.pixels for frame in read_video('a.mp4')]
    expected = opened_by_opencv('a.mp4')  # which turns them too
    assert len(found) == len(expected) == 6
    assert found[0].shape == ((90, 64, 3) if turned % 180 else (64, 90, 3))
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 3
    drawn = np.rot90(next(frames(1, width=90, height=64))[..., ::-1], turned // 90).astype(int)
    assert np.abs(drawn - found[0]).mean() < 6  # what was put in, after H.264


def test_times_are_those_of_the_file(here):
    times = [0, 40, 45, 300, 1000, 1020]
    write_video(Path('a.mkv'), frames(6), times=times)
    found = list(read_video('a.mkv'))
    assert [frame.number for frame in found] == list(range(6))
    np.testing.assert_allclose([frame.time for frame in found], np.array(times) / 1000, atol=1e-3)
    assert [(frame.number, round(frame.time, 3)) for frame in read_video('a.mkv', every=3)] == [(0, 0.0), (3, 0.3)]


def test_times_grow_where_a_file_says_otherwise(here, monkeypatch):
    class Packet:
        stream, pts = None, None

        def __init__(self, *times):
            self.frames = [SimpleNamespace(time=time, is_corrupt=False) for time in times]

        def decode(self):
            return self.frames

    video = SimpleNamespace(average_rate=10)
    Packet.stream = video
    monkeypatch.setattr(video_files, '_video_stream', lambda *_: video)
    packets = [Packet(2.0, 2.1), Packet(2.1), Packet(None), Packet(1.0, 3.0)]
    container = SimpleNamespace(demux=lambda: packets, duration=None, start_time=None)
    found = [time for time, _ in video_files._decoded(container, Path('a.ts'), 1)]
    np.testing.assert_allclose(found, [0, 0.1, 0.2, 0.3, 0.4, 1.0])


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.webm', 'a.avi', 'a.ts', 'a.mov'])
def test_a_whole_file_of_any_kind_has_no_complaint(here, name):
    codec = {'a.webm': 'libvpx', 'a.avi': 'mpeg4'}.get(name, 'libx264')
    write_video(Path(name), frames(50, width=64, height=48), codec=codec)
    found = list(read_video(name))
    assert len(found) == 50
    assert not [frame.image for frame in found if isinstance(frame.image, Exception)]
    assert found[-1].time == pytest.approx(49 / 25, abs=0.05)


def noise(count):
    random = np.random.default_rng(0)
    background = random.integers(256, size=(96, 128, 3), dtype=np.uint8)
    return (np.roll(background, i, axis=1) for i in range(count))


@pytest.mark.parametrize('sound', [0.0, 4.0], ids=['silent', 'with sound'])
@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.avi'])
def test_a_file_that_is_cut_short_gives_the_frames_before_and_one_sentence(here, name, sound):
    path = write_video(Path(name), noise(100), codec='mpeg4', sound=sound)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    *whole, last = read_video(path)
    assert 20 < len(whole) < 80
    assert all(frame.image.pixels.shape == (96, 128, 3) for frame in whole)
    assert isinstance(last.image, ValueError)
    assert str(last.image).startswith(f'{name}: ')
    assert 'cut short' in str(last.image) or 'damaged after' in str(last.image)


def test_a_file_that_is_damaged_gives_the_frames_before_and_one_sentence(here):
    path = write_video(Path('a.mp4'), noise(100))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    *whole, last = read_video(path)
    assert 20 < len(whole) < 80
    assert str(last.image).startswith(f'a.mp4: damaged after {len(whole)} frames')


def test_sound_that_lasts_longer_is_no_missing_image(here):
    write_video(Path('a.mkv'), frames(25), sound=3.0)
    found = list(read_video('a.mkv'))
    assert len(found) == 25
    assert not isinstance(found[-1].image, Exception)


def write_sound(path: Path) -> None:
    import av

    with av.open(str(path), 'w') as file:
        file.mux(sound_of(file, 1.0))


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('gone.mp4', 'gone.mp4: no such file'),
        ('sound.mp4', 'sound.mp4: must hold a video stream, got only audio'),
        ('text.mp4', 'text.mp4: not a video that FFmpeg can read: Invalid data found when processing input'),
        ('empty.mp4', 'empty.mp4: not a video that FFmpeg can read: '),
        ('large.mp4', 'large.mp4: must have at most 3000 pixels, got 64x48'),
        ('list.ts', 'list.ts: not a video that FFmpeg can read: '),
    ],
)
def test_what_is_no_video_is_refused_by_name_and_reason(here, name, words):
    write_sound(Path('sound.mp4'))
    Path('text.mp4').write_text('no video')
    Path('empty.mp4').touch()
    Path('list.ts').write_text('ffconcat version 1.0\nfile large.mp4\n')
    write_video(Path('large.mp4'), frames(2, width=64, height=48))
    (only,) = read_video(name, max_pixels=3000)
    assert str(only.image).startswith(words)
    assert len(str(only.image).splitlines()) == 1


def test_a_video_is_read_a_frame_at_a_time(here):
    path = write_video(Path('a.mp4'), frames(400, width=320, height=240))
    tracemalloc.start()
    for _ in read_video(path):
        pass
    assert tracemalloc.get_traced_memory()[1] < 20 * 320 * 240 * 3  # of 400
    tracemalloc.stop()


def test_frames_are_called_by_their_clip_and_number(here):
    for name in ('one/a.mp4', 'two/a.mp4', 'two/b.jpg'):
        Path(name).parent.mkdir(exist_ok=True)
        write_video(Path(name), frames(5, width=64, height=48)) if name.endswith('mp4') else Path(name).touch()
    sources = Sources(['one/a.mp4', 'one/../one/a.mp4', 'two/*'], every=2)
    found = [(source.name, source.clip, round(source.time, 3), str(source)) for source in sources]
    one = [(f'a/a_00000{i}', 'a', i / 25, f'one/a.mp4 frame {i}') for i in (0, 2, 4)]
    two = [(f'a_2/a_2_00000{i}', 'a_2', i / 25, f'two/a.mp4 frame {i}') for i in (0, 2, 4)]
    assert found == [*one, *two, ('b', None, 0.0, 'two/b.jpg')]
    assert sources.taken == 7


def test_numbered_files_come_by_number_and_a_folder_in_natural_order(here):
    Path('in').mkdir()
    for i in (8, 9, 10, 11, 100000):
        Path(f'in/{i:05d}.png').touch()
        Path(f'in/x{i}.jpg').touch()
    found = [(source.name, str(source.image), source.time) for source in Sources(['in/%05d.png'], every=2)]
    assert found == [
        ('in/in_000008', 'in/00008.png', 0.0),
        ('in/in_000010', 'in/00010.png', 0.08),
        ('in/in_100000', 'in/100000.png', 0.16),
    ]
    natural = Sources(['in'], ('.jpg',), folders_are_clips=True)
    assert [str(source.image) for source in natural] == [f'in/x{i}.jpg' for i in (8, 9, 10, 11, 100000)]
    for text in ('in/%03d.gif', 'gone/%d.png'):
        with pytest.raises(FileNotFoundError, match='no images found'):
            Sources([text])


class Camera:
    """Gives two frames, and then is unplugged."""

    def __init__(self, number):
        self.left = 4 if number == 0 else 0

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, np.zeros((8, 9, 3), np.uint8)

    def release(self):
        self.left = None


def test_a_camera_gives_frames_until_it_fails(monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    *found, last = read_camera('camera:0', every=2)
    assert [frame.number for frame in found] == [0, 2]
    assert found[1].image.name == 'camera:0 frame 2'
    assert str(last.image) == 'camera:0: gives no more images'
    (only,) = Sources(['camera:7'])
    assert only.name == 'camera7/camera7_000000'
    assert str(only.image) == 'camera:7: cannot be opened: is it there, and does no other use it?'


def test_without_the_packages_the_first_video_is_refused_with_what_to_install(here, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    Path('a.mp4').touch()
    with pytest.raises(
        PreflightError, match=r"a.mp4: videos need av, supervision, trackers: pip install 'swin-mm\[video\]'"
    ):
        Sources(['a.mp4'])
