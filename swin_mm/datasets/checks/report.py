"""Writes findings as one HTML page, with small pictures of the images that they are about."""

import base64
import html
import math
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from .findings import SEVERITIES, Finding, Findings, Offender

SIDE = 240  # pixels, of the longer side of a thumbnail
STYLE = """
body { font: 15px/1.4 sans-serif; margin: clamp(1em, 4vw, 2em); max-width: 80em; overflow-wrap: anywhere }
h2 { margin: 1.5em 0 0.2em } .error { color: #b00020 } .warning { color: #a05a00 } .note { color: #555 }
figure { display: inline-block; margin: 0 1em 1em 0; max-width: 240px; vertical-align: top }
figure:not(:has(img)) { max-width: none }
figcaption { font-size: 13px }
"""


def write_report(found: Findings, path: str | Path, title: str) -> None:
    """Writes all findings, errors first, to the HTML file ``path``; it needs no other file."""
    rows = [row for severity in SEVERITIES for row in found.of(severity)]
    head = '<!DOCTYPE html><html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f'<title>{html.escape(title)}</title>'
    parts = [head, f'<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1><p>{found.summary()}</p>']
    for row in rows:
        parts += _section(row)
    Path(path).write_text('\n'.join([*parts, '</body></html>']), encoding='utf-8')


def _section(row: Finding) -> Iterator[str]:
    yield f'<h2 class="{row.severity}">{row.severity}: {html.escape(row.check)} ({row.count})</h2>'
    yield f'<p>{html.escape(row.data)}: {html.escape(row.sentence)}</p>'
    for offender in row.offenders:
        thumbnail = _thumbnail(offender)
        image = f'<img src="data:image/jpeg;base64,{thumbnail}" alt="">' if thumbnail else ''
        yield f'<figure>{image}<figcaption>{html.escape(offender.text)}</figcaption></figure>'


def _thumbnail(offender: Offender) -> str | None:
    """A JPEG in base64 of the image, turned as it is loaded, with its box; None if it cannot be read."""
    if offender.path is None:
        return None
    try:
        with Image.open(offender.path) as image:
            picture = ImageOps.exif_transpose(image).convert('RGB')
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    scale = SIDE / max(picture.size)
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size])
    if offender.box is not None and all(map(math.isfinite, offender.box)):
        x, y, width, height = (value * scale for value in offender.box)
        corners = [(min(x, x + width), min(y, y + height)), (max(x, x + width), max(y, y + height))]
        ImageDraw.Draw(picture).rectangle(corners, outline=(255, 0, 80), width=2)
    buffer = BytesIO()
    picture.save(buffer, 'JPEG', quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
