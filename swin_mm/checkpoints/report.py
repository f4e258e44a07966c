"""Reports what became of every key of a checkpoint, and refuses a checkpoint of which too little fits."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..errors import CheckpointError, shortlist
from .locate import v2_key
from .windows import Window


@dataclass
class Report:
    """The tensors that a backbone gets from a checkpoint, under official names; `adapt` fills it in.

    ``resized``, ``dropped``: key to what was done or why; ``fresh``: norms of maps, which a classifier does not have;
    ``deeper``: of stages that the checkpoint, of four stages or more, does not have; they keep what they hold.
    ``units``: for V2, the windows that offsets of each stage are counted in, of the checkpoint and of the backbone.
    ``missing``, ``unexpected``: of the backbone alone. ``source``, ``target``: the two networks in words.
    """

    dialect: str
    prefix: str
    source: str
    target: str
    loaded: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    deeper: list[str] = field(default_factory=list)
    units: list[tuple[Window, Window]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every tensor of the backbone is there and means the same, and none is left over."""
        return not (self.deeper or self._units() or self.missing or self.unexpected)

    def table(self) -> str:
        """Writes the report as a table, a line for each fate that occurs; long lists of keys are shortened."""
        filled = len(self.loaded) + len(self.resized)
        lines = [
            ('dialect', f"{self.dialect}, prefix '{self.prefix}'"),
            ('loaded', f'{filled} of {filled + len(self.deeper) + len(self.missing)} tensors'),
            ('resized', _counted(self.resized.values())),
            ('starting at identity', shortlist(self.fresh)),
            ('FRESH, deeper stages', shortlist(self.deeper)),
            ('dropped on purpose', _counted(self.dropped.values())),
            ('OTHER OFFSET UNIT', self._units()),
            ('MISSING', shortlist(self.missing)),
            ('UNEXPECTED', shortlist(self.unexpected)),
        ]
        width = max(len(name) for name, _ in lines)
        body = '\n'.join(f'  {name:<{width}}  {text}' for name, text in lines if text)
        return f'Checkpoint of a Swin backbone ({self.source}):\n{body}'

    def _units(self) -> str:
        """Writes where the units of offsets differ, as the argument of the backbone has them."""
        theirs, ours = ([h if h == w else (h, w) for h, w in (pair[i] for pair in self.units)] for i in (0, 1))
        return '' if theirs == ours else f'windows of {theirs}, here {ours}: set pretrained_window_sizes to the former'

    def check(self, min_loaded: float) -> None:
        """Raises CheckpointError if less than the share ``min_loaded`` of either network's tensors has a counterpart.

        Either network's: a deeper one has every tensor that a shallow one asks for, and would be cut short in silence.
        """
        filled = len(self.loaded) + len(self.resized)
        wanted, offered = filled + len(self.missing), filled + len(self.unexpected)
        if filled >= min_loaded * max(wanted, offered):
            return
        raise CheckpointError(
            f'the checkpoint ({self.dialect}; {self.source}) does not fit the backbone ({self.target}): '
            f'{filled} of its {wanted} tensors are filled, {len(self.unexpected)} are left over; '
            f'missing: {shortlist(self.missing) or "none"}; unexpected: {shortlist(self.unexpected) or "none"}. '
            f'Choose the weights of this architecture, or set min_loaded=0 in the backbone if this is meant'
        )


def network(state: Mapping[str, Tensor]) -> str:
    """Writes the width and depths of the network of the official ``state``, as configs have them, and V2 if it is."""
    depths = Counter(
        key.split('.')[1] for key in state if key.startswith('layers.') and key.endswith('.attn.qkv.weight')
    )
    conv = state.get('patch_embed.proj.weight')
    width = 'unknown' if conv is None or conv.ndim != 4 else conv.shape[0]
    version = 'V2, ' if v2_key(state) else ''
    return f'{version}embed_dims={width}, depths=({", ".join(str(depths[stage]) for stage in sorted(depths))})'


def _counted(reasons: Iterable[str]) -> str:
    return ', '.join(f'{count} x {reason}' for reason, count in Counter(reasons).items())
