"""Several sources as the parts of multi-modal data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor

from narrows.data.agreeing_classes import common_names, say_numbered, with_agreeing_classes
from narrows.data.contents import Contents, Part, Source
from narrows.data.paired_by_label import class_rows, paired_rows
from narrows.data.side_by_side import SideBySide
from narrows.data.splits import Plan, divide
from narrows.data.stores import Dense, Store, differs
from narrows.errors import nearest, require
from narrows.types import NamedPart

Pairing = Literal["rows", "label"]
KINDS = ("image", "vector", "series", "audio")


class Multimodal:
    """Examples of named parts, each from a source of its own, whose flattened values stand side by side, `[D]`.

    `pairing=rows`: row i of every part belongs together, and NaN is a missing value: a part whose values are all NaN
    is missing from its example. `pairing=label`: parts of the same class (of one name, where both name theirs) are put
    together at random; every part is first divided into its own splits, as it would be alone, so that nothing held out
    stands in any pair of training. Each example of the part that has most of a class then stands in `pairs` pairs, and
    those of the others as often as that takes ("Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep
    Generative Models", Shi et al., 2019, https://arxiv.org/abs/1911.03393, section 4.2).

    Args:
        parts: sources by name, of images, vectors, series or sound, of one length each.
        pairs: of each example, where they are paired by label.
        validation: of each part without an official validation split, where they are paired by label.
        seed: of divisions and pairs, separate from the run's.

    Raises:
        UserError: an option out of its range; fewer than two parts, or a name that is none; (`load`) a source of
            another kind, or parts that cannot be paired.
    """

    def __init__(
        self,
        parts: Mapping[str, Source],
        pairing: Pairing = "rows",
        pairs: int = 1,
        validation: float = 0.1,
        seed: int = 0,
    ) -> None:
        known = get_args(Pairing)
        require(pairing in known, f"source multimodal: unknown pairing={pairing!r}: {nearest(str(pairing), known)}")
        require(pairs >= 1, f"source multimodal: pairs must be at least 1, not {pairs}")
        require(0 < validation < 1, f"source multimodal: validation={validation} is no fraction between 0 and 1")
        require(len(parts) >= 2, f"source multimodal needs two parts or more, by name, and has {len(parts)}")
        wrong = [name for name in parts if not str(name).isidentifier()]
        require(not wrong, f"source multimodal: '{''.join(map(str, wrong[:1]))}' is no name of letters and digits")
        self.sources, self.pairing, self.pairs = dict(parts), pairing, pairs
        self.validation, self.seed = validation, seed

    def load(self) -> Contents:
        loaded = {name: source.load() for name, source in self.sources.items()}
        for name, contents in loaded.items():
            _require_fit(name, contents)
        loaded = with_agreeing_classes(loaded)
        return _by_rows(loaded) if self.pairing == "rows" else self._by_label(loaded)

    def _by_label(self, loaded: Mapping[str, Contents]) -> Contents:
        plan = Plan("auto", None, 0, self.seed)
        divided = {}
        for name, contents in loaded.items():
            own = plan if contents.validation is not None else Plan(self.validation, None, 0, self.seed)
            divided[name] = {split: one.part for split, one in divide(contents, own).items()}
        splits = [split for split in ("train", "validation", "test") if all(split in own for own in divided.values())]
        pairs = {}
        for split in splits:
            labels = {name: _classes(name, own[split]) for name, own in divided.items()}
            pairs[split] = paired_rows(class_rows(labels, split, common_names(loaded)), self.pairs, self.seed, split)
        made = {split: _beside(loaded, {n: own[split] for n, own in divided.items()}, pairs[split]) for split in splits}
        counts = ", ".join(f"{len(pairs[split]):,} of {split}" for split in splits)
        told = f"multimodal: {_described(loaded)}, paired by label ({counts})"
        why = "the parts are paired by label after they were divided, and other pairs hold the same examples"
        return _contents(loaded, made, told, pooled=why)


def _by_rows(loaded: Mapping[str, Contents]) -> Contents:
    first = next(iter(loaded))
    names = {name: sorted(contents.parts()) for name, contents in loaded.items()}
    for name, splits in names.items():
        require(
            splits == names[first],
            f"source multimodal: part '{first}' has the splits {', '.join(names[first])}, and '{name}' "
            f"{', '.join(splits)}: parts that are paired by rows must have the same",
        )
    made = {}
    for split in names[first]:
        own = {name: contents.parts()[split] for name, contents in loaded.items()}
        count = len(own[first])
        for name, part in own.items():
            require(
                len(part) == count,
                f"source multimodal: the {split} split of part '{first}' has {count:,} rows, and that of '{name}' "
                f"{len(part):,}: pair parts of as many rows, or pairing=label",
            )
        made[split] = _beside(loaded, own, torch.arange(count)[:, None].expand(count, len(own)).contiguous())
    fraction = loaded[first].test_fraction
    told = f"multimodal: {_described(loaded)}, paired by rows"
    return _contents(loaded, made, told, fraction=fraction, groups=_groups(loaded))


def _groups(loaded: Mapping[str, Contents]) -> Tensor | None:
    return next((contents.groups for contents in loaded.values() if contents.groups is not None), None)


def _contents(
    loaded: Mapping[str, Contents],
    made: Mapping[str, Part],
    told: str,
    fraction: float | int | None = None,
    groups: Tensor | None = None,
    pooled: str | None = None,
) -> Contents:
    named = [
        NamedPart(name, tuple(contents.train.x.shape[1:]), contents.kind, rate=contents.rate)
        for name, contents in loaded.items()
    ]
    lines = [f"{name}: {line}" for name, contents in loaded.items() for line in contents.reading]
    return Contents.of_parts(
        "vector",
        made,
        fraction,
        groups=groups,
        class_names=common_names(loaded),
        identity=_identity(loaded, made),
        named_parts=named,
        standardise_parts=[contents.standardise for contents in loaded.values()],
        pooled=pooled,
        reading=[*lines, told + say_numbered(loaded)],
    )


def _identity(loaded: Mapping[str, Contents], made: Mapping[str, Part]) -> str | None:
    """What the examples are told by, where a part is computed; None: by their values."""
    if all(contents.identity is None for contents in loaded.values()):
        return None
    digest = hashlib.sha256()
    for name, contents in loaded.items():
        digest.update(f"|{name}|{contents.identity}".encode())
        for part in contents.parts().values() if contents.identity is None else ():
            for values in part.x.bytes():
                digest.update(values)
    for split, part in made.items():
        assert isinstance(part.x, SideBySide)
        digest.update(f"|{split}|{list(part.x.shape)}".encode())
        digest.update(part.x.rows.numpy().data)
    return digest.hexdigest()


def _require_fit(name: str, contents: Contents) -> None:
    """Refuse data that cannot stand side by side with others."""
    where = f"source multimodal: part '{name}'"
    plain = contents.kind in KINDS and contents.columns is None and contents.named_parts is None
    require(plain, f"{where} must be images, vectors, series or sound, which the {contents.kind} data there are not")
    require(
        contents.neighbours is None,
        f"{where} holds windows that overlap, which cannot be paired: set its stride to its window",
    )
    for part in contents.parts().values():
        require(not differs(part.x), f"{where} holds examples of different lengths: set its window, or use a log_mel")
        require(not part.reads_files, f"{where} stays in its files: parts are held in memory")
        own = part.target is None and part.covariates is None and part.concealed is None
        require(own, f"{where} has targets, covariates or hidden values of its own, which a part cannot have")


def _classes(name: str, part: Part) -> Tensor:
    known = part.label is not None and part.label.ndim == 1
    require(known, f"source multimodal: part '{name}' has no classes to be paired by: use pairing=rows")
    assert part.label is not None
    return part.label


def _beside(loaded: Mapping[str, Contents], own: Mapping[str, Part], rows: Tensor) -> Part:
    """The parts' rows side by side, with their labels, which must agree."""
    held = {name: _known(part) for name, part in own.items()}
    kinds = [loaded[name].kind for name in own]
    x = SideBySide([store for store, _ in held.values()], kinds, rows)
    observed = None
    if any(mask is not None for _, mask in held.values()):
        masks = [
            torch.ones(len(store), prod(store.shape[1:]), dtype=torch.bool) if mask is None else mask
            for store, mask in held.values()
        ]
        observed = torch.cat([mask[chosen] for mask, chosen in zip(masks, rows.unbind(1), strict=True)], 1)
    labels = {
        name: part.label[rows[:, place]] for place, (name, part) in enumerate(own.items()) if part.label is not None
    }
    for name, label in labels.items():
        first = next(iter(labels))
        require(
            torch.equal(label, labels[first]),
            f"source multimodal: the labels of part '{name}' are not those of part '{first}', row by row",
        )
    names = next((part.names for part in own.values() if part.names is not None), None) if len(own) else None
    place = next((place for place, part in enumerate(own.values()) if part.names is not None), 0)
    told = None if names is None else [names[row] for row in rows[:, place].tolist()]
    return Part(x, next(iter(labels.values()), None), observed, names=told)


def _known(part: Part) -> tuple[Store, Tensor | None]:
    """The examples with 0 where a value is missing, and bool `[N, D]` where it is not; None if none is."""
    observed = None if part.observed is None else part.observed.flatten(1)
    if not part.x.dtype.is_floating_point or not isinstance(part.x, Dense):
        return part.x, observed
    gaps = part.x.tensor.isnan()
    if not gaps.any():
        return part.x, observed
    known = ~gaps.flatten(1)
    return Dense(part.x.tensor.masked_fill(gaps, 0.0)), known if observed is None else known & observed


def _described(loaded: Mapping[str, Contents]) -> str:
    shapes = {name: "x".join(map(str, contents.train.x.shape[1:])) for name, contents in loaded.items()}
    return " with ".join(f"{name} ({contents.kind}, {shapes[name]})" for name, contents in loaded.items())
