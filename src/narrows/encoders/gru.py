"""The GRU's first half."""

from narrows.encoders.recurrent import RecurrentEncoder


class GRUEncoder(RecurrentEncoder):
    """The encoder of `RecurrentEncoder` with gated recurrent units, which have three quarters of an LSTM's weights.

    "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation" (Cho et al., 2014),
    https://arxiv.org/abs/1406.1078.
    """

    cell = "gru"
