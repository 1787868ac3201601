"""What training code does besides computing: worker processes, shared memory, two ranks that talk by gloo."""

import json
import os
import sys

import torch
import torch.distributed as dist
from torch.multiprocessing import spawn
from torch.utils.data import DataLoader, TensorDataset


def main() -> None:
    numbers = TensorDataset(torch.arange(64.0))
    loaded = sum(float(batch[0].sum()) for batch in DataLoader(numbers, batch_size=8, num_workers=2))
    spawn(_rank, nprocs=2)
    with open("/work/out/sum") as file:
        reduced = float(file.read())
    layer = torch.nn.Linear(8, 8)
    layer(torch.ones(2, 8)).sum().backward()
    found = {"loaded": loaded, "reduced": reduced, "gradients": layer.weight.grad is not None}
    event = {"event": "finished", "step": 1, "state_root": "0" * 64, "scorecard": found, "files": {}}
    sys.stdout.write(json.dumps(event) + "\n")


def _rank(rank: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    mine = torch.tensor([float(rank + 1)])
    dist.all_reduce(mine)
    if rank == 0:
        with open("/work/out/sum", "w") as file:
            file.write(str(mine.item()))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
