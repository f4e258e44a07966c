"""What ``swin-mm predict`` writes and says: its flags, how a run goes on, and the loop over the images."""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import PreflightError
from ..inference import Detector, Segmentor
from ..inference.drawing import OPACITY, SCORE, show
from ..inference.outputs import FORMATS, Job, Journal, Writer, as_json, open_outputs
from ..inference.sources import Source, Sources
from ..inference.video import ClipWriter
from .progress import Progress

Model = Detector | Segmentor
SAVED = ('vis', 'json')


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say what is written and shown."""
    formats = ', '.join(FORMATS)
    parser.add_argument(
        '--save',
        nargs='+',
        choices=list(FORMATS),
        default=SAVED,
        metavar='FORMAT',
        help=f'what to write: {formats}; default: {" ".join(SAVED)}',
    )
    parser.add_argument('--no-save-vis', action='store_true', help='do not write vis')
    parser.add_argument('--no-save-pred', action='store_true', help='do not write json')
    parser.add_argument('--resume', action='store_true', help='go on where the run that wrote OUT_DIR stopped')
    parser.add_argument('--show', action='store_true', help='show the drawn images in a window')
    parser.add_argument('--print-result', action='store_true', help='print the predictions')


def open_journal(args: argparse.Namespace, cfg: Config) -> Journal | None:
    """Makes the folders of the formats, and gives the journal of the run, None if it writes nothing.

    Raises OSError for a folder that cannot be written to, PreflightError if ``--resume`` is given with another run's.
    """
    formats = _formats(args)
    for name in formats:
        _make_folder(Path(args.out_dir, FORMATS[name].place))
    if not formats:
        return None
    return Journal(Path(args.out_dir), _command(args, cfg), args.resume, _part(args))


def already_written(sources: Sources, journal: Journal) -> str:
    """Counts the images that are done; raises PreflightError before anything is changed if others stood there."""
    total = sources.count()
    if total is None:  # they can be taken once only, so `write` compares them as they come
        return str(len(journal))
    for source in sources:
        journal.is_done(source.number, str(source))
    return f'{len(journal)} of {total}'


def _part(args: argparse.Namespace) -> str:
    """The end of the names of files that processes must not share."""
    return '' if args.shard == '1/1' else f'_{args.shard.replace("/", "_of_")}'


def _formats(args: argparse.Namespace) -> list[str]:
    unwanted = {'vis': args.no_save_vis, 'json': args.no_save_pred}
    return [name for name in FORMATS if name in args.save and not unwanted.get(name)]


def _command(args: argparse.Namespace, cfg: Config) -> dict[str, Any]:
    """What the results hang on: with any of it changed, a run does not go on."""
    weights = Path(args.weights)
    same = ('pred_score_thr', 'palette', 'opacity', 'with_labels', 'max_pixels', 'precision')
    return {
        'the config': _digest(json.dumps(cfg.to_dict(), sort_keys=True, default=str).encode()),
        'the checkpoint': _digest(weights.read_bytes()) if weights.is_file() else args.weights,
        '--save': ' '.join(_formats(args)),
        **{flag_of(name): getattr(args, name) for name in same},
    }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def drawing_options(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    """The arguments of `plot` that the flags give; all that it draws in has the same colours."""
    palette = model.dataset_meta['palette'] if args.palette in (None, 'none') else args.palette
    if isinstance(model, Segmentor):
        opacity = OPACITY if args.opacity is None else args.opacity
        return dict(palette=palette, opacity=opacity, with_labels=bool(args.with_labels))
    return dict(palette=palette, score=SCORE if args.pred_score_thr is None else args.pred_score_thr)


def open_writer(args: argparse.Namespace, model: Model, journal: Journal | None) -> Writer:
    """Opens the files that the flags ask for, anew or where the ``journal`` ends."""
    drawing = drawing_options(args, model)
    if journal is not None:
        journal.open()  # first: a run that is killed here has nothing to go on from
    lengths = {} if journal is None else journal.lengths
    formats, score = _formats(args), drawing.get('score', SCORE)
    job = Job(Path(args.out_dir), model.classes, model.reader, score, drawing, lengths, _part(args))
    draw = (lambda pixels, found: found.plot(pixels, **drawing)) if 'vis' in formats else None
    clips = ClipWriter(Path(args.out_dir, FORMATS['vis'].place), draw, score)
    return Writer(open_outputs(formats, job), journal, clips)


def flag_of(name: str) -> str:
    """The flag that argparse has under ``name``."""
    return '--' + name.replace('_', '-')


def _unwritten(sources: Sources, journal: Journal | None) -> Iterator[Source]:
    """The images that are to be written; raises PreflightError for a video where a run is to go on."""
    for source in sources:
        if journal and source.clip is not None:
            raise PreflightError(f'--resume goes on with images, and {source.clip} is a video: leave --resume out')
        if journal is None or not journal.is_done(source.number, str(source)):
            yield source


def write(args: argparse.Namespace, sources: Sources, model: Model, writer: Writer) -> Iterator[str]:
    """Writes and prints the files of each image; yields the reason for each that has no result."""
    stream = writer.stream(model, _unwritten(sources, writer.journal), args.batch_size, args.workers)
    drawing = drawing_options(args, model)
    try:
        with closing(stream), Progress(sources.count, len(writer.journal or ())) as progress:
            for written in stream:
                if written.reason:
                    yield written.reason
                elif args.print_result:
                    progress.say(json.dumps(as_json(written.found)))
                if args.show and not written.reason and not written.is_frame:
                    show(written.source, written.found.plot(written.pixels, **drawing))
                for file in written.files:
                    progress.say(shown(str(file)))
                progress.step()
    finally:
        for file in writer.close():
            print(shown(str(file)))
    for growing in writer.growing:
        print(shown(str(growing.path)))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f'--out-dir must be a folder that can be written to, got {folder}: {error.strerror}') from error


def shown(text: str) -> str:
    """``text`` on one line of any terminal: a file may have any name."""
    return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
