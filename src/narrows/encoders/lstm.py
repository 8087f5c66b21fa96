"""The LSTM's first half."""

from narrows.encoders.recurrent import RecurrentEncoder


class LSTMEncoder(RecurrentEncoder):
    """The encoder of `RecurrentEncoder` with LSTM cells.

    "Unsupervised Learning of Video Representations using LSTMs" (Srivastava et al., 2015),
    https://arxiv.org/abs/1502.04681.
    """

    cell = "lstm"
