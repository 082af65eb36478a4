"""One configuration document: a TOML file under its overrides from the environment, read key by key."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from market.errors import UsageError

PREFIX = "MARKETD__"

T = TypeVar("T")
Table = dict[str, Any]


class _Text(str):
    """A value from the environment: a TOML value where it reads as one, else the text itself."""

    __slots__ = ()

    def readings(self) -> Iterator[Any]:
        with suppress(tomllib.TOMLDecodeError):
            parsed = tomllib.loads(f"value = {self}")
            if len(parsed) == 1:  # a text with line breaks could hold further keys
                yield parsed["value"]
        yield str(self)


@dataclass(slots=True)
class Document:
    """A parsed file; `problems` gathers everything refused in it, one sentence each."""

    name: str
    root: Table
    problems: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)  # key: the variable that set it

    @classmethod
    def read(cls, path: Path, env: Mapping[str, str]) -> Document:
        """Read a file and lay the environment (systemd credentials beneath it) over it; raise UsageError."""
        document = cls(str(path), _parse(path))
        for name, text in {**_credentials(env), **env}.items():
            if name.startswith(PREFIX):
                document._override(name, text)
        return document

    def refuse(self, key: str, reason: str) -> None:
        """Note what is wrong with a key, by the place where the user wrote it."""
        variable = self.variables.get(key)
        self.problems.append(f"{variable}: {reason}" if variable else f"{self.name}: {key}: {reason}")

    def from_file(self, key: str) -> bool:
        return key not in self.variables

    def raise_problems(self) -> None:
        if self.problems:
            raise UsageError("; ".join(dict.fromkeys(self.problems)))

    def known(self, key: str, table: Table, names: tuple[str, ...], absent: Mapping[str, str]) -> None:
        """Refuse every name of a table but `names`; `absent` gives some a reason of their own."""
        for name in sorted(table.keys() - set(names)):
            self.refuse(_join(key, name), absent.get(name, f"unknown key (known: {', '.join(names)})"))

    def table(self, key: str, value: object) -> Table:
        """Take a value as a table; an empty one, and a problem, if it is none."""
        table: Table = self.convert(key, value, Table, {})
        return table

    def section(self, key: str, value: object, kind: type[T]) -> T | None:
        """Read a table as the dataclass `kind`; None, and problems, where that cannot be."""
        before = len(self.problems)
        table = self.table(key, value)
        if len(self.problems) > before:
            return None
        types = get_type_hints(kind, include_extras=True)
        self.known(key, table, tuple(types), {})
        for name in sorted(_required(kind) - table.keys()):
            self.refuse(_join(key, name), "missing")
        values = {
            name: self.convert(_join(key, name), table[name], types[name], None)
            for name in types
            if name in table
        }
        return None if len(self.problems) > before else kind(**values)

    def convert(self, key: str, value: object, kind: Any, otherwise: Any) -> Any:
        """Check a value against a type; `otherwise`, and a problem, if it does not fit."""
        reasons: list[str] = []
        for reading in value.readings() if isinstance(value, _Text) else (value,):
            try:
                return msgspec.convert(reading, kind)
            except msgspec.ValidationError as error:
                reasons.append(_reason(str(error), kind))
        self.refuse(key, reasons[0])
        return otherwise

    def _override(self, name: str, text: str) -> None:
        *parents, last = name.removeprefix(PREFIX).lower().split("__")
        table, key = self.root, ""
        for part in parents:
            key = _join(key, part)
            if part not in table:
                self.variables[key] = name
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                self.problems.append(f"{name}: {key} is not a section")
                return
        self.variables[_join(key, last)] = name
        table[last] = _Text(text)


def _parse(path: Path) -> Table:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{path}: {error}") from error


def _credentials(env: Mapping[str, str]) -> dict[str, str]:
    """Read the overrides that systemd's LoadCredential= hands over as files of that name."""
    folder = env.get("CREDENTIALS_DIRECTORY")
    files = sorted(Path(folder).glob(PREFIX + "*")) if folder else []
    return {file.name: file.read_text(encoding="utf-8").strip() for file in files}


def _required(kind: Any) -> set[str]:
    return {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _reason(message: str, kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"expected one of {', '.join(get_args(kind))}"
    text = message.partition(" - at ")[0].replace("`", "").replace("object", "table")
    text = text.replace(" | null", "").replace("xpected bool", "xpected true or false")  # TOML's own words
    return text[:1].lower() + text[1:]
