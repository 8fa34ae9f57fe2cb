"""The few switches of treadle: one record, set in code, by `with config(...)`, or as `TREADLE_<NAME>` outside."""

import difflib
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ConfigError

CPUS = ("native", "avx2", "avx512")


def _threads(text: str | int) -> int:
    value = int(text)
    if not 1 <= value <= 1024:
        raise ValueError("a whole number from 1 to 1024")
    return value


def _cpu(text: str) -> str:
    if text not in CPUS:
        raise ValueError(f"one of {', '.join(CPUS)}")
    return text


def _flag(text: str | bool) -> bool:
    if str(text).lower() in ("1", "true", "yes", "on"):
        return True
    if str(text).lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("0 or 1")


def _spin(text: str | float) -> float:
    value = float(text)
    if not 0 <= value <= 1e6:
        raise ValueError("microseconds from 0 to 1000000")
    return value


def _default_cache_dir() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(base) / "treadle")


# name -> (parser that raises ValueError saying what is allowed, default maker, what it is)
SETTINGS: dict[str, tuple[Callable[[Any], Any], Callable[[], Any], str]] = {
    "threads": (_threads, lambda: len(os.sched_getaffinity(0)), "threads a Plan runs on"),
    "cpu": (_cpu, lambda: "native", "instruction set: native, or avx2/avx512 to force one"),
    "cache_dir": (str, _default_cache_dir, "folder of compiled object code; empty for none"),
    "checks": (_flag, lambda: False, "verify every graph between passes, every schedule and every module"),
    "show": (str, lambda: "", "passes to print before and after, by name, comma separated"),
    "spin_us": (_spin, lambda: 50.0, "microseconds a waiting thread spins before it sleeps"),
}


PREFIX = "TREADLE_"
OTHERS = ("EXAMPLE",)  # names in the environment that are no settings: it makes the examples small


class Config:
    """The settings in force; read and set as attributes, or `with config(threads=1): ...` for a while.

    The environment is read when a setting is first asked for: a mistake in it is an error of what needs the setting,
    and `import treadle` works.
    """

    threads: int
    cpu: str
    cache_dir: str
    checks: bool
    show: str
    spin_us: float

    def __getattr__(self, name: str) -> Any:
        """Read all settings from the environment; called only while they are not known."""
        if name not in SETTINGS:
            raise AttributeError(f"config: there is no setting {name!r}. Allowed: {', '.join(SETTINGS)}.")
        self._read_environment()
        return self.__dict__[name]

    def _read_environment(self) -> None:
        known = [f"{PREFIX}{name.upper()}" for name in (*SETTINGS, *OTHERS)]
        for variable in os.environ:
            if variable.startswith(PREFIX) and variable not in known:
                near = difflib.get_close_matches(variable, known, 1)
                raise ConfigError(
                    f"config: environment {variable} is no setting. Allowed: {', '.join(known)}. "
                    + (f"Did you mean {near[0]}?" if near else "Unset it.")
                )
        for name, (_, default, _doc) in SETTINGS.items():
            if name in self.__dict__:  # set by hand before
                continue
            given = os.environ.get(f"{PREFIX}{name.upper()}")
            if given is None:
                object.__setattr__(self, name, default())
            else:
                self._set(name, given, f"environment {PREFIX}{name.upper()}")

    def _set(self, name: str, value: object, where: str) -> None:
        if name not in SETTINGS:
            raise ConfigError(f"config: there is no setting {name!r}. Allowed: {', '.join(SETTINGS)}.")
        try:
            parsed = SETTINGS[name][0](value)
        except (ValueError, TypeError) as error:
            what = SETTINGS[name][2]
            raise ConfigError(f"config: {where}={value!r} is not usable ({error}). It sets {what}.") from None
        object.__setattr__(self, name, parsed)

    def __setattr__(self, name: str, value: object) -> None:
        self._set(name, value, name)

    @contextmanager
    def __call__(self, **settings: object) -> Generator["Config"]:
        """Use other settings inside a `with` block."""
        before = {name: getattr(self, name) if name in SETTINGS else None for name in settings}
        try:
            for name, value in settings.items():
                self._set(name, value, name)
            yield self
        finally:
            for name, value in before.items():
                if value is not None:
                    object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return "config(" + ", ".join(f"{name}={getattr(self, name)!r}" for name in SETTINGS) + ")"


config = Config()
