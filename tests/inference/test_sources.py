"""Where images come from: each file once, lazily, with a name that keeps its folder; what is wrong is an exception."""

import io
import os
import tracemalloc
from pathlib import Path

import pytest

from swin_mm.inference.sources import Source, Sources, find_images, results_of


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def given(*inputs: str, **options) -> list[tuple[str, str]]:
    """The names of results, and the images or reasons."""
    return [(source.name, str(source.image)) for source in Sources(inputs, **options)]


def test_a_folder_gives_all_below_it_under_names_that_keep_its_folders(here):
    touch('in/b.jpg', 'in/a.PNG', 'in/notes.md', 'in/x/a.jpg', 'in/x/y/a.jpg', 'in/.thumbnails/a.jpg')
    files = ['in/a.PNG', 'in/b.jpg', 'in/x/a.jpg', 'in/x/y/a.jpg']
    assert given('in') == list(zip(['a', 'b', 'x/a', 'x/y/a'], files, strict=True))
    assert find_images(['in']) == list(map(Path, files))


def test_two_folders_with_like_names_are_kept_apart(here):
    touch('one/x/a.jpg', 'two/x/a.jpg', 'two/x/a_2.jpg', 'a.jpg')
    assert [name for name, _ in given('one', 'two', 'a.jpg')] == ['x/a', 'x/a_2', 'x/a_2_2', 'a']


def test_a_pattern_keeps_the_folders_from_its_first_wildcard_on(here):
    touch('in/a/x.jpg', 'in/b/x.jpg', 'in/b/c/x.png', 'in/[1].jpg')
    assert given('in/*/x.jpg') == [('a/x', 'in/a/x.jpg'), ('b/x', 'in/b/x.jpg')]
    assert given('in/**/*.png') == [('b/c/x', 'in/b/c/x.png')]
    assert given('in/[1].jpg') == [('[1]', 'in/[1].jpg')]
    assert [name for name, _ in given('in/*')] == ['[1]', 'a/x', 'b/x', 'b/c/x']  # as the shell writes it out


def test_a_circle_of_links_ends_and_each_file_counts_once(here):
    touch('in/a/x.jpg', 'elsewhere/y.jpg')
    for link, target in (('in/a/up', '..'), ('in/b', 'a'), ('in/c', '../elsewhere'), ('in/again.jpg', 'a/x.jpg')):
        Path(link).symlink_to(target)
    assert given('in') == [('again', 'in/again.jpg'), ('c/y', 'in/c/y.jpg')]


def test_results_are_no_images_of_the_folder_above(here):
    touch('x.jpg', 'outputs/vis/x.jpg')
    assert given('.', left_out='outputs') == [('x', 'x.jpg')]
    assert given('outputs', left_out='outputs') == [('vis/x', 'outputs/vis/x.jpg')]


def test_a_folder_that_cannot_be_read_is_a_reason_and_the_others_are_given(here, monkeypatch):
    touch('in/a/x.jpg', 'in/b/x.jpg')
    scandir = os.scandir

    def refuse(path):
        if str(path) == 'in/a':
            raise PermissionError(13, 'Permission denied', 'in/a')
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)  # the mode of a folder does not stop root
    assert given('in')[1:] == [('b/x', 'in/b/x.jpg')]
    assert given('in')[0][1] == 'in/a: Permission denied'
    with pytest.raises(PermissionError, match='in/a: Permission denied'):
        find_images(['in'])


@pytest.mark.parametrize('text', ['empty', 'gone/*.jpg', 'in/*.gif'])
def test_a_folder_or_pattern_without_images_is_refused_before_anything_is_given(here, text):
    touch('in/x.jpg', 'empty/notes.md')
    for refused in (Sources, find_images):
        with pytest.raises(FileNotFoundError) as caught:
            refused(['in', text])
        assert str(caught.value) == f'{text}: no images found'


LINES = ['x.jpg', '', ' sub ', 'https://example.org/a/Z%C3%BCrich.png?size=2', 'gone.jpg', 'empty', 'other.txt', '-']


def test_a_list_has_an_input_a_line_relative_to_it(here):
    touch('in/x.jpg', 'in/sub/y/z.jpg', 'in/empty/notes.md', 'in/other.txt')
    Path('in/list.txt').write_text('\n'.join(LINES))
    assert given('in/list.txt') == [
        ('x', 'in/x.jpg'),
        ('y/z', 'in/sub/y/z.jpg'),
        ('Zürich', 'https://example.org/a/Z%C3%BCrich.png?size=2'),
        ('gone', 'in/gone.jpg'),  # as on the command line, it is missed when it is read
        ('empty', 'in/empty: no images found'),
        ('other', 'other.txt: a list must name no other list'),
        ('-', '-: a list must name no other list'),
    ]


def test_standard_input_is_read_a_line_at_a_time(here, monkeypatch):
    touch('x.jpg')
    lines = iter(['x.jpg\n', 'https://example.org\n', None])
    monkeypatch.setattr('sys.stdin', lines)
    sources = iter(Sources(['-']))
    assert next(sources) == Source('x', Path('x.jpg'))
    assert next(sources) == Source('example.org', 'https://example.org', number=2)
    assert next(lines) is None  # not yet asked for


def test_a_source_says_its_name_without_what_a_url_may_hide():
    assert str(Source('a', 'https://me:secret@example.org/a.jpg?token=1')) == 'https://example.org/a.jpg'
    assert str(Source('a', Path('in/a.jpg'))) == 'in/a.jpg'


class Echo:
    """A predictor whose results are the images, some at a time."""

    def stream(self, images, batch_size, workers):
        some = []
        for image in images:
            some.append(image)
            if len(some) == batch_size:
                yield from some
                some = []
        yield from some


def test_results_meet_their_sources_whatever_the_batch(here, monkeypatch):
    monkeypatch.setattr('sys.stdin', io.StringIO('\n'.join(f'{i}.jpg' for i in range(7))))
    sources = Sources(['-'])
    found = list(results_of(Echo(), sources, batch_size=3))
    assert [(source.image, image) for source, image in found] == [(Path(f'{i}.jpg'),) * 2 for i in range(7)]
    assert sources.taken == 7


def test_a_long_list_takes_memory_for_names_only(here, monkeypatch):
    monkeypatch.setattr('sys.stdin', (f'{i}.jpg' for i in range(20000)))
    tracemalloc.start()
    for _ in Sources(['-']):
        pass
    assert tracemalloc.get_traced_memory()[1] < 20000 * 400  # bytes
    tracemalloc.stop()


@pytest.mark.parametrize('number', [1, 2, 3, 8])
def test_shards_share_all_images_under_the_names_that_they_have_without(here, number):
    touch(*(f'{folder}/{i}.jpg' for folder in ('one', 'two') for i in range(3)))
    everything = given('one', 'two', 'one/1.jpg')
    parts = [given('one', 'two', 'one/1.jpg', shard=f'{k}/{number}') for k in range(1, number + 1)]
    assert sorted(one for part in parts for one in part) == sorted(everything)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_shard_is_one_of_the_number(here):
    for shard in ('0/2', '3/2', '1/0', '2', '-1/2'):
        with pytest.raises(ValueError, match=f'shard must be K/N with 1 <= K <= N, got {shard}'):
            Sources([], shard=shard)


def test_a_pattern_does_not_find_the_results(here):
    for name in ('a.jpg', 'outputs/vis/a.jpg', 'outputs/vis/b.jpg'):
        touch(name)
    for pattern in ('*', '**/*.jpg'):
        assert [source.name for source in Sources([pattern], left_out='outputs')] == ['a']
    assert [source.name for source in Sources(['outputs/vis'], left_out='outputs')] == ['a', 'b']
