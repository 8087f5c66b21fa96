"""The autoencoder whose decoder masks the spectrum of what it hears."""

from __future__ import annotations

from torch import Tensor

from narrows.errors import UserError, require
from narrows.inputs.spectrum import Spectrum
from narrows.models.autoencoder import Autoencoder
from narrows.models.initial_weights import Init
from narrows.models.stages import Stages
from narrows.types import Batch, DataSpec, Given, Shape


class MaskingAutoencoder(Autoencoder):
    """The mean of p(x|z) is the inverse short-time Fourier transform of the spectrum that the encoder was given,
    multiplied at every frequency and frame by a mask that the decoder writes.

    A mask of 1 gives back what was given, one of 0 silence, so that a network need not learn to write sound: it says
    where in the spectrum there is noise. The answer depends on z *and* on the input, whose phase it keeps: nothing can
    be sampled, and a latent alone is decoded to nothing. The stages are those of `Autoencoder`; the transform is that
    of `input=spectrum`, whose layout is that of the mask too.

    "On Training Targets for Supervised Speech Separation" (Wang et al., 2014,
    https://doi.org/10.1109/TASLP.2014.2352935), section III; trained by the error of the sound, as in "Phase-sensitive
    and recognition-boosted speech separation using deep recurrent neural networks" (Erdogan et al., 2015,
    https://doi.org/10.1109/ICASSP.2015.7178061).

    Args:
        spec: the description of the data, after `datamodule.setup()`.
        stages: builders of the stages.
        bounded: whether masks lie in [0, 1], as sigmoids of what the decoder writes; otherwise they are that itself.
        init: see `Autoencoder`.

    Raises:
        UserError: an input that is no spectrum, a likelihood with more than a mean for each value, or a decoder that is
            fed the truth; at use, a latent without the sound that it masks.

    Example:
        >>> from functools import partial
        >>> spec = DataSpec((1, 64), "audio", 10, rate=8000)
        >>> heard = partial(Spectrum, width=16, hop=8)
        >>> stages = Stages(MLPEncoder, Gaussian, MLPDecoder, GaussianLikelihood, NoCorruption, heard)
        >>> model = MaskingAutoencoder(spec, stages)
        >>> model(Batch(torch.randn(2, 1, 64))).p_x.mean.shape
        torch.Size([2, 1, 64])
    """

    needs_input = True
    input: Spectrum

    def __init__(self, spec: DataSpec, stages: Stages, *, bounded: bool = True, init: Init = "torch") -> None:
        decoder = getattr(stages.decoder, "func", stages.decoder)
        require(
            not getattr(decoder, "autoregressive", False),
            f"model masking cannot have decoder {decoder.__name__}, which is fed the steps before of what it writes, "
            "and masks have no truth; use decoder=conv",
        )
        super().__init__(spec, stages, init=init)
        self.bounded = bounded

    @property
    def written_shape(self) -> Shape:
        name = type(self.input).__name__
        require(isinstance(self.input, Spectrum), f"model masking masks what input=spectrum reads, and input is {name}")
        require(
            tuple(self.likelihood.out_shape) == tuple(self.spec.shape),
            f"model masking gives p(x|z) its mean alone, and likelihood {type(self.likelihood).__name__} needs "
            f"{list(self.likelihood.out_shape)} for data of shape {list(self.spec.shape)}; use "
            "likelihood=gaussian_optimal",
        )
        return tuple(self.input.out_shape)

    def mask(self, z: Tensor) -> Tensor:
        """The masks at `z [B, *latent_shape]`, `[B, C, F, K]`."""
        written = self.input.as_spectra(self.decoder(z))
        return written.sigmoid() if self.bounded else written

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x [B, C, T]` without what `mask [B, C, F, K]` takes away; a mask of 1 leaves all of it."""
        fourier = self.input.fourier
        return fourier.inverse(fourier(x) * mask, x.shape[-1])

    def _decoded(self, read: Tensor, given: Batch | Given | None) -> Tensor:
        heard = given.x if isinstance(given, Batch) else None if given is None else given.x_in
        if heard is None:
            raise UserError(
                "model masking answers with a part of the sound that it was given, which a latent alone does not hold: "
                "use reconstruct(x), or model=autoencoder"
            )
        return self.masked(heard, self.mask(read))
