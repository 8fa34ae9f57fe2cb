"""Settings: their defaults, the environment, `with` blocks, and what is refused."""

from __future__ import annotations

import os
import re

import pytest

from treadle.core import Config, ConfigError, TreadleError, config, errors


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THREADS", "CPU", "CACHE_DIR", "CHECKS", "SHOW", "SPIN_US", "HOME"):
        monkeypatch.delenv(f"TREADLE_{name}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    fresh = Config()
    assert fresh.threads == len(os.sched_getaffinity(0))
    assert fresh.cpu == "native"
    assert fresh.cache_dir == "/somewhere/treadle"
    assert fresh.checks is False
    assert fresh.show == ""


def test_the_environment_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"THREADS": "3", "CPU": "avx2", "CHECKS": "1", "SPIN_US": "2.5", "CACHE_DIR": ""}.items():
        monkeypatch.setenv(f"TREADLE_{name}", value)
    fresh = Config()
    assert (fresh.threads, fresh.cpu, fresh.checks, fresh.spin_us, fresh.cache_dir) == (3, "avx2", True, 2.5, "")


def test_a_wrong_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_THREADS", "many")
    with pytest.raises(ConfigError, match="config: environment TREADLE_THREADS='many' is not usable"):
        _ = Config().threads


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("threads", 0, "threads=0 is not usable (a whole number from 1 to 1024). It sets threads a Plan runs on."),
        ("threads", 4096, "threads=4096 is not usable"),
        ("cpu", "z80", "cpu='z80' is not usable (one of native, avx2, avx512)"),
        ("checks", "maybe", "checks='maybe' is not usable (0 or 1)"),
        ("spin_us", -1, "spin_us=-1 is not usable (microseconds from 0 to 1000000)"),
        ("thread", 2, "config: there is no setting 'thread'. Allowed: threads, cpu, cache_dir, checks, show, spin_us."),
    ],
)
def test_wrong_settings(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        setattr(config, name, value)
    with pytest.raises(ConfigError, match=re.escape(message)), config(**{name: value}):
        pass


def test_a_with_block_restores() -> None:
    before = config.threads
    with config(threads=7, checks=True) as inside:
        assert inside.threads == config.threads == 7
    assert config.threads == before
    with pytest.raises(KeyError), config(threads=7):
        {}["an error inside"]
    assert config.threads == before
    with pytest.raises(ConfigError), config(threads=5, cpu="z80"):
        pass
    assert config.threads == before


def test_it_prints() -> None:
    assert re.fullmatch(r"config\(threads=\d+, cpu='\w+', .*\)", repr(config))


def test_every_error_is_of_the_tree_and_of_python() -> None:
    assert errors.__doc__ is not None
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, TreadleError) and error is not TreadleError:
            drawn = re.search(rf"{name} +\((\w+)\)", errors.__doc__)
            assert drawn is not None, f"{name} is not in the tree"
            assert issubclass(error, getattr(__import__("builtins"), drawn[1]))
