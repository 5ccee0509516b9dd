"""Writes scenes as SVG: alone with an animation by CSS, or as part of a page."""

from __future__ import annotations

from tfmix.watch.shapes import FONT, Scene, escaped, markup


def animated(scene: Scene, title: str, milliseconds: int) -> str:
    """Return an SVG that plays by CSS keyframes, without a script.

    Readers who prefer no motion see the last moment.
    """
    count = len(scene.moments)
    share, seconds = 100 / count, milliseconds / 1000
    css = (
        f"@keyframes show{{0%{{visibility:visible}}{share:.4f}%,100%{{visibility:hidden}}}}"
        f".moment{{visibility:hidden;animation:show {count * seconds:.3f}s step-end infinite}}"
        "@media (prefers-reduced-motion:reduce){.moment{animation:none}"
        ".moment:last-of-type{visibility:visible}}"
    )
    delays = "\n".join(
        f"<g class='moment' style='animation-delay:{number * seconds:.3f}s'>{markup(shapes)}</g>"
        for number, shapes in enumerate(scene.moments)
    )
    box = f"0 0 {scene.width} {scene.height}"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='{box}' width='{scene.width}' "
        f"height='{scene.height}' role='img' {FONT}>\n<title>{escaped(title)}</title>\n"
        f"<style>{css}</style>\n<rect width='{scene.width}' height='{scene.height}' "
        f"fill='#ffffff'/>\n{markup(scene.fixed)}\n{delays}\n</svg>\n"
    )


def still(scene: Scene) -> str:
    """Return the SVG of a page, which shows one of its moments at a time with a script."""
    moments = "\n".join(f"<g class='moment'>{markup(shapes)}</g>" for shapes in scene.moments)
    box = f"0 0 {scene.width} {scene.height}"
    return (
        f"<svg id='scene' viewBox='{box}' role='img' aria-label='the episode' {FONT}>"
        f"{markup(scene.fixed)}\n{moments}</svg>"
    )
