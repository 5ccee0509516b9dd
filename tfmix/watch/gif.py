"""Draws scenes with Pillow, as an animated GIF."""

from __future__ import annotations

import functools
from typing import IO, Any

from PIL import Image, ImageDraw, ImageFont

from tfmix.watch.shapes import PAPER, Circle, Line, Picture, Polygon, Rect, Scene, Shape, Text

SCALE = 2  # pictures are drawn larger and then made smaller, so that edges are smooth
ANCHOR = {"start": "lm", "middle": "mm", "end": "rm"}


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def image(scene: Scene, moment: int) -> Any:
    """Return the picture of a moment, a Pillow image."""
    size = scene.width * SCALE, scene.height * SCALE
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for shape in [*scene.fixed, *scene.moments[moment]]:
        _draw(canvas, draw, shape)
    return canvas.resize((scene.width, scene.height), Image.Resampling.LANCZOS)


def _draw(canvas: Any, draw: Any, shape: Shape) -> None:
    if isinstance(shape, Text):
        at, font = (shape.x * SCALE, shape.y * SCALE), _font(max(round(shape.size * SCALE), 1))
        stroke = {"stroke_width": 1, "stroke_fill": shape.fill} if shape.bold else {}
        draw.text(at, shape.text, shape.fill, font, anchor=ANCHOR[shape.anchor], **stroke)
    elif isinstance(shape, Picture):
        size = round(shape.w * SCALE), round(shape.h * SCALE)
        picture = Image.fromarray(shape.pixels).resize(size)
        canvas.paste(picture, (round(shape.x * SCALE), round(shape.y * SCALE)))
    elif isinstance(shape, Line):
        points = [(x * SCALE, y * SCALE) for x, y in shape.points]
        draw.line(points, shape.colour, round(shape.width * SCALE), "curve")
    else:
        look: dict[str, Any] = {"fill": None if shape.fill == "none" else shape.fill}
        if shape.line:
            look |= {"outline": shape.line, "width": max(round(shape.width * SCALE), 1)}
        if isinstance(shape, Circle):
            draw.circle((shape.x * SCALE, shape.y * SCALE), shape.r * SCALE, **look)
        elif isinstance(shape, Rect):
            x, y = shape.x * SCALE, shape.y * SCALE
            draw.rectangle((x, y, x + shape.w * SCALE, y + shape.h * SCALE), **look)
        elif isinstance(shape, Polygon):
            draw.polygon([(x * SCALE, y * SCALE) for x, y in shape.points], **look)


def write(scene: Scene, file: IO[bytes], milliseconds: int) -> None:
    """Write an animation with one frame per moment; the last one is shown four times as long."""
    frames = [image(scene, moment) for moment in range(len(scene.moments))]
    times = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    frames = [frame.quantize(128) for frame in frames]
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, disposal=1
    )
