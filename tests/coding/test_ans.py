"""The coder's laws: what goes in comes out, at the size that the tables promise, and bytes are integers' doing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from narrows.coding.ans_entropy_coder import TOTAL, Table, Whole, decode, encode, fit_table
from narrows.coding.nrwz_file import Header, pack, unpack
from narrows.errors import UserError

SOURCE = np.random.default_rng


def random_table(source: np.random.Generator, symbols: int) -> Table:
    """Frequencies from all but equal to all but certain."""
    weights = source.gamma(source.choice([0.02, 0.3, 5.0]), size=symbols) + 1e-12
    frequencies = 1 + np.floor((TOTAL - symbols) * weights / weights.sum()).astype(np.int64)
    frequencies[np.argmax(frequencies)] += TOTAL - frequencies.sum()
    return Table(int(source.integers(-1000, 1000)), tuple(frequencies.tolist()))


def cases() -> Iterator[tuple[list[Table], list[Whole]]]:
    for seed in range(40):
        source = SOURCE(seed)
        tables = [random_table(source, int(source.choice([2, 3, 17, 300]))) for _ in range(source.integers(1, 6))]
        yield tables, [values_for(table, source, int(source.integers(0, 400))) for table in tables]


def values_for(table: Table, source: np.random.Generator, count: int) -> Whole:
    """Mostly as the table expects, some at its edges, some far outside."""
    shares = np.asarray(table.frequencies[:-1], dtype=float)
    values = table.low + source.choice(len(shares), p=shares / shares.sum(), size=count)
    extremes = [table.low, table.low + table.escape - 1, table.low - 1, table.low + table.escape, -(2**62), 2**62, 0]
    places = source.random(count) < 0.1
    values[places] = source.choice(extremes, size=int(places.sum()))
    return values.astype(np.int64)


def test_what_goes_in_comes_out() -> None:
    for tables, streams in cases():
        code = encode(streams, tables)
        for found, sent in zip(decode(code, list(map(len, streams)), tables), streams, strict=True):
            assert found.dtype == np.int64
            np.testing.assert_array_equal(found, sent)


def test_the_code_is_as_long_as_the_tables_promise() -> None:
    for tables, streams in cases():
        bits = sum(table.bits(values).sum() for table, values in zip(tables, streams, strict=True))
        # A word of 32 bits at either end, and the length of what was escaped.
        assert 8 * len(encode(streams, tables)) == pytest.approx(bits, rel=0.01, abs=8 * 13)


def slow_code(symbols: list[int], frequencies: tuple[int, ...]) -> list[int]:
    """ANS in whole numbers of any size: words of 32 bits, a state of 64, frequencies of 2^24."""
    state, words = 0, []
    for symbol in reversed(symbols):
        share, before = frequencies[symbol], sum(frequencies[:symbol])
        if state >= share << 40:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // share << 24) + state % share + before
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return words


def test_the_bytes_are_those_of_a_coder_that_knows_whole_numbers_only() -> None:
    for seed in range(60):
        source = SOURCE(seed)
        table = random_table(source, int(source.choice([2, 5, 40, 1000])))
        symbols = source.integers(0, table.escape, size=60)
        words = slow_code(symbols.tolist(), table.frequencies)
        assert encode([symbols + table.low], [table]) == b"\0" + np.asarray(words, dtype="<u4").tobytes()


@pytest.mark.parametrize("sample", ["few", "many", "constant", "wide", "bounded"])
def test_a_fitted_table_costs_about_the_entropy_of_what_it_was_fitted_to(sample: str) -> None:
    source = SOURCE(0)
    values = {
        "few": source.integers(0, 3, 40),
        "many": np.rint(source.normal(0, 6, 20_000)).astype(np.int64),
        "constant": np.full(500, -7),
        "wide": np.append(source.integers(-5, 5, 5000), [-(2**40), 2**40]),
        "bounded": source.zipf(1.5, 20_000).clip(1, 511),
    }[sample].astype(np.int64)
    table = fit_table(values, 0, 511) if sample == "bounded" else fit_table(values)
    _, counts = np.unique(values, return_counts=True)
    entropy = float(-(counts * np.log2(counts / len(values))).sum())
    assert sum(table.frequencies) == TOTAL
    assert min(table.frequencies) >= 1
    assert entropy <= table.bits(values).sum() <= 1.01 * entropy + 120 + (150 if sample == "wide" else 0)


def test_a_value_never_seen_costs_more_than_any_that_was_and_still_comes_back() -> None:
    table = fit_table(np.array([3, 3, 3, 4, 4, 9]))
    seen, unseen = table.bits(np.array([3, 4, 9])), table.bits(np.array([5, 6, 100]))
    assert seen.max() < unseen.min()
    np.testing.assert_array_equal(decode(encode([np.array([100])], [table]), [1], [table])[0], [100])


@pytest.mark.parametrize("frequencies", [(TOTAL,), (0, TOTAL), (5, TOTAL), (-1, TOTAL + 1)])
def test_a_table_that_cannot_code_is_refused(frequencies: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="two or more frequencies"):
        Table(0, frequencies)


def test_an_empty_sample_has_no_table() -> None:
    with pytest.raises(UserError, match="nothing to fit"):
        fit_table(np.empty(0, dtype=np.int64))


def test_bytes_that_no_table_wrote_are_refused() -> None:
    table = fit_table(SOURCE(0).integers(0, 9, 100))
    code = encode([SOURCE(1).integers(0, 9, 100)], [table])
    for broken in (b"", b"\x09", code[:-1], b"\x80" * 12 + code, b"\x04abcd" + code[1:]):
        with pytest.raises(UserError, match=r"cut short|does not end"):
            decode(broken, [100], [table])


# ── the file ────────────────────────────────────────────────────────────────────────────────────────────


HEADER = Header(b"modelmod", b"tablesta", 0.25, 3, {"kind": "npy", "shape": [1, 2, 2], "dtype": "uint8"})


def test_a_header_and_a_code_come_back() -> None:
    for header in (HEADER, Header(b"m" * 8, b"t" * 8, None, 2**32 - 1, HEADER.layout)):
        assert unpack(pack(header, b"code"), "f") == (header, b"code")


def test_a_byte_flipped_anywhere_or_missing_anywhere_is_refused() -> None:
    whole = pack(HEADER, bytes(range(40)))
    for place in range(len(whole)):
        for broken in (
            whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
            whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :],
            whole[:place],
            whole[:place] + whole[place + 1 :],
        ):
            with pytest.raises(UserError, match=r"f (is cut short or damaged|was not written by narrows compress)"):
                unpack(broken, "f")
