"""The critic: the second player of adversarial terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as normalised

from narrows.distributed import sum_over_processes
from narrows.encoders.mlp import MLPEncoder
from narrows.errors import require
from narrows.layers.stages import AxisLinear, Encoder
from narrows.types import Shape, at_least_single

DECAY = 0.99
"""Weight of the past, in one step, in the running means of LeCam's penalty."""


class Critic(nn.Module):
    """`D(x)`, one logit per example, `[B, *in_shape] -> [B]`: an encoder and a linear layer. Of `patches` one logit at
    every position of the encoder's map, `[B, P]`, whose losses are averaged: it judges texture, not composition.

    Its loss is the cross-entropy of telling real from fake, in nats per example: at D = 0 it is log 2. With it the
    optimal D is `log p_real - log p_fake` ("Generative Adversarial Nets", Goodfellow et al., 2014,
    https://arxiv.org/abs/1406.2661, proposition 1), the density ratio that some terms read.

    Args:
        in_shape: of one example.
        encoder: `encoder(in_shape)`, any of the encoders of a model.
        patches: judge each position of a map: "Image-to-Image Translation with Conditional Adversarial Networks"
            (Isola et al., 2017, https://arxiv.org/abs/1611.07004), section 3.2.2.
        hinge: `(relu(1 - D(real)) + relu(1 + D(fake))) / 2` in the place of the cross-entropy, and -D(fake) for the
            model ("Geometric GAN", Lim and Ye, 2017, https://arxiv.org/abs/1705.02894); it has no unit.
        spectral_norm: divide every weight by its largest singular value ("Spectral Normalization for Generative
            Adversarial Networks", Miyato et al., 2018, https://arxiv.org/abs/1802.05957).
        r1: gamma of `gamma / 2 |grad D(x)|^2` on real examples ("Which Training Methods for GANs do actually
            Converge?", Mescheder et al., 2018, https://arxiv.org/abs/1801.04406, equation 9); 0 leaves it out.
        lecam: weight of `(D(real) - f)^2 + (D(fake) - r)^2`, where r and f are running means of D at real and at fake
            examples ("Regularizing Generative Adversarial Networks under Limited Data", Tseng et al., 2021,
            https://arxiv.org/abs/2104.03310, equation 4); 0 leaves it out.
        lr: of its own parameter group; None takes the optimiser's.

    Raises:
        UserError: `r1` or `lecam` below 0, `lr` not above 0, or what the encoder refuses.

    Example:
        >>> Critic((4,))(torch.rand(3, 4)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        encoder: Callable[[Shape], Encoder] = MLPEncoder,
        patches: bool = False,
        hinge: bool = False,
        spectral_norm: bool = False,
        r1: float = 0.0,
        lecam: float = 0.0,
        lr: float | None = None,
    ) -> None:
        super().__init__()
        require(r1 >= 0, f"critic: r1 must be at least 0, not {r1}")
        require(lecam >= 0, f"critic: lecam must be at least 0, not {lecam}")
        require(lr is None or lr > 0, f"critic: lr must be above 0 or null, not {lr}")
        self.patches, self.hinge = patches, hinge
        self.r1, self.lecam, self.lr = r1, lecam, lr
        self.encoder = encoder(tuple(in_shape))
        features = self.encoder.out_shape
        if patches:
            self.head = nn.Sequential(AxisLinear(features[0], 1))
        else:
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(features).numel(), 1))
        if lecam > 0:
            self.register_buffer("means", torch.zeros(2))
        if spectral_norm:
            for layer in list(self.modules()):
                weight = getattr(layer, "weight", None)
                if isinstance(weight, nn.Parameter) and weight.ndim > 1:
                    normalised(layer)

    means: Tensor
    """Running means of D at real and at fake examples, `[2]`."""

    if TYPE_CHECKING:

        def __call__(self, x: Tensor) -> Tensor: ...

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(self.encoder(x))
        return at_least_single(logits.flatten(1) if self.patches else logits.squeeze(1))

    def features(self, x: Tensor) -> Tensor:
        """What the linear layer reads, `[B, F]`."""
        return at_least_single(self.encoder(x).flatten(1))

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the critic minimises, penalties included, `[B]`; neither input gets a gradient."""
        real, fake = real.detach(), fake.detach()
        of_real, of_fake = self(real), self(fake)
        if self.hinge:
            loss = 0.5 * (F.relu(1 - of_real) + F.relu(1 + of_fake))
        else:
            loss = 0.5 * (F.softplus(-of_real) + F.softplus(of_fake))
        if self.lecam > 0:
            self._follow(of_real, of_fake)
            real_mean, fake_mean = self.means.clone()
            loss = loss + self.lecam * ((of_real - fake_mean).square() + (of_fake - real_mean).square())
        loss = _by_example(loss)
        return loss if self.r1 == 0 else loss + 0.5 * self.r1 * self._gradient_norm(real)

    def model_loss(self, fake: Tensor) -> Tensor:
        """What the model minimises so that its examples are taken for real, `[B]`."""
        logits = self(fake)
        return _by_example(-logits if self.hinge else F.softplus(-logits))

    @torch.no_grad()
    def _follow(self, of_real: Tensor, of_fake: Tensor) -> None:
        """Let the running means follow the logits of a training batch, of all processes alike."""
        if self.training and of_real.requires_grad:
            rows = torch.tensor(float(of_real.numel()), device=of_real.device)
            sums = sum_over_processes(torch.stack([of_real.sum(), of_fake.sum(), rows]))
            self.means.lerp_((sums[:2] / sums[2]).to(self.means), 1 - DECAY)

    def _gradient_norm(self, x: Tensor) -> Tensor:
        """`|grad D(x)|^2`, `[B]`; also inside `no_grad`."""
        training = torch.is_grad_enabled()
        # cuDNN's LSTM has no second derivative, and in evaluation none at all.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(x).sum(), x, create_graph=training)
        return gradient.flatten(1).square().sum(1)


def _by_example(values: Tensor) -> Tensor:
    """`[B]`: the mean over patches, where there are some."""
    return values if values.ndim == 1 else values.mean(1)
