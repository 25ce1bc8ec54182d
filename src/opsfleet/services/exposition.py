"""Prometheus' text format, version 0.0.4: just the lines of a metric, found by its name.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-details. An answer is about 100 KB,
of which we need some fifty lines, so the lines of a metric are found as bytes without a look at the others, and their
labels are taken apart when they are asked for. All lines of a metric stand together, which the format demands.
"""

import re
from collections.abc import Mapping

_SHOWN = 60

# Quantifiers are possessive: a line that does not match is given up at once, however a server may have built it.
_AFTER_NAME = (
    rb"(?:[ \t]*+\{([^\n]*)\}[ \t]*+|[ \t]++)([0-9a-zA-Z+.\-]++)(?:[ \t]++-?\d++)?+[ \t]*+$"  # labels, value, moment
)
_SAMPLE = re.compile(rb"[a-zA-Z_:][\w:]*+" + _AFTER_NAME)
_ENDS = re.compile(rb"[^\w:]")
_LABEL = re.compile(rb'([a-zA-Z_]\w*+)[ \t]*+=[ \t]*+"([^"\\]*+(?:\\.[^"\\]*+)*+)"')
_LABELS = re.compile(rb"[ \t]*+(?:" + _LABEL.pattern + rb"[ \t]*+(?:,[ \t]*+|$))*+")
_ESCAPED = re.compile(rb"\\(.)")
_ESCAPES: Mapping[bytes, bytes] = {b"n": b"\n"}


class NotExpositionError(ValueError):
    """The answer is not in the text format; the message says where and why."""


class Metric:
    """The name of a metric, prepared for being looked for."""

    __slots__ = ("lines", "name", "start")

    def __init__(self, name: str) -> None:
        self.name = name
        self.start = f"\n{name}".encode()
        self.lines = re.compile(rb"^" + name.encode() + _AFTER_NAME, re.MULTILINE)


class Exposition:
    """One answer in the text format.

    Raises:
        NotExpositionError: when it is obviously something else: a page, an empty answer, half an answer.
    """

    def __init__(self, body: bytes) -> None:
        if not body.strip():
            raise NotExpositionError("not in Prometheus' text format: the answer is empty")
        self._lines = b"\n" + body
        first = body.partition(b"\n")[0]
        if first.strip() and not first.startswith(b"#") and not _SAMPLE.match(first):
            raise self._wrong(1)
        if not body.endswith(b"\n"):
            raise NotExpositionError("not in Prometheus' text format: the last line is cut off")

    def has(self, prefix: str) -> bool:
        """Say whether some line begins with `prefix`."""
        return f"\n{prefix}".encode() in self._lines

    def samples(self, metric: Metric) -> list[tuple[bytes, float]]:
        """Return the labels (as `labels` takes them) and the value of each line of the metric; it may be NaN.

        Raises:
            NotExpositionError: when one of the lines is wrong.
        """
        lines = self._lines
        start = self._find(metric, 0)
        if start < 0:
            return []
        end = lines.find(b"\n#", start + 1)
        if end < 0:
            end = len(lines)
        try:
            found = [(labels, float(value)) for labels, value in metric.lines.findall(lines, start, end)]
        except ValueError:
            found = []
        if len(found) != lines.count(metric.start, start, end):
            self._refuse_wrong(metric, start, end)
        return found

    def value(self, metric: Metric) -> float | None:
        """Return the value of a metric that has one line; None when it is not there.

        Raises:
            NotExpositionError: when the line is wrong.
        """
        found = self.samples(metric)
        return found[0][1] if found else None

    def labels(self, raw: bytes) -> dict[str, str]:
        """Return the labels of a line, their escapes resolved.

        Raises:
            NotExpositionError: when they are wrong.
        """
        if not _LABELS.fullmatch(raw):
            raise self._wrong(self._lines.count(b"\n", 0, self._lines.find(b"{" + raw + b"}")))
        return {name.decode(): _text(value) for name, value in _LABEL.findall(raw)}

    def _find(self, metric: Metric, start: int, end: int | None = None) -> int:
        """Return where the next line of the metric begins (at the line end before it); -1 when there is none."""
        position = self._lines.find(metric.start, start, end)
        while position >= 0 and not _ENDS.match(self._lines, position + len(metric.start)):
            position = self._lines.find(metric.start, position + 1, end)
        return position

    def _refuse_wrong(self, metric: Metric, start: int, end: int) -> None:
        position = self._find(metric, start, end)
        while position >= 0:
            match = metric.lines.match(self._lines, position + 1)
            if match is None or not _is_number(match[2]):
                raise self._wrong(self._lines.count(b"\n", 0, position + 1))
            position = self._find(metric, position + 1, end)

    def _wrong(self, number: int) -> NotExpositionError:
        line = self._lines.split(b"\n", number + 1)[number][: 4 * _SHOWN].decode("utf-8", "replace").strip()
        shown = "".join(sign if sign.isprintable() else " " for sign in line)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        return NotExpositionError(f"not in Prometheus' text format at line {number}: {shown}")


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _text(raw: bytes) -> str:
    if b"\\" in raw:
        raw = _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[1]), raw)
    return raw.decode("utf-8", "replace")
