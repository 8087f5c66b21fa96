"""The LSTM's second halves: free of the target, and autoregressive."""

from narrows.decoders.recurrent import AutoregressiveRecurrentDecoder, RecurrentDecoder


class LSTMDecoder(RecurrentDecoder):
    """The decoder of `RecurrentDecoder` with LSTM cells."""

    cell = "lstm"


class AutoregressiveLSTMDecoder(AutoregressiveRecurrentDecoder):
    """The decoder of `AutoregressiveRecurrentDecoder` with LSTM cells."""

    cell = "lstm"
