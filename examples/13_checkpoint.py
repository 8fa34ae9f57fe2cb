"""Stop and go on: weights, optimiser state and place in the data in files, and the same bits as without the stop."""

import json
import tempfile
from pathlib import Path

import numpy as np

import treadle as td
from treadle import data, nn, optim

rng = np.random.default_rng(0)
inputs = rng.standard_normal((64, 6)).astype(np.float32)
rows = data.ArrayDataset(inputs, (inputs[:, :2].sum(axis=1) > 0).astype(np.int64))


class Training:
    """Everything that changes while training."""

    def __init__(self) -> None:
        td.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))
        self.opt = optim.AdamW(self.model.parameters(), lr=1e-2)
        self.loader = data.DataLoader(rows, batch_size=16, shuffle=True, seed=3)
        self.step = td.compile(self._step)

    def _step(self, x, y):
        loss = nn.functional.cross_entropy(self.model(x), y)
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        return loss

    def train(self, steps: int) -> list[float]:
        losses: list[float] = []
        while len(losses) < steps:
            for x, y in self.loader:
                losses.append(float(self.step(x, y)))
                if len(losses) == steps:
                    break
        return losses

    def save(self, folder: Path) -> None:
        nn.save(self.model.state_dict(), folder / "model.safetensors")
        nn.save({name: cell.value for name, cell in self.opt.cells()}, folder / "optimizer.safetensors")
        (folder / "loader.json").write_text(json.dumps(self.loader.state_dict()))

    def load(self, folder: Path) -> None:
        self.model.load_state_dict(nn.load(folder / "model.safetensors"))
        saved = nn.load(folder / "optimizer.safetensors")
        for name, cell in self.opt.cells():
            cell.value = saved[name]
        self.loader.load_state_dict(json.loads((folder / "loader.json").read_text()))


whole = Training().train(20)
with tempfile.TemporaryDirectory() as name:
    first = Training()
    head = first.train(7)
    first.save(Path(name))
    print(sorted(path.name for path in Path(name).iterdir()))
    second = Training()
    second.load(Path(name))
    tail = second.train(13)

print("without a stop:", *[f"{loss:.4f}" for loss in whole[5:10]], "...")
print("with a stop   :", *[f"{loss:.4f}" for loss in (head + tail)[5:10]], "...")
assert head + tail == whole
