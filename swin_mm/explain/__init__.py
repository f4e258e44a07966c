"""Shows what a trained model looks at: class activation maps, the attention of a token, receptive fields.

view = see(detector, 'street.jpg')
heat = view.on_image(activation_map(detector, view, 'grad-cam'))  # (height, width) of the image, from 0 to 1
"""

from .activation import METHODS, activation_map, best_class
from .attention import Attended, attention_of
from .receptive_field import receptive_fields
from .view import View, see

__all__ = [
    'METHODS',
    'Attended',
    'View',
    'activation_map',
    'attention_of',
    'best_class',
    'receptive_fields',
    'see',
]
