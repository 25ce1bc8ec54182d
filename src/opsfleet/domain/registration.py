"""What may be registered: untrusted objects become registrations and changes, or a list of what is wrong."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from opsfleet.domain.api_urls import MAX_URL, parse_api_url
from opsfleet.domain.errors import FieldError, InvalidError
from opsfleet.domain.servers import ServerKind, ServerStatus

MAX_NAME = 200
MAX_TEXT = 2_000
MAX_TOKEN = 4_096
MAX_TAGS = 100
MAX_TAG = 100
MAX_METADATA_DEPTH = 10
MAX_METADATA_VALUES = 1_000
MAX_CERTIFICATE = 256 * 1024
MAX_UNKNOWN = 20
"""So many unknown fields are named; the others are counted."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[\x21-\x7e]+")

Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Registration:
    """What a person says of a server when registering it. Only a node_exporter may be without a token."""

    name: str
    hostname: str
    api_url: str
    api_token: str | None = field(repr=False)
    kind: ServerKind = ServerKind.AGENT
    description: str = ""
    region: str | None = None
    environment: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    ca_certificate: str | None = None


class _Reader:
    """Takes fields out of an untrusted object and collects what is wrong with them."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.errors: list[FieldError] = []

    def wrong(self, name: str, message: str) -> None:
        self.errors.append(FieldError(name, message))

    def text(self, name: str, *, longest: int, required: bool = False, lines: bool = False) -> str | None:
        value = self.raw.get(name)
        if value is None:
            if required:
                self.wrong(name, "is required")
            return None
        if not isinstance(value, str):
            self.wrong(name, "must be text")
            return None
        value = value.strip()
        if required and not value:
            self.wrong(name, "must not be empty")
        elif len(value) > longest:
            self.wrong(name, f"must have at most {longest} characters")
        elif "\x00" in value or (not lines and _CONTROL.search(value)) or not _encodable(value):
            self.wrong(name, "must not contain control characters")
        return value

    def url(self, name: str) -> str | None:
        value = self.text(name, longest=MAX_URL, required=True)
        if value:
            try:
                parse_api_url(value)
            except ValueError as error:
                self.wrong(name, str(error))
        return value

    def token(self, name: str, *, required: bool = True) -> str | None:
        value = self.raw.get(name)
        if value is None:
            if required:
                self.wrong(name, "is required")
        elif not isinstance(value, str):
            self.wrong(name, "must be text")
        elif len(value) > MAX_TOKEN or not _TOKEN.fullmatch(value):
            self.wrong(name, f"must have 1 to {MAX_TOKEN} printable ASCII characters and no spaces")
        else:
            return value
        return None

    def tags(self, name: str) -> tuple[str, ...]:
        value = self.raw.get(name)
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            self.wrong(name, "must be a list of texts")
            return ()
        if len(value) > MAX_TAGS:
            self.wrong(name, f"must have at most {MAX_TAGS} tags")
            return ()
        tags: dict[str, None] = {}
        for position, tag in enumerate(value):
            if not isinstance(tag, str) or not tag.strip() or len(tag) > MAX_TAG or _CONTROL.search(tag):
                self.wrong(f"{name}.{position}", f"must be a text of 1 to {MAX_TAG} characters")
            elif not _encodable(tag):
                self.wrong(f"{name}.{position}", "must be valid Unicode")
            else:
                tags[tag.strip()] = None
        return tuple(tags)

    def metadata(self, name: str) -> Mapping[str, Any]:
        value = self.raw.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(name, "must be an object")
            return {}
        problem = _metadata_problem(value)
        if problem:
            self.wrong(name, problem)
        return value

    def choice(self, name: str, accepted: type[Choice]) -> Choice | None:
        value = self.raw.get(name)
        words = [str(member.value) for member in accepted]
        if value not in words:
            self.wrong(name, f"must be one of {', '.join(words)}")
            return None
        return accepted(value)

    def wants_token(self) -> bool:
        """Whether a server of the kind that is named cannot do without a token."""
        return self.raw.get("kind") != ServerKind.NODE_EXPORTER


_FIELDS: dict[str, Callable[[_Reader], Any]] = {
    "name": lambda reader: reader.text("name", longest=MAX_NAME, required=True),
    "hostname": lambda reader: reader.text("hostname", longest=253, required=True),
    "api_url": lambda reader: reader.url("api_url"),
    "api_token": lambda reader: reader.token("api_token", required=reader.wants_token()),
    "kind": lambda reader: reader.choice("kind", ServerKind),
    "description": lambda reader: reader.text("description", longest=MAX_TEXT, lines=True) or "",
    "region": lambda reader: reader.text("region", longest=MAX_NAME) or None,
    "environment": lambda reader: reader.text("environment", longest=MAX_NAME) or None,
    "tags": lambda reader: reader.tags("tags"),
    "metadata": lambda reader: reader.metadata("metadata"),
    "ca_certificate": lambda reader: reader.text("ca_certificate", longest=MAX_CERTIFICATE, lines=True) or None,
}


def registration_of(raw: object) -> Registration:
    """Return the registration that an untrusted object describes.

    Raises:
        InvalidError: naming every wrong, missing or unknown field.
    """
    reader = _reader(raw, _FIELDS)
    values = {
        name: read(reader) for name, read in _FIELDS.items() if name != "kind" or reader.raw.get(name) is not None
    }
    if reader.errors:
        raise InvalidError(reader.errors)
    return Registration(**values)


def change_of(raw: object) -> dict[str, Any]:
    """Return the changed fields of a server that an untrusted object describes: any subset, plus `status`.

    Raises:
        InvalidError: naming every wrong or unknown field, and those that cannot be null.
    """
    fields = {name: read for name, read in _FIELDS.items() if name != "api_token"}
    fields["status"] = lambda reader: reader.choice("status", ServerStatus)
    reader = _reader(raw, fields)
    values = {name: read(reader) for name, read in fields.items() if name in reader.raw}
    if reader.errors:
        raise InvalidError(reader.errors)
    return values


def token_of(raw: object) -> str:
    """Return the `api_token` of an untrusted object that holds nothing else.

    Raises:
        InvalidError: when it is missing or wrong.
    """
    reader = _reader(raw, {"api_token": None})
    token = reader.token("api_token")
    if reader.errors or token is None:
        raise InvalidError(reader.errors)
    return token


def _reader(raw: object, known: Mapping[str, object]) -> _Reader:
    if not isinstance(raw, Mapping):
        raise InvalidError([FieldError("", "must be an object")])
    reader = _Reader(raw)
    unknown = [name for name in raw if name not in known]
    for name in unknown[:MAX_UNKNOWN]:
        reader.wrong(str(name)[:100], f"is not a field of a server; known are {', '.join(known)}")
    if len(unknown) > MAX_UNKNOWN:
        reader.wrong(str(unknown[MAX_UNKNOWN])[:100], f"is not a field of a server either; {len(unknown)} are unknown")
    return reader


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _metadata_problem(value: Any) -> str | None:
    left = MAX_METADATA_VALUES
    level: list[Any] = [value]
    for _ in range(MAX_METADATA_DEPTH):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                texts = [*item.keys(), *(inner for inner in item.values() if isinstance(inner, str))]
                deeper.extend(item.values())
            elif isinstance(item, list):
                texts = [inner for inner in item if isinstance(inner, str)]
                deeper.extend(item)
            else:
                continue
            if any(not isinstance(text, str) or "\x00" in text or not _encodable(text) for text in texts):
                return "must hold valid Unicode without null characters"
            if any(len(text) > MAX_TEXT for text in texts):
                return f"must hold texts of at most {MAX_TEXT} characters"
        left -= len(deeper)
        if left < 0:
            return f"must hold at most {MAX_METADATA_VALUES} values"
        if not deeper:
            return None
        level = deeper
    return f"must be nested at most {MAX_METADATA_DEPTH} deep"
