"""The critic: the second player of adversarial terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as normalised

from narrows.encoders.mlp import MLPEncoder
from narrows.errors import require
from narrows.layers.stages import Encoder
from narrows.types import Shape, at_least_single


class Critic(nn.Module):
    """`D(x)`, one logit per example, `[B, *in_shape] -> [B]`: an encoder and a linear layer.

    Its loss is the cross-entropy of telling real from fake, in nats per example: at D = 0 it is log 2. With it the
    optimal D is `log p_real - log p_fake` ("Generative Adversarial Nets", Goodfellow et al., 2014,
    https://arxiv.org/abs/1406.2661, proposition 1), the density ratio that some terms read.

    Args:
        in_shape: of one example.
        encoder: `encoder(in_shape)`, any of the encoders of a model.
        spectral_norm: divide every weight by its largest singular value ("Spectral Normalization for Generative
            Adversarial Networks", Miyato et al., 2018, https://arxiv.org/abs/1802.05957).
        r1: gamma of `gamma / 2 |grad D(x)|^2` on real examples ("Which Training Methods for GANs do actually
            Converge?", Mescheder et al., 2018, https://arxiv.org/abs/1801.04406, equation 9); 0 leaves it out.
        lr: of its own parameter group; None takes the optimiser's.

    Raises:
        UserError: `r1` below 0, `lr` not above 0, or what the encoder refuses.

    Example:
        >>> Critic((4,))(torch.rand(3, 4)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        encoder: Callable[[Shape], Encoder] = MLPEncoder,
        spectral_norm: bool = False,
        r1: float = 0.0,
        lr: float | None = None,
    ) -> None:
        super().__init__()
        require(r1 >= 0, f"critic: r1 must be at least 0, not {r1}")
        require(lr is None or lr > 0, f"critic: lr must be above 0 or null, not {lr}")
        self.r1, self.lr = r1, lr
        self.encoder = encoder(tuple(in_shape))
        features = self.encoder.out_shape
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(features).numel(), 1))
        if spectral_norm:
            for layer in list(self.modules()):
                weight = getattr(layer, "weight", None)
                if isinstance(weight, nn.Parameter) and weight.ndim > 1:
                    normalised(layer)

    if TYPE_CHECKING:

        def __call__(self, x: Tensor) -> Tensor: ...

    def forward(self, x: Tensor) -> Tensor:
        return at_least_single(self.head(self.encoder(x)).squeeze(1))

    def features(self, x: Tensor) -> Tensor:
        """What the linear layer reads, `[B, F]`."""
        return at_least_single(self.encoder(x).flatten(1))

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Cross-entropy and gradient penalty, `[B]`; neither input gets a gradient."""
        real, fake = real.detach(), fake.detach()
        nats = 0.5 * (F.softplus(-self(real)) + F.softplus(self(fake)))
        return nats if self.r1 == 0 else nats + 0.5 * self.r1 * self._gradient_norm(real)

    def _gradient_norm(self, x: Tensor) -> Tensor:
        """`|grad D(x)|^2`, `[B]`; also inside `no_grad`."""
        training = torch.is_grad_enabled()
        # cuDNN's LSTM has no second derivative, and in evaluation none at all.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(x).sum(), x, create_graph=training)
        return gradient.flatten(1).square().sum(1)
