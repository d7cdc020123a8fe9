"""Several processes that train together, for the tests of what must hold under DistributedDataParallel."""

import os
from datetime import timedelta

import torch

LIMIT = 120  # seconds for all of it


def run_ranks(target, world_size, folder):
    """What ``target(rank)`` returned in each of ``world_size`` processes (gloo); a process that hangs is
    killed, and an error.

    Each process ends with ``os._exit``: torch 2.13 can deadlock when a reducer is destroyed while gloo's
    thread waits for the GIL.
    """
    context = torch.multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_rank, args=(target, rank, world_size, str(folder)), daemon=True)
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    try:
        for rank, process in enumerate(processes):
            process.join(LIMIT)
            assert process.exitcode == 0, f"rank {rank} ended with {process.exitcode}"
    finally:
        for process in processes:
            process.kill()
    return [torch.load(f"{folder}/{rank}.pt") for rank in range(world_size)]


def _rank(target, rank, world_size, folder):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=world_size, timeout=timedelta(seconds=LIMIT)
    )
    code = 1
    try:
        torch.save(target(rank), f"{folder}/{rank}.pt")
        torch.distributed.barrier()  # none leaves while another may still need it
        code = 0
    finally:
        os._exit(code)
