"""Terms on the size of latents and weights, which a regularised autoencoder has in place of noise."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from narrows.errors import require
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import Output, at_least_single, row_sums


class LatentNorm(Term):
    """`1/2 |z|^2`, `[B]`: the latent's part of the negative log-density of N(0, I).

    "From Variational to Deterministic Autoencoders" (Ghosh et al., 2020, https://arxiv.org/abs/1903.12436), equation 9.

    Example:
        >>> batch = Batch(torch.zeros(1, 2))
        >>> latent = Latent(z=torch.ones(1, 4), point=torch.ones(1, 4))
        >>> out = Output(batch, batch, latent, p_x=None)
        >>> LatentNorm()(out, None)
        tensor([2.])
    """

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return 0.5 * row_sums(out.latent.z.square())


class DecoderNorm(Term):
    """`|theta|^2` over the decoder's weights and biases, a scalar: RAE-L2's explicit regulariser. The encoder
    gets no gradient, and a shared weight counts once.

    "From Variational to Deterministic Autoencoders" (Ghosh et al., 2020, https://arxiv.org/abs/1903.12436),
    section 3.1.

    Args:
        weight: of the term.
        parameters: `all`, or `kernels`: those of the decoder's convolutions, as the authors' code has it.

    Raises:
        UserError: another choice of parameters, a decoder without convolutions where their kernels are asked for, or a
            negative weight.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> DecoderNorm()(out, model).shape
        torch.Size([])
    """

    def __init__(self, weight: float | Schedule = 1.0, parameters: Literal["all", "kernels"] = "all") -> None:
        super().__init__(weight)
        known = parameters in ("all", "kernels")
        require(known, f"term decoder_norm: parameters must be all or kernels, not '{parameters}'")
        self.parameters_of: Literal["all", "kernels"] = parameters

    def attach(self, model: Autoencoder) -> None:
        require(
            bool(self._penalised(model.decoder)),
            f"term decoder_norm: {type(model.decoder).__name__} has no convolutions whose kernels could be penalised; "
            "use decoder=conv, or loss.decoder_norm.parameters=all",
        )

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return torch.stack([at_least_single(p).square().sum() for p in self._penalised(model.decoder)]).sum()

    def _penalised(self, decoder: nn.Module) -> list[Tensor]:
        if self.parameters_of == "all":
            return list(decoder.parameters())
        return [layer.weight for layer in decoder.modules() if isinstance(layer, nn.modules.conv._ConvNd)]
