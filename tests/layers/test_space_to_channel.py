"""Values that go past halvings and doublings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from narrows.decoders.resnet import ResNetDecoder
from narrows.encoders.resnet import ResNetEncoder
from narrows.errors import UserError
from narrows.layers import ChannelToSpace, SpaceToChannel


class Nothing(nn.Module):
    """A halving or doubling that adds nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(())


def test_each_channel_is_a_mean_of_its_group_of_values() -> None:
    x = torch.rand(2, 3, 4, 6)
    found = SpaceToChannel(Nothing(), 3, 6, (4, 6), "x")(x)
    assert found.shape == (2, 6, 2, 3)
    for row in range(2):
        for column in range(3):
            square = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            upper, lower = square[:, :, 0].mean(2), square[:, :, 1].mean(2)
            torch.testing.assert_close(found[:, ::2, row, column], upper)
            torch.testing.assert_close(found[:, 1::2, row, column], lower)


def test_the_way_back_undoes_the_way_there_where_nothing_is_averaged() -> None:
    x = torch.rand(2, 3, 4, 6)
    there = SpaceToChannel(Nothing(), 3, 12, (4, 6), "x")(x)
    torch.testing.assert_close(ChannelToSpace(Nothing(), 12, 3, (4, 6), "x")(there), x)
    flat = torch.ones(1, 4, 2, 2)
    torch.testing.assert_close(ChannelToSpace(Nothing(), 4, 2, (4, 4), "x")(flat), torch.ones(1, 2, 4, 4))


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match="encoder resnet: space_to_channel needs images whose sides halve evenly"):
        ResNetEncoder((1, 14, 14), channels=[4, 8, 16], space_to_channel=True)
    with pytest.raises(UserError, match="encoder resnet: space_to_channel needs images"):
        ResNetEncoder((1, 16), channels=[4, 8], space_to_channel=True)
    with pytest.raises(UserError, match="decoder resnet: channel_to_space needs four times"):
        ResNetDecoder((5,), (1, 8, 8), channels=[9, 4], channel_to_space=True)
