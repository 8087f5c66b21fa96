"""The only datamodule: it loads a source, checks and splits its data, and serves them as batches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch import LightningDataModule

from narrows.data import (
    array_scaling,
    counted,
    duplicates,
    feature_splits,
    part_scaling,
    signal_scaling,
    tokenised,
    trained_on,
)
from narrows.data.array_reading import describe_contents
from narrows.data.array_scaling import ArrayScaling, Binarise
from narrows.data.augmentation import Augmentation, augmented
from narrows.data.batch_loader import Loader
from narrows.data.batch_plans import Ordered, Process, Shuffled
from narrows.data.checks import check, count_classes, count_values, fingerprint, name_factors
from narrows.data.contents import Contents, Part, Scaling, Source
from narrows.data.features import Features
from narrows.data.loading_options import Loading as Loading
from narrows.data.splits import HOLD_OUT, Plan, Split, divide
from narrows.data.stores import differs
from narrows.errors import OWN_CLASSES, UserError, nearest, require
from narrows.types import COUNTED, DataSpec

if TYPE_CHECKING:
    from narrows.data.signal_scaling import SignalScaling
    from narrows.data.table_scaling_and_encoding import Encoding
    from narrows.data.time_order import Timeline
    from narrows.data.tokenisers import Tokeniser
    from narrows.data.vocabulary import Vocabulary

SplitName = Literal["train", "validation", "test"]
CPU = torch.device("cpu")
SIZES, BATCHES = (128, 64, 32), 20
"""The sizes of a batch that is left to the data: the largest of which an epoch has so many."""


class DataModule(LightningDataModule):
    """Serves `Batch`es of a source's train, validation and test splits. The batches are bitwise the same for any number
    of processes, loader workers and restarts.

    Args:
        source: loads the examples; see `narrows.data`.
        batch_size: of the global batch: process r of w serves its rows r, r + w, ... `auto`: 128, or less of few.
        validation: fraction or number of the development rows; `official` for the source's own validation split
            (which a fraction or folds pool with the training rows); `auto` for that, or else a tenth.
        folds: number of parts into which the development rows are cut; part `fold` validates, and `validation` is
            ignored. The test split stays as it is.
        split_seed: of splits and of static binarisation; it is separate from the run's seed, so that runs with
            different seeds are judged on the same rows.
        binarise: `static` draws grey values in [0, 1] once as Bernoulli probabilities; `dynamic` anew in
            every training batch, held-out splits once, as `static` does ("On the quantitative analysis of
            deep belief networks", Salakhutdinov and Murray, 2008).
        features: makes features of pictures, which are then the data in their place, such as
            `narrows.layers.FeatureMap`; `part(split).x` keeps the pictures.
        augment: how training pictures change from epoch to epoch, with their targets and masks; no other loader's do.

    Raises:
        UserError: settings that do not exist or do not fit the data; data that `checks.check` refuses.
    """

    spec: DataSpec

    def __init__(
        self,
        source: Source,
        batch_size: int | Literal["auto"] = 128,
        validation: float | Literal["official", "auto"] = 0.1,
        folds: int | None = None,
        fold: int = 0,
        split_seed: int = 0,
        binarise: Binarise = "none",
        loading: Loading | None = None,
        features: Features | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__()
        choices = ("none", "static", "dynamic")
        require(binarise in choices, f"unknown binarise={binarise!r}: {nearest(str(binarise), choices)}")
        right = batch_size == "auto" or (isinstance(batch_size, int) and batch_size >= 1)
        require(right, f"batch_size={batch_size} must be at least 1, or auto")
        self.source = source
        self._batch_size = batch_size
        self.plan = Plan(validation, folds, fold, split_seed)
        require(
            callable(getattr(source, "load", None)),
            f"datamodule.source: {type(source).__name__} has no load(), which is called without arguments and returns "
            f"the narrows.data.Contents of the data; {OWN_CLASSES}",
        )
        self.binarise = binarise
        self.loading = loading or Loading()
        self.features = features
        self.augment = augment
        self.encoding: Encoding | None = None
        """The encoding of a table, which `setup` fits on its training rows and new rows must go through; else None."""
        self.vocabulary: Vocabulary | None = None
        """The words of documents, which `setup` chooses by training rows and new texts are counted by; else None."""
        self.tokeniser: Tokeniser | None = None
        """What turned texts into the tokens that `setup` serves, and must read new texts; None of other data."""
        self.scaling: ArrayScaling | None = None
        """How arrays were standardised, as new ones must be; None of data that were not, and of tables and signals."""
        self.signals: SignalScaling | None = None
        """How windows of signals were scaled and cut, which new readings must be too; else None."""
        self.timeline: Timeline | None = None
        """Where the windows of each split lie in their series; None of data that are no windows of signals."""
        self.reading: list[str] = []
        """Lines that say how the source read its files and what the splits hold, for people; `setup` fills them."""
        self._splits: dict[str, Split] | None = None

    @property
    def batch_size(self) -> int:
        """The number of examples in a global batch; where it was left to the data, after `setup`."""
        if isinstance(self._batch_size, int):
            return self._batch_size
        return next((size for size in SIZES if self.spec.size >= BATCHES * size), SIZES[-1])

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the data, once for all stages."""
        if self._splits is not None:
            return
        contents = self.source.load()
        require(
            isinstance(contents, Contents),
            f"datamodule.source: load() of {type(self.source).__name__} returns {type(contents).__name__}, where "
            f"narrows.data.Contents are due; {OWN_CLASSES}",
        )
        self.reading = list(contents.reading) or [describe_contents(contents)]
        contents = counted.held_sparse(contents)
        array_scaling.require_memory(contents, self.binarise)
        check(contents)
        print_of_content = fingerprint(contents)
        splits, names = divide(contents, self.plan), contents.feature_names
        contents, splits = tokenised.prepare(contents, splits, self.reading)
        if contents.kind in COUNTED:
            splits, names = counted.prepare(contents, splits, self.reading)
            self.vocabulary = counted.vocabulary(contents, names)
        self.reading.append(duplicates.describe(splits))
        splits = counted.fold_in(contents, splits, self.plan.seed)
        if contents.timeline is not None:
            official = self.plan.is_official(contents)
            held_out = contents.test is not None
            self.timeline = signal_scaling.place(contents.timeline, splits, held_out=held_out, official=official)
        if contents.timeline is not None and contents.kind != "audio":
            assert self.timeline is not None
            splits, self.signals = signal_scaling.standardise(contents, splits, self.timeline)
        elif contents.named_parts is not None:
            hows = contents.standardise_parts or []
            splits, self.scaling = part_scaling.standardise(splits, contents.named_parts, hows)
        elif contents.columns is None:
            splits, self.scaling = array_scaling.standardise(splits, contents.standardise, names)
        else:
            # Only tables need pandas, which is slow to import.
            from narrows.data.table_scaling_and_encoding import encode

            self.encoding, splits = encode(
                contents.columns, splits, contents.scaling or Scaling(), contents.label_column
            )
        splits = array_scaling.hold(splits)
        self.tokeniser = contents.tokeniser
        self.spec = self._describe(replace(contents, feature_names=names), splits, print_of_content)
        require(
            self.loading.by_length is not True or self.spec.variable,
            "loading.by_length=true puts near-equal lengths together, but these examples all have one length: set auto",
        )
        if self.augment is not None:
            self.augment.check(self.spec, self.binarise)
        if self.features is not None:
            self.spec = feature_splits.describe(self.spec, self.features, self.binarise)
            splits = feature_splits.viewed(splits, self.features)
        self._splits = array_scaling.binarised(splits, self.binarise, self.spec.value_range, self.plan.seed)

    def _describe(self, contents: Contents, splits: dict[str, Split], content: str) -> DataSpec:
        stores = [split.part.x for split in splits.values()]
        tokeniser = contents.tokeniser
        return DataSpec(
            shape=(*stores[0].shape[1:-1], max(store.shape[-1] for store in stores)),
            kind=contents.kind,
            size=len(splits["train"]),
            num_classes=count_classes(contents),
            covariates=contents.covariate_names,
            feature_names=contents.feature_names if self.encoding is None else self.encoding.feature_names,
            columns=None if self.encoding is None else self.encoding.layout,
            factor_names=name_factors(contents),
            factor_sizes=count_values(contents),
            value_range=array_scaling.value_range(splits),
            totals=counted.totals(splits["train"]) if contents.kind in COUNTED else None,
            fingerprint=content,
            trained_labels=None if contents.train_labels is None else [int(label) for label in contents.train_labels],
            class_names=contents.class_names,
            rate=contents.rate,
            parts=None if contents.named_parts is None else part_scaling.with_ranges(contents.named_parts, splits),
            variable=differs(stores[0]),
            vocabulary=None if tokeniser is None else list(tokeniser.vocabulary),
            end=None if tokeniser is None else tokeniser.end,
        )

    # What Lightning asks for.

    def train_dataloader(self) -> Loader:
        """The shuffled batches of the current epoch."""
        split, process = self._split("train"), self._process()
        plan = Shuffled(
            size=len(split),
            batch_size=self.batch_size,
            seed=self.loading.seed,
            process=process,
            processed=self._processed,
            limit=self._limit,
            # `overfit_batches` serves the same few batches in every epoch.
            shuffle=not getattr(self.trainer, "overfit_batches", 0),
            lengths=split.part.x.lengths(slice(None)) if self._sorts else None,
        )
        seed = self.loading.seed if self.binarise == "dynamic" else None
        augment = augmented(split.part, self.augment, self.loading.seed)
        # Features that are held are those of pictures as they are.
        split = split if augment is None else replace(split, held=None)
        return self._loader(split, plan, process, binarise_seed=seed, augment=augment, persistent=True)

    def val_dataloader(self) -> Loader:
        """The validation split, in order, shared out among the processes."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> Loader:
        """The test split, in order, shared out among the processes."""
        return self._evaluation_loader("test")

    # Whole splits, for tasks.

    def has(self, split: SplitName) -> bool:
        """Whether these data have such a split; a source may hold no test rows out."""
        self.setup()
        assert self._splits is not None
        return split in self._splits

    def revealed_loader(self, split: SplitName) -> Loader:
        """As `ordered_loader`, with the values that were hidden on purpose, by which imputation is judged."""
        return self.ordered_loader(split, revealed=True)

    def ordered_loader(self, split: SplitName, *, revealed: bool = False) -> Loader:
        """The whole split in order, for this process alone; dynamic binarisation gives one fixed draw."""
        chosen = self._split(split)
        if self.binarise == "dynamic" and split == "train":
            chosen = _on(array_scaling.draw(_on(chosen, CPU), self.plan.seed, split), self._device())
        plan = Ordered(len(chosen), self.loading.rows_at_once(self.spec))
        return self._loader(chosen, plan, Process(), revealed=revealed)

    def part(self, split: SplitName) -> Part:
        """The examples of a split as they are held: counts as sparse rows (`part.x.matrix`), with names and labels."""
        return self._split(split).part

    @property
    def seen(self) -> feature_splits.Seen | None:
        """What new pictures need to be seen as these were, where the data are features of pictures."""
        self.setup()
        assert self._splits is not None
        return feature_splits.seen(self._splits)

    @property
    def reads_files(self) -> bool:
        """Whether examples stay in their files; gathering many rows of them then takes much memory."""
        self.setup()
        assert self._splits is not None
        return any(split.part.reads_files for split in self._splits.values())

    def state_dict(self) -> dict[str, Any]:
        """What a position in the epoch refers to; see `trained_on`."""
        if self._splits is None:
            return {}
        return trained_on.batches(self.spec, self.batch_size, self._sorts, self._process().world)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse a checkpoint that was trained on other batches.

        Raises:
            UserError: another batch size, other training rows, other data.
        """
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self.require_state(state_dict, self._process().world)

    def require_state(self, state_dict: dict[str, Any], world: int = 1) -> None:
        """Refuse the state of a checkpoint that was trained on other batches than those of `world` processes."""
        trained_on.require_same(state_dict, trained_on.batches(self.spec, self.batch_size, self._sorts, world), world)

    def _evaluation_loader(self, name: SplitName) -> Loader:
        split, process = self._split(name), self._process()
        plan = Ordered(len(split), self.loading.rows_at_once(self.spec), process)
        return self._loader(split, plan, process, persistent=True)

    def _loader(self, split: Split, plan: Shuffled | Ordered, process: Process, **options: Any) -> Loader:
        workers = self.loading.num_workers
        return Loader(split, plan, process, device=self._device(), num_workers=workers, **options)

    def _split(self, name: str) -> Split:
        self.setup()
        assert self._splits is not None
        if name not in self._splits:
            raise UserError(
                f"these data have no {name} split: {nearest(name, self._splits)}; a source without an official "
                f"test split takes a fraction for it, {HOLD_OUT}"
            )
        device = self._device()
        self._splits[name] = feature_splits.computed(_on(self._splits[name], device), device)
        return self._splits[name]

    @property
    def _sorts(self) -> bool:
        return self.spec.variable and self.loading.by_length is not False

    def _device(self) -> torch.device:
        if self.trainer is None or self.loading.device == "cpu":
            return CPU
        root = self.trainer.strategy.root_device
        return root if root.type == "cuda" else CPU

    def _process(self) -> Process:
        if self.trainer is None:
            return Process()
        return Process(self.trainer.global_rank, self.trainer.world_size)

    def _processed(self) -> int:
        """The number of training batches already processed, which Lightning restores before it asks for the loader."""
        if self.trainer is None:
            return 0
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return progress.processed

    def _limit(self, batches: int) -> int:
        limit = 1.0 if self.trainer is None else self.trainer.limit_train_batches
        return int(batches * limit) if isinstance(limit, float) else min(batches, limit)


def _on(split: Split, device: torch.device) -> Split:
    """The split on `device`; examples that are read from files stay in them."""
    part = split.part
    if part.reads_files or all(store.device == device for store in part.stores):
        return split
    return replace(split, part=part.to(device), rows=split.rows.to(device))
