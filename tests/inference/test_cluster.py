"""Jobs on a cluster: each image stands in the results once, as the plain run has it, whatever dies on the way."""

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from samples import pico_segmentor
from samples.tiny_training import ROOT

from swin_mm.commands import predict
from swin_mm.errors import PreflightError
from swin_mm.inference import Detector, Segmentor

ray = pytest.importorskip('ray', reason="needs ray: pip install 'swin-mm[cluster]'")
parquet = pytest.importorskip('pyarrow.parquet', reason="needs pyarrow: pip install 'swin-mm[cluster]'")

from swin_mm.inference import cluster  # noqa: E402
from swin_mm.inference.cluster import Job, storage, workers  # noqa: E402  both packages are there

NUMBER, PER_PART = 300, 8  # four batches of two
PARTS = -(-NUMBER // PER_PART)
BROKEN, DEEP = '150.jpg', 'deeper/'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder of 300 small images, some of them in a folder in it, one of them no image."""
    folder = tmp_path_factory.mktemp('cluster') / 'in'
    random = np.random.default_rng(0)
    (folder / DEEP).mkdir(parents=True)
    for i in range(NUMBER):
        size = [(64, 64), (48, 96), (96, 48)][i % 3]
        pixels = random.integers(0, 100, (*size, 3), dtype=np.uint8)
        pixels[10:40, 8:36, i % 3] = 255
        Image.fromarray(pixels).save(folder / (DEEP if i % 2 else '') / f'{i:03}.jpg')
    (folder / BROKEN).write_bytes(b'<html>')
    (folder / 'notes.md').write_text('no image')
    return folder


@pytest.fixture
def predictor(tiny, monkeypatch):
    """Makes the actor of a job without Ray."""
    monkeypatch.setattr(ray, 'get', lambda weights: weights)

    def make(job, config=tiny.config, checkpoint=tiny.checkpoint, batch_size=2):
        weights = (np.fromfile(checkpoint, np.uint8),)
        model = workers.Model(Config.fromfile(config), weights, 'cpu', 64_000_000)
        return workers.PartPredictor(job, model, batch_size)

    return make


def rows_of(out: Path) -> list[dict]:
    files = sorted(out.glob('parts/*'))
    assert not [file for file in files if file.suffix not in ('.parquet', '.jsonl')]
    return [row for file in files for row in rows_in(file)]


def rows_in(file: Path) -> list[dict]:
    if file.suffix == '.jsonl':
        return [json.loads(line) for line in file.read_text().splitlines()]
    return parquet.read_table(file).to_pylist()


def assert_equals_the_plain_run(rows, found, reasons=()):
    """``found``: results by path; ``reasons``: words that the errors of other paths hold."""
    reasons = dict(reasons)
    assert sorted(row['path'] for row in rows) == sorted([*found, *reasons])
    for row in rows:
        if row['path'] in reasons:
            assert row['error'].startswith(f'{row["path"]}: ')
            assert reasons[row['path']] in row['error']
            assert row['boxes'] is row['masks'] is row['height'] is None
            continue
        one = found[row['path']]
        assert row['error'] is None
        np.testing.assert_array_equal(np.float32(row['boxes']), one.boxes)
        np.testing.assert_array_equal(np.float32(row['scores']), one.scores)
        assert (row['labels'], row['names']) == (one.labels.tolist(), one.names)
        for code, mask in zip(row['masks'], one.masks, strict=True):
            assert code['size'] == [row['height'], row['width']] == list(mask.shape)
            np.testing.assert_array_equal(decoded(code['counts'], code['size']), mask)


def decoded(counts, size):
    from pycocotools import mask as coco

    return coco.decode({'size': size, 'counts': counts}).astype(bool)


def plain(detector, paths, batch_size):
    found = detector.stream(paths, batch_size)
    return {str(path): one[1] for path, one in zip(paths, found, strict=True) if not isinstance(one, Exception)}


def in_order(folder):
    """The images of a folder and then of those in it, by name, as a job lists them."""
    return [str(path) for path in sorted([*folder.rglob('*.jpg')], key=lambda path: str(path))]


@pytest.mark.parametrize('file_format', ['parquet', 'jsonl'])
def test_a_part_holds_what_the_plain_run_finds(tiny, images, predictor, tmp_path, file_format):
    gone = str(images / 'gone.jpg')
    paths = [*in_order(images)[:7], str(images / BROKEN), gone]
    (tmp_path / 'list.txt').write_text('\n'.join(paths))
    job = Job(str(tmp_path / 'out'), file_format)
    assert job.begin(storage.images_in(str(tmp_path / 'list.txt'), ['.jpg']), 9, {'source': 'list.txt'}) == 1
    files = workers.read_part(workers.pa.table({'part': [0]}), job)
    (counted,) = predictor(job)(files).to_pylist()
    assert counted == dict(part=0, images=9, failed=2)
    reasons = {paths[7]: 'not an image that OpenCV can decode', gone: 'no such file'}
    expected = plain(Detector(tiny.config, tiny.checkpoint, 'cpu'), paths, 2)
    assert_equals_the_plain_run(rows_of(tmp_path / 'out'), expected, reasons)
    assert job.left(1) == []


def test_a_segmentor_gives_shares_and_a_png_of_labels(images, predictor, tmp_path):
    cfg = Config.fromfile(pico_segmentor.CONFIG)
    meta = dict(classes=pico_segmentor.CLASSES, palette=pico_segmentor.PALETTE)
    checkpoint = pico_segmentor.save_checkpoint(tmp_path / 'pico.pth', cfg, dataset_meta=meta)
    paths = in_order(images)[:2]
    for file_format in ('parquet', 'jsonl'):
        job = Job(str(tmp_path / file_format), file_format)
        job.begin(map(storage.place, paths), 2, {'source': 'here'})
        actor = predictor(job, pico_segmentor.CONFIG, checkpoint)
        actor(workers.read_part(workers.pa.table({'part': [0]}), job))
        for row, found in zip(
            rows_of(tmp_path / file_format), Segmentor(cfg, checkpoint, 'cpu')(paths, 2), strict=True
        ):
            assert {one['name']: one['share'] for one in row['shares']} == found.shares
            assert all(pico_segmentor.CLASSES[one['label']] == one['name'] for one in row['shares'])
            png = row['labels_png'] if file_format == 'parquet' else base64.b64decode(row['labels_png'])
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), found.labels)


def test_a_part_that_is_there_is_left_alone(images, predictor, tmp_path):
    """A worker dies after it has written, and before it says so: the part is handed out again."""
    job = Job(str(tmp_path), 'jsonl')
    job.begin(map(storage.place, in_order(images)[:1]), 1, {'source': 'here'})
    storage.place(str(job.results(0))).write(b'whole\n')
    (counted,) = predictor(job)(workers.read_part(workers.pa.table({'part': [0]}), job)).to_pylist()
    assert counted == dict(part=0, images=None, failed=None)
    assert Path(str(job.results(0))).read_bytes() == b'whole\n'


class Died(BaseException):
    """Stands for the end of a process."""


def test_an_image_that_kills_its_workers_is_found(tiny, images, predictor, tmp_path):
    """After three deaths the images of a part go one at a time; two deaths of machines change nothing."""
    paths = in_order(images)[:5]
    job = Job(str(tmp_path), 'jsonl')
    job.begin(map(storage.place, paths), 5, {'source': 'here'})
    files, actor = workers.read_part(workers.pa.table({'part': [0]}), job), predictor(job)
    prepare = actor.model.prepare

    def die_of(path):
        def prepare_or_die(image, number=0):
            if image.name == path:
                raise Died
            return prepare(image, number)

        actor.model.prepare = prepare_or_die

    for path in (*paths[1:3], paths[3], paths[3]):
        die_of(path)
        with pytest.raises(Died):
            actor(files)
    (counted,) = actor(files).to_pylist()
    assert counted == dict(part=0, images=5, failed=1)
    expected = plain(Detector(tiny.config, tiny.checkpoint, 'cpu'), paths, 1)
    del expected[paths[3]]
    assert_equals_the_plain_run(rows_of(tmp_path), expected, {paths[3]: 'a worker died while it predicted this image'})
    assert not list((tmp_path / 'attempts').iterdir())


def test_an_actor_without_a_working_gpu_ends(tiny, predictor, tmp_path, monkeypatch):
    """Its GPU would fail each later image as well, and their rows would say so forever."""
    actor = predictor(Job(str(tmp_path), 'jsonl'))
    monkeypatch.setattr(os, '_exit', lambda status: (_ for _ in ()).throw(Died(status)))
    monkeypatch.setattr(workers.torch.cuda, 'synchronize', lambda: None)
    actor.model.device = workers.torch.device('cuda')
    error = RuntimeError('a.jpg: the model fails')
    assert actor._alive(error) is error

    def fail():
        raise RuntimeError('CUDA error: an illegal memory access was encountered')

    monkeypatch.setattr(workers.torch.cuda, 'synchronize', fail)
    with pytest.raises(Died):
        actor._alive(error)
    actor.model.device = workers.torch.device('cpu')
    assert actor._alive(error) is error


def test_a_job_goes_on_as_it_was_begun(images, tmp_path):
    job = Job(str(tmp_path), 'parquet')
    places = list(storage.images_in(str(images), ['.jpg']))
    assert [str(one) for one in places] == in_order(images)
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images/00000099.json').write_text('["of a driver that died while it listed"]')
    assert job.begin(places, PER_PART, dict(source='in', batch_size=2)) == PARTS
    listed = [path for part in range(PARTS) for path in json.loads(job.images(part).read())]
    assert listed == in_order(images)
    job.results(3).write(b'')
    assert job.begin(iter(()), PER_PART, dict(source='in', batch_size=2)) == PARTS  # new images are another job's
    assert job.left(PARTS) == [part for part in range(PARTS) if part != 3]
    with pytest.raises(ValueError, match='was begun with batch_size=2, got 3: go on as it was begun'):
        job.begin(places, PER_PART, dict(source='in', batch_size=3))
    with pytest.raises(ValueError, match='was begun with format=parquet, got jsonl'):
        Job(str(tmp_path), 'jsonl').begin(places, PER_PART, dict(source='in', batch_size=2))
    with pytest.raises(FileNotFoundError, match='nothing: no images found'):
        Job(str(tmp_path / 'other'), 'jsonl').begin(iter(()), PER_PART, dict(source='nothing'))


def test_folders_and_lists_of_any_filesystem(tmp_path):
    fsspec = pytest.importorskip('fsspec')
    memory = fsspec.filesystem('memory')
    for name in ('b.jpg', 'a.JPG', 'c/d #1?.png', 'c/e.txt', '~f.png'):
        memory.pipe(f'/bucket/{name}', name.encode())
    found = list(storage.images_in('memory://bucket', ['.jpg', '.png']))
    names = [f'memory://bucket/{name}' for name in ('a.JPG', 'b.jpg', 'c/d #1?.png', '~f.png')]
    assert [str(one) for one in found] == names
    assert storage.place(names[2]).read() == b'c/d #1?.png'
    storage.place('memory://bucket/list').write('\r\n'.join([*names[1:3], '', str(tmp_path / 'ä.jpg')]).encode())
    listed = list(storage.images_in('memory://bucket/list', ['.jpg']))
    assert [str(one) for one in listed] == [*names[1:3], str(tmp_path / 'ä.jpg')]
    job = Job('memory://bucket/out', 'jsonl')
    assert job.begin(found, 3, {'source': 'x'}) == 2
    job.results(1).write(b'[]')
    assert job.left(2) == [0]
    assert not [info.path for info in (storage.place('memory://bucket/out') / 'parts').children() if '.0' in info.path]
    with pytest.raises(FileNotFoundError, match=r'memory://bucket/gone: no such file'):
        storage.place('memory://bucket/gone').read()
    with pytest.raises(ValueError, match=r'nowhere://x: no filesystem that pyarrow or fsspec knows'):
        storage.place('nowhere://x/y')
    with pytest.raises(FileNotFoundError, match=r'memory://bucket/gone: no such file or folder'):
        list(storage.images_in('memory://bucket/gone', ['.jpg']))


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    job = Job(str(tmp_path), 'jsonl')
    dying = job.results(0)._replace(filesystem=DyingMove(job.results(0).filesystem))
    with pytest.raises(KeyboardInterrupt):
        dying.write(b'first')
    assert job.left(1) == [0]  # what is beside it counts for nothing
    job.results(0).write(b'second')
    with pytest.raises(KeyboardInterrupt):
        dying.write(b'third')
    assert job.results(0).read() == b'second'
    assert job.left(1) == []


class DyingMove:
    """A filesystem whose writer dies before a file is put in place."""

    def __init__(self, filesystem):
        self.filesystem = filesystem

    def __getattr__(self, name):
        return getattr(self.filesystem, name)

    def move(self, *_):
        raise KeyboardInterrupt


def test_a_file_of_any_size_is_not_read(tmp_path, monkeypatch):
    (tmp_path / 'large.jpg').write_bytes(bytes(11))
    monkeypatch.setattr(storage, 'MAX_BYTES', 10)
    with pytest.raises(ValueError, match=r'large\.jpg: must have at most 10 bytes, got 11'):
        storage.place(str(tmp_path / 'large.jpg')).read()


def test_a_storage_that_fails_is_asked_again(monkeypatch):
    answers = [OSError('503'), OSError('503'), b'image']
    monkeypatch.setattr(storage.Place, 'read', lambda _: answer(answers))
    monkeypatch.setattr(time, 'sleep', lambda _: None)
    assert workers._read('/a.jpg') == (b'image', None)
    answers += [OSError('a: 503\nslow down')] * 3
    assert workers._read('/a.jpg') == (None, 'a: 503 slow down')


def answer(answers):
    one = answers.pop(0)
    if isinstance(one, Exception):
        raise one
    return one


@pytest.mark.parametrize(
    ('there', 'given', 'expected'),
    [
        ({'CPU': 6.0}, {}, (6, 0)),
        ({'CPU': 6.0, 'GPU': 2.0}, {}, (2, 1)),
        ({'CPU': 6.0, 'GPU': 2.0}, dict(device='cpu'), (6, 0)),
        ({'CPU': 6.0, 'GPU': 8.0}, dict(gpus_per_actor=0.3), (24, 0.3)),
        ({'CPU': 6.0, 'GPU': 8.0}, dict(gpus_per_actor=0.1), (80, 0.1)),
        ({'CPU': 6.0, 'GPU': 5.0}, dict(gpus_per_actor=2), (2, 2)),
        ({'CPU': 1.0}, dict(gpus_per_actor=0.5, actors=7), (7, 0.5)),  # a cluster that will grow
    ],
)
def test_actors_fill_the_cluster(monkeypatch, there, given, expected):
    monkeypatch.setattr(ray, 'cluster_resources', lambda: there)
    assert cluster._room(cluster.Settings(**given)) == expected


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--actors', '2'], '--actors needs --cluster'),
        (['--format', 'jsonl'], '--format needs --cluster'),
        (['--show', '--cluster'], '--show does not go with --cluster'),
        (['--pred-score-thr', '0.5', '--cluster'], '--pred-score-thr does not go with --cluster'),
        (['--cluster', '--images-per-part', '0'], '--images-per-part must be at least 1, got 0'),
        (['--cluster', '--gpus-per-actor', '1.5'], '--gpus-per-actor must be in [0, 1] or a whole number, got 1.5'),
        (['--cluster', '--device', 'cuda:1'], '--device must be cpu with --cluster, or left out, got cuda:1'),
        (['b.jpg', '--cluster'], '--cluster takes one folder or list of images, got a.jpg, b.jpg'),
    ],
)
def test_flags_that_do_not_go_together(flags, words, capsys):
    first = flags if flags[0] == 'b.jpg' else []
    rest = [] if first else flags
    with pytest.raises(SystemExit) as caught:
        predict.main(['a.jpg', *first[:1], 'config.py', 'w.pth', *first[1:], *rest])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(PreflightError, match=r"--cluster needs ray: pip install 'swin-mm\[cluster\]'"):
        predict.main(['in', 'mask_rcnn_swin_t', 'w.pth', '--cluster'])


@pytest.mark.parametrize('broken', ['source', 'weights', 'out'])
def test_what_cannot_work_is_said_before_a_cluster_is_asked(tiny, images, tmp_path, monkeypatch, capsys, broken):
    monkeypatch.setattr(ray, 'init', lambda **_: pytest.fail('asked'))
    words = dict(source=str(images), weights=str(tiny.checkpoint), out=str(tmp_path / 'out'))
    (tmp_path / 'file').touch()
    words |= {broken: dict(source=str(tmp_path), weights=str(tiny.config), out=str(tmp_path / 'file/sub'))[broken]}
    args = [words['source'], str(tiny.config), '--weights', words['weights'], '--cluster', '--out-dir', words['out']]
    assert predict.main(args) == 1
    said = dict(source='no images found', weights='is not a checkpoint', out='file')[broken]
    line = capsys.readouterr().err.splitlines()[-1]
    assert said in line


def start(tiny, source, out, *flags, **environment):
    """Starts a driver with a cluster of its own on this machine: two actors."""
    words = [str(source), str(tiny.config), str(tiny.checkpoint), '--cluster', '--out-dir', str(out), '--actors', '2']
    paths = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    return subprocess.Popen(
        [sys.executable, '-m', 'swin_mm', 'predict', *words, '--batch-size', '2', *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, 'PYTHONPATH': paths, 'RAY_AUTH_MODE': 'disabled', 'OMP_NUM_THREADS': '1', **environment},
    )


def wait_for(condition, driver, seconds=400):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert driver.poll() is None, driver.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def actors_of(driver) -> list[int]:
    """The processes of a driver that predict."""
    parents, found = {}, []
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            parents[int(folder.name)] = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
            if b'PartPredictor' in (folder / 'cmdline').read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue

    def is_ours(pid):
        return pid == driver.pid or (pid in parents and is_ours(parents[pid]))

    return [pid for pid in found if is_ours(pid)]


@pytest.mark.slow
def test_each_image_once_although_a_worker_and_the_driver_are_killed(tiny, images, tmp_path):
    out = tmp_path / 'out'

    def parts():
        return sorted(path.name for path in out.glob('parts/*.parquet'))

    driver = start(tiny, images, out, '--images-per-part', str(PER_PART))
    wait_for(lambda: len(parts()) >= 3, driver)
    victim = wait_for(lambda: actors_of(driver), driver)[0]
    os.kill(victim, signal.SIGKILL)
    before = len(parts())
    wait_for(lambda: len(parts()) >= before + 6 and victim not in actors_of(driver), driver)
    driver.kill()
    driver.wait()
    assert 9 <= len(parts()) < PARTS
    written = {name: (out / 'parts' / name).stat().st_mtime_ns for name in parts()}

    driver = start(tiny, images, out, '--images-per-part', str(PER_PART))
    output = driver.communicate(timeout=500)[0]
    assert driver.returncode == 0, output
    assert f'{PARTS} of {PARTS} parts are done' in output
    assert {name: (out / 'parts' / name).stat().st_mtime_ns for name in written} == written  # not done again
    rows, paths = rows_of(out), in_order(images)
    assert [row['path'] for row in rows] == paths
    expected = plain(Detector(tiny.config, tiny.checkpoint, 'cpu'), paths, 2)
    assert_equals_the_plain_run(rows, expected, {str(images / BROKEN): 'not an image that OpenCV can decode'})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('moto_server') is None, reason="needs a server of S3: pip install 'moto[server]'")
def test_a_bucket_of_s3(tiny, images, tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    keys = dict(AWS_ACCESS_KEY_ID='x', AWS_SECRET_ACCESS_KEY='x', AWS_DEFAULT_REGION='us-east-1')
    keys |= dict(AWS_ENDPOINT_URL=f'http://127.0.0.1:{port}', AWS_EC2_METADATA_DISABLED='true')
    server = subprocess.Popen(['moto_server', '-p', str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in keys.items():
                patch.setenv(name, value)
            paths = in_order(images)[:10]
            upload(paths, port)
            driver = start(tiny, 's3://bucket/in', 's3://bucket/out', '--images-per-part', '4', **keys)
            output = driver.communicate(timeout=500)[0]
            assert driver.returncode == 0, output
            parts = (storage.place('s3://bucket/out') / 'parts').children()
            assert [info.base_name for info in parts] == ['00000000.parquet', '00000001.parquet']  # of 8 images each
            for info in parts:
                (tmp_path / info.base_name).write_bytes(storage.place(f's3://{info.path}').read())
    finally:
        server.kill()
        server.wait()
    rows = [row for file in sorted(tmp_path.glob('*.parquet')) for row in rows_in(file)]
    assert [row['path'] for row in rows] == [f's3://bucket/in/{Path(path).name}' for path in paths]
    expected = plain(Detector(tiny.config, tiny.checkpoint, 'cpu'), paths, 2)
    assert_equals_the_plain_run([dict(row, path=path) for row, path in zip(rows, paths, strict=True)], expected)


def upload(paths, port):
    from pyarrow import fs

    end = time.monotonic() + 60
    while True:
        try:
            fs.S3FileSystem(
                allow_bucket_creation=True, endpoint_override=f'127.0.0.1:{port}', scheme='http'
            ).create_dir('bucket')
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
    for path in paths:
        storage.place(f's3://bucket/in/{Path(path).name}').write(Path(path).read_bytes())
