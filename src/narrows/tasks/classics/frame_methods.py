"""The classic answers of video: PCA of single frames, and the frame before."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from narrows.random import derive
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.imputers import Imputer, Known, Matrix, mean
from narrows.tasks.classics.mean_pca_ridge import gather_training
from narrows.types import Shape


class FramePCA:
    """PCA of single frames, `[B, C, T, H, W]` rebuilt frame by frame, with as many components as leave a clip no more
    values than the model's latent has: the latent's number of values / T, at least 1. Fitted once per context."""

    def __init__(self, context: TaskContext, max_rows: int | None) -> None:
        self.shape = tuple(context.spec.shape)
        frames = _frames(torch.from_numpy(gather_training(context, max_rows).clean).reshape(-1, *self.shape))
        count = max(1, math.prod(context.model.latent_shape) // self.shape[1])
        components = min(count, *frames.shape)
        self.pca = PCA(n_components=components, random_state=derive(context.seed, "frame pca") % 2**32).fit(frames)

    @classmethod
    def of(cls, context: TaskContext, max_rows: int | None) -> FramePCA:
        """The fitted one of this context."""
        key = f"frame pca/{max_rows}"
        if key not in context.memo:
            context.memo[key] = cls(context, max_rows)
        found: FramePCA = context.memo[key]
        return found

    def guess(self, x: Tensor) -> Tensor:
        """`[B, C, T, H, W]` on the device of x."""
        channels, steps, height, width = self.shape
        rebuilt = self.pca.inverse_transform(self.pca.transform(_frames(x.cpu())))
        frames = torch.from_numpy(np.ascontiguousarray(rebuilt)).to(x)
        return frames.reshape(-1, steps, channels, height, width).transpose(1, 2)


def _frames(clips: Tensor) -> Matrix:
    """`[B, C, T, H, W]` as one row a frame, `[B T, C H W]`."""
    return clips.transpose(1, 2).flatten(0, 1).flatten(1).double().numpy()


def before(clips: Tensor) -> Tensor:
    """The frame before each of `[B, C, T, H, W]`, of the first the second; of clips of one frame the frame itself."""
    steps = clips.shape[2]
    order = [min(1, steps - 1), *range(steps - 1)]
    return clips[:, :, order]


def previous_frame(shape: Shape, known: Known, rows: Matrix) -> Matrix:
    """Every pixel of `[C, T, H, W]` as it last was known before; at the beginning as it first is, and where it never is
    the mean of the training rows."""
    channels, steps, height, width = shape
    filled = mean(known, rows).reshape(-1, channels, steps, height, width)
    found = rows.reshape(filled.shape).copy()
    for order in (range(1, steps), range(steps - 2, -1, -1)):
        for step in order:
            near = found[:, :, step - 1 if order.step > 0 else step + 1]
            found[:, :, step] = np.where(np.isnan(found[:, :, step]), near, found[:, :, step])
    return np.where(np.isnan(found), filled, found).reshape(rows.shape)


def video_imputers(shape: Shape) -> dict[str, Imputer]:
    """The imputers of clips `[C, T, H, W]`."""
    return {"previous_frame": partial(previous_frame, shape)}
