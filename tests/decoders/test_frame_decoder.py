"""A decoder of frames over a recurrence that says nothing."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from narrows.decoders import ConvDecoder, FrameDecoder, GRUDecoder


def saturated(shortcut: bool) -> FrameDecoder:
    """Its states are 1 whatever z is, as those of a network that the first steps of training have driven there."""
    torch.manual_seed(0)
    frame = partial(ConvDecoder, channels=[6], activation="identity")
    time = partial(GRUDecoder, hidden=5)
    made = FrameDecoder((3,), (1, 4, 8, 8), time=time, frame=frame, features=4, shortcut=shortcut).double()
    with torch.no_grad():
        for name, values in made.time.named_parameters():
            if "readout" not in name:
                values.fill_(60.0 if "bias" in name else 0.0)
    return made


@pytest.mark.parametrize("shortcut", [False, True])
def test_z_reaches_every_frame_past_a_saturated_recurrence_by_the_shortcut_alone(shortcut: bool) -> None:
    decoder, z = saturated(shortcut), torch.randn(1, 3, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda latent: decoder(latent).flatten(3).squeeze((0, 1)))(z)
    reach = jacobian.flatten(1).abs().amax(1)
    assert reach.shape == (4,)
    if not shortcut:
        assert reach.max() < 1e-12
        return
    assert reach.min() > 1e-3
    # A map of its own for every frame, or all frames would be one.
    assert torch.linalg.matrix_rank(jacobian.flatten(1)) == 4
