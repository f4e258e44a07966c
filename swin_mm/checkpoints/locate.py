"""Tells by the keys of a checkpoint its dialect, whether it is of Swin V1 or V2, and where its backbone stands."""

import re
from collections.abc import Iterable

from ..errors import CheckpointError, shortlist
from .dialects import DIALECTS, DIALECTS_V2, STAGES, Dialect

# What only the attention of V2 has.
V2 = re.compile(
    r'\b(attn|attention)\.(w_msa\.|self\.)?'
    r'(logit_scale|[qv]_bias|cpb_mlp|rpe_mlp|continuous_position_bias_mlp|relative_coords_table)\b'
)

# Where a backbone usually stands: decides if the same file holds another one, say the momentum branch of MoBY.
USUAL = re.compile(r'(module\.)?(model\.)?(backbone\.)?(bottom_up\.)?(swin(v2)?\.)?(encoder\.)?')


def recognise(state: Iterable[str]) -> str:
    """Names the dialect of the keys of ``state``, whatever their prefix.

    Raises CheckpointError, naming keys, for none and for two at once.
    """
    return locate(state)[0].name


def locate(state: Iterable[str]) -> tuple[Dialect, str]:
    """Gives the dialect of ``state`` and the prefix of the backbone in it; raises as `recognise` does."""
    keys = list(state)
    found: dict[str, dict[str, str]] = {}  # prefix: {dialect: a key}
    for key in keys:
        for dialect in DIALECTS.values():
            # What is timm's is told from the official in a second step.
            if dialect.name != 'timm' and (match := dialect.block_key.match(key)):
                found.setdefault(match['prefix'], {}).setdefault(dialect.name, key)
    if not found:
        raise CheckpointError(
            f'the checkpoint holds no block of a Swin Transformer in a known dialect ({", ".join(DIALECTS)}): '
            f'its keys are {shortlist(keys)}'
        )
    prefix = _one_prefix(found)
    dialects = found[prefix]
    if 'official' in dialects:
        name = _official_or_timm([key.removeprefix(prefix) for key in keys if key.startswith(prefix)])
        dialects[name] = dialects.pop('official')
    table = DIALECTS
    if mark := v2_key(key for key in keys if key.startswith(prefix)):
        table = DIALECTS_V2
        # Its libraries call everything else as in V1; mmdet has no V2, and these names are mmpretrain's.
        dialects = {'mmpretrain' if name == 'mmdet' else name: example for name, example in dialects.items()}
        dialects |= {} if dialects.keys() <= table.keys() else {'Swin V2': mark}
    if len(dialects) > 1:
        raise CheckpointError(f'the checkpoint is written in several dialects at once: {_pairs(dialects)}')
    return table[next(iter(dialects))], prefix


def v2_key(keys: Iterable[str]) -> str | None:
    """Gives one of ``keys`` that only Swin Transformer V2 has; None for those of V1."""
    return next(filter(V2.search, keys), None)


def _one_prefix(found: dict[str, dict[str, str]]) -> str:
    prefixes = list(found) if len(found) == 1 else [prefix for prefix in found if USUAL.fullmatch(prefix)]
    if len(prefixes) == 1:
        return prefixes[0]
    keys = {prefix or "''": next(iter(dialects.values())) for prefix, dialects in found.items()}
    raise CheckpointError(f'the checkpoint holds several backbones, pass one: under the prefix {_pairs(keys)}')


def _official_or_timm(keys: list[str]) -> str:
    """Tells the two apart: timm >= 0.9 merges patches at the start of a stage, the official code at the end."""
    starts = {i: next((key for key in keys if key.startswith(f'layers.{i}.downsample.')), None) for i in STAGES}
    end = last_stage(keys)
    first = starts[0]
    # Fewer stages than four may be what is left of an official file, whose last one then merges too.
    last = starts.get(end) if end >= 3 or not first else None
    if first and last:
        raise CheckpointError(f'the checkpoint is written in several dialects at once: official {first}, timm {last}')
    if any(starts.values()) and not (first or last):
        raise CheckpointError(
            'the checkpoint is official or of timm, but not whole: it has neither layers.0.downsample nor '
            f'layers.{end}.downsample, only {next(filter(None, starts.values()))}'
        )
    return 'timm' if last else 'official'


def last_stage(keys: Iterable[str]) -> int:
    """Gives the number of the last stage that has blocks in the official ``keys``."""
    return max(int(key.split('.')[1]) for key in keys if re.match(r'layers\.\d+\.blocks\.', key))


def _pairs(examples: dict[str, str]) -> str:
    return ', '.join(f'{name} ({key})' for name, key in examples.items())
