"""Load a trained model once, predict on arrays and files.

detector = Detector('mask_rcnn_swin_t')  # with the published weights
found = detector('street.jpg')[0]
found.boxes, found.scores, found.names, found.masks
found.filter(score=0.5, classes='person').plot()

segmentor = Segmentor('upernet_swin_t', 'work_dirs/upernet_swin_t/iter_160000.pth')
found = segmentor('street.jpg')[0]
found.labels, found.shares
"""

from ..checkpoints.files import read as load_checkpoint
from .origin import Origin
from .predictors import Detector, Segmentor
from .prepared import EncodedImage, NamedImage
from .results import Detections, FoundClass, FoundObject, Panoptic, Segmentation

__all__ = [
    'Detections',
    'Detector',
    'EncodedImage',
    'FoundClass',
    'FoundObject',
    'NamedImage',
    'Origin',
    'Panoptic',
    'Segmentation',
    'Segmentor',
    'load_checkpoint',
]
