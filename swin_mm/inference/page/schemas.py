"""The JSON of every answer, for OpenAPI; nothing is checked against it at run time."""

from pydantic import BaseModel, Field


class Mask(BaseModel):
    """A mask as COCO's compressed run-length encoding, which pycocotools decodes."""

    size: list[int] = Field(description='height, width')
    counts: str


class Segment(BaseModel):
    """A segment of a panoptic result."""

    id: int = Field(description='red + 256 green + 65536 blue of its pixels in panoptic_seg_png')
    label: int
    label_name: str


class Prediction(BaseModel):
    """What a model found: the first fields always, then those of its task."""

    model: str
    width: int = Field(description='of the picture, upright by its EXIF tag, in pixels')
    height: int
    seconds: float = Field(description='to decode the picture, predict and encode the result; not in the queue')
    preview: str | None = Field(None, description='JPEG in base64 of the picture, if asked for')
    labels: list[int] | dict[str, int] = Field(
        description='detection: class index of each object; segmentation: index of each class in sem_seg_png'
    )
    label_names: list[str] | None = Field(None, description='detection: the class of each object, best first')
    scores: list[float] | None = Field(None, description='detection: in [0, 1]')
    bboxes: list[list[float]] | None = Field(None, description='detection: x1, y1, x2, y2 in pixels')
    masks: list[Mask] | None = Field(None, description='detection, if the model finds masks')
    panoptic_seg_png: str | None = Field(None, description='panoptic models: PNG in base64 with the id of each pixel')
    segments_info: list[Segment] | None = Field(None, description='panoptic models')
    shares: dict[str, float] | None = Field(None, description='segmentation: part of the pixels of each class')
    sem_seg_png: str | None = Field(None, description='segmentation: PNG in base64 with the class index of each pixel')


class Model(BaseModel):
    """A model that the server offers."""

    name: str
    task: str = Field(description='detection or segmentation')
    classes: list[str]
    colours: list[list[int]] = Field(description='red, green, blue in 0..255 of each class')


class Offer(BaseModel):
    """What the server offers, and what it takes."""

    models: list[Model]
    examples: int = Field(description='how many pictures lie at /examples/0, /examples/1, ...')
    max_bytes: int = Field(description='of a file')
    max_pixels: int = Field(description='of a picture')


class Error(BaseModel):
    """Why there is no result."""

    error: str = Field(description='one sentence')
