"""Sentences of plain text."""

from __future__ import annotations

import re

_ABBREVIATED = """
mr mrs ms dr prof sr jr st mt rev hon gen col capt lt sgt sen rep gov pres supt messrs mme vs etc eg ie cf al ca no nos
vol fig pp approx dept est inc ltd co corp bros plc univ jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed
thu fri sat sun
"""
ABBREVIATIONS = frozenset(_ABBREVIATED.split())
"""Words whose full stop ends no sentence."""
_END = re.compile(r"[.!?]+[\"'\u201d\u2019)\]]*\s+")
_BREAK = re.compile(r"\n\s*\n")
_LAST_WORD = re.compile(r"[\w.]+$")


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without the space around them.

    One ends at a blank line, or at `.`, `!` or `?` and what closes quotes and brackets behind it, before space; but not

    - behind an abbreviation (`Mr.`), a single letter (`J. Smith`) or letters with dots (`e.g.`, `U.S.`),
    - behind a number, if what follows is no letter (`No. 7`, `3. 5`),
    - before a small letter, in a text that has capitals (`Yahoo! said`).

    A dot inside a word (`4.3%`, `bbc.co.uk`) is followed by no space. Text in small letters alone is split too.
    """
    cased = text != text.lower()
    return [found for block in _BREAK.split(text) for found in _of_block(" ".join(block.split()), cased)]


def _of_block(block: str, cased: bool) -> list[str]:
    found, start = [], 0
    for end in _END.finditer(block):
        if _ends(block[start : end.start()], end.group(), block[end.end() :], cased):
            found.append(block[start : end.end()].strip())
            start = end.end()
    return [part for part in (*found, block[start:].strip()) if part]


def _ends(before: str, mark: str, after: str, cased: bool) -> bool:
    first = after.lstrip("\"'\u201c\u2018([")[:1]
    if cased and first.islower():
        return False
    if mark.strip() != ".":
        return True
    last = _LAST_WORD.search(before)
    word = last.group() if last else ""
    abbreviated = word.lower() in ABBREVIATIONS or ("." in word.strip(".") and not any(map(str.isdigit, word)))
    if abbreviated or (len(word) == 1 and word.isalpha() and word.lower() != "i"):
        return False
    return not (word.isdigit() and len(word) < 3 and first.isdigit())


def word_number(sentence: str) -> int:
    """The number of words of a sentence, parted by space: the unit of lengths."""
    return len(sentence.split())
