"""Kinds of self-attention, by the names that the argument ``attention`` of a backbone takes."""

from .performer import PerformerAttention
from .self_attention import SelfAttention
from .sliding import SlidingAttention
from .whole_map import GlobalAttention
from .window import WindowAttention

KINDS: dict[str, type[SelfAttention]] = {
    'window': WindowAttention,
    'sliding': SlidingAttention,
    'performer': PerformerAttention,
    'global': GlobalAttention,
}
