"""The variational bottleneck on the unit sphere."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.bottlenecks._positions import AtPositions
from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.von_mises_fisher import HypersphericalUniform, VonMisesFisher
from narrows.errors import require
from narrows.layers.stages import AxisLinear
from narrows.types import ReparameterisedLatent, Shape, at_least_single


class Hyperspherical(Bottleneck):
    """`q(z|x) = vMF(mu(h), kappa(h))` on the unit sphere of R^dim, with a uniform prior; a map has a sphere at every
    position.

    The projection gives the natural parameter `kappa mu / dim`, which is E[z] while it is small: as of a Gaussian's
    mean, its gradient lives on where the posterior is all but uniform. (The paper's separate softplus for kappa has
    none there, and a posterior that once collapsed stayed so.) `point` is mu. The KL is in closed form and does not
    depend on mu. A sphere of `dim` entries has `dim - 1` degrees of freedom.

    "Hyperspherical Variational Auto-Encoders" (Davidson et al., 2018, https://arxiv.org/abs/1804.00891), section 3.

    Raises:
        UserError: `dim` below 2.

    Example:
        >>> latent = Hyperspherical((5,), dim=3)(torch.rand(3, 5))
        >>> latent.z.detach().norm(dim=1).round(decimals=4)
        tensor([1., 1., 1.])
    """

    returns = ReparameterisedLatent

    def __init__(self, in_shape: Shape, *, dim: int = 8) -> None:
        require(dim >= 2, f"bottleneck hyperspherical: dim must be at least 2, not {dim}")
        super().__init__(in_shape, dim)
        self.projection = AxisLinear(in_shape[0], dim)

    def forward(self, h: Tensor) -> ReparameterisedLatent:
        natural = at_least_single(self.projection(h)).movedim(1, -1)
        direction, concentration = F.normalize(natural, dim=-1), natural.shape[-1] * natural.norm(dim=-1)
        vmf, uniform = VonMisesFisher(direction, concentration), HypersphericalUniform(direction)
        posterior, prior = (AtPositions(vectors, h.ndim - 2) for vectors in (vmf, uniform))
        point = posterior.laid_out(direction)
        # An exported graph has no loop that rejects draws, and gives the point alone.
        z = point if torch.compiler.is_exporting() else posterior.rsample()
        return ReparameterisedLatent(z=z, point=point, posterior=posterior, prior=prior)

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from the uniform distribution, `[n, *out_shape]`, on this module's device."""
        return F.normalize(self.standard_normal(n), dim=1)
