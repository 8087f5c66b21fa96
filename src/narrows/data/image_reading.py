"""What is said of the pictures that were read: how many, of which classes, and what became of those of other sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from narrows.data.image_files import Header, ImageReader
from narrows.data.image_tree import Tree
from narrows.errors import printable

WORDS = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with opacity",
    "P": "of a palette",
    "PA": "of a palette with opacity",
    "RGB": "in colour",
    "RGBA": "in colour with opacity",
}
LISTED = 12
"""Most classes, and most names of what was passed over, that a line lists."""


def describe(
    parts: Mapping[str, int], numbers: Mapping[str, int], reader: ImageReader, headers: Iterable[Header]
) -> str:
    """The line of a folder of images.

    Args:
        parts: the number of examples of each split that the folders give.
        numbers: of the classes, by name; empty if there are none.
    """
    _, height, width = reader.shape
    seen = Counter(headers)
    sizes = Counter[tuple[int, int]]()
    modes = Counter[str]()
    for header, count in seen.items():
        sizes[header.height, header.width] += count
        modes[header.mode] += count
    counts = f"{sum(parts.values()):,}"
    if len(parts) > 1:
        counts = " and ".join(f"{count:,} to {_use(part)}" for part, count in parts.items())
    said = [
        f"images: {counts}{_classes(numbers)}",
        f"{height}x{width} {'in colour' if reader.channels == 3 else 'grey'}",
    ]
    said += [text for text in (_fitting(sizes, reader), _conversion(modes, reader), _frames(seen, reader)) if text]
    axes = "" if height == width and all(high == wide for high, wide in sizes) else " (height x width)"
    return ", ".join(said) + axes


def _use(part: str) -> str:
    return {"validation": "validate on"}.get(part, f"{part} on")


def _classes(numbers: Mapping[str, int]) -> str:
    if not numbers:
        return " without classes"
    ordered = sorted(numbers.items(), key=lambda pair: pair[1])
    listed = [f"{number} {printable(name)}" for name, number in ordered[:LISTED]]
    if all(name == str(number) for name, number in ordered):
        listed = [name for name, _ in ordered[:LISTED]]
    more = ["..."] if len(ordered) > LISTED else []
    return f" of {len(numbers):,} class{'es' * (len(numbers) != 1)} ({', '.join([*listed, *more])})"


def _fitting(sizes: Counter[tuple[int, int]], reader: ImageReader) -> str:
    """How pictures of other sizes were brought to that of the reader."""
    _, height, width = reader.shape
    other = sorted((size for size in sizes if size != (height, width)), key=lambda size: (size[0] * size[1], size))
    if not other:
        return ""
    how = {"crop": "centre-cropped", "pad": "padded with black", "stretch": "stretched"}[reader.pictures.fit]
    if all(high * width == wide * height for high, wide in other):
        how = "scaled"
    first, last = (f"{high}x{wide}" for high, wide in (other[0], other[-1]))
    return f"{how} from {first}" if len(other) == 1 else f"{how} from {len(other)} sizes, {first} to {last}"


def _conversion(modes: Counter[str], reader: ImageReader) -> str:
    """Which files were not of the colours that are served."""
    usual = "RGB" if reader.channels == 3 else "L"
    scale = reader.pictures.scale
    deep = f"of more than eight bits (white at {scale:g})" if scale is not None else ""
    found = [f"{count} {WORDS.get(mode, deep)}" for mode, count in sorted(modes.items()) if mode != usual]
    return f"of the files {' and '.join(found)}" if found else ""


def _frames(seen: Counter[Header], reader: ImageReader) -> str:
    stacks = sum(count for header, count in seen.items() if header.frames > 1)
    if not stacks:
        return ""
    frames = sum(header.frames * count for header, count in seen.items() if header.frames > 1)
    taken = "the first of each" if reader.pictures.frames == "first" else "each an example, in any split"
    return f"{frames} frames of {stacks} files, {taken}"


def passed_over(trees: Iterable[Tree]) -> str | None:
    """The words on what was passed over; None if nothing was."""
    trees = list(trees)
    hidden = [name for tree in trees for name in tree.hidden]
    empty = [name for tree in trees for name in tree.empty]
    said = []
    if hidden:
        said.append(f"{len(hidden)} hidden ({_some(hidden)})")
    if empty:
        said.append(f"{len(empty)} folder{'s' * (len(empty) != 1)} without images ({_some(empty)})")
    others = sum((tree.others for tree in trees), Counter[str]())
    said += [f"{count} {printable(suffix)}" for suffix, count in others.most_common(LISTED)]
    return f"passed over: {', '.join(said)}" if said else None


def _some(names: Iterable[str]) -> str:
    """A few of the names."""
    first, *more = dict.fromkeys(map(printable, names))
    return ", ".join([first, *more[:2], *(["..."] if len(more) > 2 else [])])
