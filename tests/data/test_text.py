"""Text: order, split, and what happens to files that are not text."""

import os
from pathlib import Path

import numpy as np
import pytest

from treadle.core import ConfigError, DataError
from treadle.data import ByteVocabulary, CharVocabulary, Windows, read_text, standard_library, vocabulary_from


def write(root: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def test_the_standard_library_is_there_and_ordered():
    files = standard_library()
    assert files == standard_library()
    assert any(path.name == "argparse.py" for path in files)
    assert not any("site-packages" in path.parts or "test" in path.parts for path in files)
    corpus = read_text(limit=100_000)
    assert 99_000 < len(corpus.data) <= 100_000
    corpus.data.decode()


def test_a_folder_is_read_in_order_of_its_paths(tmp_path: Path):
    write(tmp_path, b=b"two", c=b"", d=b"\xff\xfe", e=b"nul\0")
    write(tmp_path, **{"a/z": b"three", "a/y": b"four", "a/__pycache__/x": b"no", ".hidden": b"no"})
    corpus = read_text([tmp_path])
    assert [p.relative_to(tmp_path).as_posix() for p in corpus.files] == ["b", "a/y", "a/z"]
    assert corpus.data == b"two\nfour\nthree"
    assert [p.name for p in corpus.skipped] == ["d", "e"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"has no text\. Name files, or folders of files, that are not empty"),
        (b" \n\t", "has no text"),
        (b"ok \xff", r"is not UTF-8: byte 0xff at offset 3 \(invalid start byte\)\. Convert it first"),
        (b"a\0b", "holds NUL bytes: it is a binary file"),
    ],
)
def test_a_named_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes, message: str):
    write(tmp_path, x=data)
    with pytest.raises(DataError, match=message):
        read_text([tmp_path / "x"])


def test_a_missing_path_and_an_empty_folder_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere does not exist \(looked in .*\)\. Name a file or a folder"):
        read_text([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="has no text"):
        read_text([tmp_path])
    write(tmp_path, x=b"\xff")
    with pytest.raises(DataError, match=r"has no text \(1 files there are not UTF-8 text\)"):
        read_text([tmp_path])


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, x=b"text")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"cannot read .*x: Permission denied\. Check its permissions"):
        read_text([tmp_path / "x"])


def test_the_split_is_by_position_and_between_characters(tmp_path: Path):
    corpus = read_text([write(tmp_path, x="aäöüß".encode()) / "x"])
    train, val = corpus.split(0.2)
    assert (train + val).decode() == "aäöüß"
    assert train.decode() == "aäöü"
    with pytest.raises(DataError, match=r"share of 1\.5 leaves a part empty"):
        corpus.split(1.5)


def test_a_limit_does_not_cut_a_character(tmp_path: Path):
    write(tmp_path, x="aäö".encode())
    assert read_text([tmp_path / "x"], limit=4).data.decode() == "aä"


def test_bytes_round_trip():
    vocabulary = ByteVocabulary()
    assert vocabulary.encode("aä").tolist() == [97, 195, 164]
    assert vocabulary.decode([97, 195, 164, 195]) == "aä\ufffd"
    assert vocabulary_from(vocabulary.spec()) == vocabulary


def test_characters_round_trip_and_unknown_ones_are_named():
    vocabulary = CharVocabulary.of("banana 🌳")
    assert vocabulary.characters == " abn🌳"
    assert vocabulary.decode(vocabulary.encode("nab🌳")) == "nab🌳"
    assert vocabulary_from(vocabulary.spec()) == vocabulary
    with pytest.raises(DataError, match="character 'x' at position 2 is not in the vocabulary of 5 characters"):
        vocabulary.encode("baxn")
    with pytest.raises(ConfigError, match="must be different characters in order"):
        CharVocabulary("ba")
    with pytest.raises(ConfigError, match="Allowed kinds: bytes, chars"):
        vocabulary_from({"kind": "words"})


def test_windows_depend_on_seed_and_step_alone():
    tokens = np.arange(1000) % 251
    windows = Windows(tokens, context=16, batch_size=4, seed=3)
    x, y = windows.batch(7)
    assert x.shape == y.shape == (4, 16)
    assert x.dtype == np.int64
    assert (x[:, 1:] == y[:, :-1]).all()
    again = Windows(tokens, context=16, batch_size=4, seed=3)
    assert (again.batch(7)[0] == x).all()
    assert not (again.batch(8)[0] == x).all()
    assert not (Windows(tokens, context=16, batch_size=4, seed=4).batch(7)[0] == x).all()


def test_windows_reach_every_position():
    windows = Windows(np.arange(10), context=7, batch_size=64)
    x, y = windows.batch(0)
    assert set(x[:, 0].tolist()) == {0, 1, 2}
    assert y.max() == 9


def test_windows_refuse_a_text_that_is_too_short():
    with pytest.raises(DataError, match="has 8 tokens; a context of 8 needs at least 9"):
        Windows(np.zeros(8, np.uint8), context=8, batch_size=1)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        Windows(np.zeros(9, np.uint8), context=8, batch_size=0)


def test_paths_that_cannot_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((str(tmp_path / "pipe"), "is a pipe or a device"), ("", "a path is empty")):
        with pytest.raises(DataError, match=message):
            read_text([path])
    write(tmp_path, closed=b"text")

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=f"cannot read the folder {tmp_path}: Permission denied"):
        read_text([tmp_path])
