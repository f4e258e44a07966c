"""Files of the Hugging Face Hub, ``hf://owner/name[@revision][/file]``, through huggingface_hub; none of them runs.

Tokens, addresses and the cache are huggingface_hub's: HF_TOKEN, HF_ENDPOINT, HF_HOME. SWIN_MM_CACHE moves the cache.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import unquote

from ..errors import PreflightError, one_line, shortlist

PREFIX = 'hf://'
ADDRESS = re.compile(r'hf://(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<file>[^@]+))?')
WEIGHTS = 'model.safetensors'
# What a repository is searched for, the first choice first; a pattern must meet one file.
CHOICES = ((WEIGHTS,), ('*.safetensors',), ('pytorch_model.bin',), ('*.pth', '*.pt', '*.bin'))
LOG_IN = 'log in with `hf auth login`, or set HF_TOKEN'


class Place(NamedTuple):
    """What an address means: ``revision`` is a branch, tag or commit, None the main branch; ``file`` None: not said."""

    repository: str
    revision: str | None
    file: str | None


def is_hub(source: str | os.PathLike) -> bool:
    """Whether ``source`` is an address of the Hub."""
    return os.fspath(source).startswith(PREFIX)


def parse(source: str) -> Place:
    """Takes an address apart; raises ValueError for one of another form."""
    found = ADDRESS.fullmatch(source.rstrip('/'))
    if found is None:
        raise ValueError(f'an address of the Hub must be hf://OWNER/NAME[@REVISION][/FILE], got {source}')
    revision = found['revision']
    return Place(found['repository'], revision and unquote(revision), found['file'])


def fetch(source: str) -> Path:
    """Gives the weights of an address, downloaded if they are not in the cache; offline those that are there.

    Without a file in the address they are those of `CHOICES`. Raises ValueError if it means no file or several, OSError
    if the file cannot be had, PreflightError without huggingface_hub.
    """
    place = parse(source)
    if place.file is not None:
        return fetch_file(source, place.file)
    try:
        return fetch_file(source, WEIGHTS)
    except FileNotFoundError:
        names = _file_names(source, place)
    except OSError:  # no answer
        if not (names := _cached_names(source, place)):
            raise
    return fetch_file(source, _choose(source, names))


def fetch_file(source: str, name: str) -> Path:
    """Gives the file ``name`` of the repository that ``source`` names; errors are those of `fetch`.

    FileNotFoundError says that the repository does not have it.
    """
    place = parse(source)
    options: Any = dict(repo_id=place.repository, filename=name, revision=place.revision)
    with _in_one_line(source, name) as hub:
        try:
            # The download would try for half a minute before it looks into the cache.
            hub.get_hf_file_metadata(hub.hf_hub_url(**options, endpoint=_endpoint()))
        except (hub.errors.EntryNotFoundError, hub.errors.RevisionNotFoundError):
            raise
        except Exception:  # any library for HTTP has its own errors
            found = hub.try_to_load_from_cache(**options, cache_dir=_cache())
            if isinstance(found, str):
                return Path(found)
            raise
        return Path(hub.hf_hub_download(**options, cache_dir=_cache(), endpoint=_endpoint()))


def _choose(source: str, names: list[str]) -> str:
    for patterns in CHOICES:
        found = [name for name in names if any(fnmatch(os.path.basename(name), pattern) for pattern in patterns)]
        if len(found) == 1:
            return found[0]
        if found:
            listed = shortlist(found, 12)
            raise ValueError(f'{source} has several files of weights, name one as {source}/FILE: {listed}')
    listed = shortlist(names) or 'no files'
    raise ValueError(f'{source} has no weights: no .safetensors, .bin, .pth or .pt among {listed}')


def _file_names(source: str, place: Place) -> list[str]:
    with _in_one_line(source, 'its list of files') as hub:
        return hub.HfApi(_endpoint()).list_repo_files(place.repository, revision=place.revision)


def _cached_names(source: str, place: Place) -> list[str]:
    """The files of a repository that are in the cache, as far as they were wanted."""
    with _in_one_line(source, 'its list of files') as hub:
        try:
            repositories = hub.scan_cache_dir(_cache()).repos
        except hub.errors.CacheNotFound:
            return []
    wanted = place.revision or 'main'
    revisions = [rev for repo in repositories if repo.repo_id == place.repository for rev in repo.revisions]
    known = next((rev for rev in revisions if wanted in (rev.commit_hash, *rev.refs)), None)
    return [file.file_path.relative_to(known.snapshot_path).as_posix() for file in known.files] if known else []


def _cache() -> str | None:
    """The folder of the cache; None for huggingface_hub's own."""
    folder = os.environ.get('SWIN_MM_CACHE')
    return os.path.join(os.path.expanduser(folder), 'hub') if folder else None


def _endpoint() -> str | None:
    """The address of the Hub that is set now; huggingface_hub reads it only once. None for the public one."""
    return os.environ.get('HF_ENDPOINT')


@contextmanager
def _in_one_line(source: str, wanted: str) -> Iterator[ModuleType]:
    """Gives huggingface_hub, and says in one sentence why ``wanted`` cannot be had from it."""
    try:
        import huggingface_hub as hub
        import huggingface_hub.errors as errors
    except ModuleNotFoundError as error:
        raise PreflightError(f"{source} needs huggingface_hub: pip install 'swin-mm[hub]'") from error
    try:
        yield hub
    except errors.GatedRepoError as error:
        raise OSError(f'{source} is open to those who accepted its terms on its page: {LOG_IN}') from error
    except errors.RepositoryNotFoundError as error:
        raise OSError(f'{source}: no such repository, or a private one: check its name, or {LOG_IN}') from error
    except errors.RevisionNotFoundError as error:
        raise OSError(f'{source}: no such revision: name a branch, a tag or a commit') from error
    except errors.EntryNotFoundError as error:
        raise FileNotFoundError(f'{source}: the repository has no {wanted}') from error
    except errors.HFValidationError as error:
        raise ValueError(f'{source}: {one_line(error)}') from error
    except Exception as error:  # any library for HTTP has its own errors
        raise OSError(
            f'{source}: {wanted} is not in the cache, and {_endpoint() or hub.constants.ENDPOINT} does not give it '
            f'({type(error).__name__}: {one_line(error)[:200]}): fetch the file elsewhere, and name its path'
        ) from error
