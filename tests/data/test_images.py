"""Data sets of images: IDX files, finding and checking files, pictures in folders, transforms."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from treadle.core import ConfigError, DataError, ShapeError
from treadle.data import ArrayDataset, DataLoader, ImageFolder, digits, fashion_mnist, random_split, read_idx
from treadle.data import transforms as T
from treadle.data.download import digest, files


def idx(array: np.ndarray, code: int) -> bytes:
    """Return the bytes of an IDX file."""
    head = bytes([0, 0, code, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize(("dtype", "code"), [("u1", 8), ("i1", 9), ("i2", 11), ("i4", 12), ("f4", 13), ("f8", 14)])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_of_every_dtype(tmp_path: Path, dtype: str, code: int, shape: tuple[int, ...], packed: bool) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = tmp_path / "a.idx"
    path.write_bytes(gzip.compress(idx(array, code)) if packed else idx(array, code))
    found = read_idx(path)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.dtype(dtype)


def test_damaged_idx_files_are_refused(tmp_path: Path) -> None:
    whole = idx(np.arange(20, dtype="u1"), 8)
    for name, data in {
        "short": whole[:-3],
        "long": whole + b"x",
        "text": b"hello there",
        "empty": b"",
        "rank cut": whole[:6],
        "gzip cut": gzip.compress(whole)[:-9],
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError, match="read_idx"):
            read_idx(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "none")


def write_fashion(folder: Path, count: int = 6) -> None:
    pixels = np.arange(count * 4).reshape(count, 2, 2).astype("u1")
    for name, data in {
        "t10k-images-idx3-ubyte.gz": idx(pixels, 8),
        "t10k-labels-idx1-ubyte.gz": idx(np.arange(count, dtype="u1"), 8),
    }.items():
        (folder / name).write_bytes(gzip.compress(data))


def test_files_are_found_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion(tmp_path)
    names = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    digests = {name: digest(tmp_path / name) for name in names}
    assert files("x", digests, root=tmp_path, urls=()) == {name: tmp_path / name for name in names}
    monkeypatch.setattr("treadle.data.images.FASHION_DIGESTS", digests)
    data = fashion_mnist("test", root=tmp_path)
    assert data.images.shape == (6, 1, 2, 2)
    assert data.images.dtype == np.float32
    assert data.images.max() == np.float32(23 / 255)
    assert data.labels.tolist() == list(range(6))
    assert data.classes[9] == "Ankle boot"
    with pytest.raises(DataError, match=r"is damaged: its digest is .* not 0"):
        files("x", dict.fromkeys(names, "0"), root=tmp_path, urls=())
    with pytest.raises(DataError, match="Give the folder that has them as root"):
        files("x", {"other": "0"}, root=tmp_path, urls=())
    with pytest.raises(ConfigError, match="Allowed: train, test"):
        fashion_mnist("valid", root=tmp_path)


def test_a_download_is_checked_kept_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, kept = tmp_path / "web", tmp_path / "kept"
    source.mkdir()
    (source / "a.bin").write_bytes(b"content")
    monkeypatch.setenv("TREADLE_DATA_DIR", str(kept))
    digests = {"a.bin": digest(source / "a.bin")}
    found = files("set", digests, root=None, urls=[(tmp_path / "no").as_uri(), source.as_uri()])
    assert found["a.bin"].read_bytes() == b"content"
    (source / "a.bin").unlink()
    assert files("set", digests, root=None, urls=[source.as_uri()]) == found
    with pytest.raises(DataError, match=r"no download worked: .*Put b\.bin into"):
        files("set", {"b.bin": "0"}, root=None, urls=[source.as_uri()])
    assert [p.name for p in (kept / "set").iterdir()] == ["a.bin"]


def test_digits_come_with_scikit_learn() -> None:
    data = digits()
    assert data.images.shape == (1797, 1, 8, 8)
    assert 0 <= data.images.min() <= data.images.max() <= 1
    assert sorted(set(data.labels.tolist())) == list(range(10))


def test_pictures_in_folders(tmp_path: Path) -> None:
    for name, colour in {"cat": (255, 0, 0), "ant": (0, 255, 0)}.items():
        (tmp_path / name).mkdir()
        Image.new("RGB", (6, 4), colour).save(tmp_path / name / "one.png")
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    data = ImageFolder(tmp_path)
    assert data.classes == ("ant", "cat")
    image, label = data[0]
    assert (image.shape, label) == ((3, 4, 6), 0)
    np.testing.assert_array_equal(image[:, 0, 0], [0, 1, 0])
    assert ImageFolder(tmp_path, size=(8, 5), channels=1)[1][0].shape == (1, 8, 5)
    batch, labels = next(iter(DataLoader(data, 2)))
    assert batch.shape == (2, 3, 4, 6)
    assert labels.tolist() == [0, 1]
    (tmp_path / "cat" / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match="cannot be read as a picture"):
        ImageFolder(tmp_path)[1]
    with pytest.raises(DataError, match="no pictures in"):
        ImageFolder(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="1 for grey, 3 for colours"):
        ImageFolder(tmp_path, channels=2)


IMAGES = np.random.default_rng(0).random((8, 3, 6, 5), np.float32)
RNG = np.random.default_rng(1)


def test_normalize() -> None:
    found = T.Normalize([0.1, 0.2, 0.3], [1, 2, 4])(IMAGES, RNG)
    expected = (IMAGES - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([1, 2, 4])[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="above 0"):
        T.Normalize(0, 0)
    with pytest.raises(ShapeError, match="2 numbers for 3 channels"):
        T.Normalize([1, 2], [1, 2])(IMAGES, RNG)


def test_flips_whole_images() -> None:
    found = T.RandomHorizontalFlip()(IMAGES, np.random.default_rng(3))
    turned = [bool((a == b[..., ::-1]).all()) for a, b in zip(found, IMAGES, strict=True)]
    kept = [bool((a == b).all()) for a, b in zip(found, IMAGES, strict=True)]
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert 0 < sum(turned) < 8


def test_crops_are_parts_of_the_padded_image() -> None:
    found = T.RandomCrop((6, 5), padding=2)(IMAGES, RNG)
    wide = T.Pad(2)(IMAGES, RNG)
    assert found.shape == IMAGES.shape
    for image, part in zip(wide, found, strict=True):
        assert any((image[:, i : i + 6, j : j + 5] == part).all() for i in range(5) for j in range(5))
    np.testing.assert_array_equal(T.CenterCrop((2, 3))(IMAGES, RNG), IMAGES[:, :, 2:4, 1:4])
    for crop in (T.RandomCrop(7), T.CenterCrop(7)):
        with pytest.raises(ShapeError, match="cannot be cut out of 6 x 5"):
            crop(IMAGES, RNG)
    with pytest.raises(ShapeError, match=r"is not \[N, C, H, W\]"):
        T.RandomCrop(2)(IMAGES[0], RNG)


def test_a_resumed_loader_sees_the_same_pictures() -> None:
    change = T.OnImages(T.Compose(T.RandomCrop(5, padding=1), T.RandomHorizontalFlip(), T.GaussianNoise(0.1)))

    def make() -> DataLoader:
        data = ArrayDataset(IMAGES, np.arange(8))
        return DataLoader(data, 3, shuffle=True, seed=4, transform=change, prefetch=2)

    first = make()
    whole = [x for _ in range(2) for x, _ in first]
    second = make()
    taken = iter(second)
    next(taken)
    state = second.state_dict()
    third = make()
    third.load_state_dict(state)
    rest = [x for _ in range(2) for x, _ in third]
    for a, b in zip(whole[1:], rest, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(whole[0], whole[3])


def test_random_split_is_disjoint_and_complete() -> None:
    data = ArrayDataset(np.arange(10), np.arange(10) * 2)
    a, b = random_split(data, [0.7, 0.3], seed=1)
    assert (len(a), len(b)) == (7, 3)
    assert sorted([*a.arrays[0], *b.arrays[0]]) == list(range(10))
    assert (a.arrays[1] == 2 * a.arrays[0]).all()
    parts = random_split([str(i) for i in range(10)], [4, 5, 1])
    assert sorted(part[i] for part in parts for i in range(len(part))) == [str(i) for i in range(10)]
    with pytest.raises(ConfigError, match="They must add up to 1, or to all 10"):
        random_split(data, [3, 3])
