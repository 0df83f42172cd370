"""Which tile a job's memory holds: the same for the same resources, larger for more."""

import pytest
import torch
from memory_slide import network
from slideunet import tile_memory
from slideunet.errors import UserError
from slideunet.network import UNet
from slideunet.tile_memory import MB, Load, candidates, choose_tile_px, next_smaller

CPU = torch.device("cpu")


def load(**more) -> Load:
    net = UNet(channels=3, classes=2, depth=4, base_channels=16)
    values = {
        "networks": (net,), "itemsize": 4, "slots": 1, "shards": 2,
        "shard_yx": (4096, 4096), "channel_bytes": 3,
    }  # fmt: skip
    return Load(**{**values, **more})


def chosen(memory_mb: int, image_yx=(100_000, 80_000), **more) -> int:
    return choose_tile_px(load(**more), image_yx, 4096, 4, CPU, memory_mb)


def test_more_memory_takes_larger_tiles():
    steps = [chosen(memory_mb) for memory_mb in (1500, 2500, 4000, 8000, 16000, 64000)]
    assert steps == sorted(steps) and steps[0] < steps[-1] == 4096
    assert steps == [chosen(memory_mb) for memory_mb in (1500, 2500, 4000, 8000, 16000, 64000)]
    assert all(step % 16 == 0 for step in steps)


def test_half_the_bytes_and_one_slot_take_larger_tiles():
    assert chosen(4000, itemsize=2) > chosen(4000) > chosen(4000, slots=2)


def test_a_small_image_needs_no_small_tile():
    assert chosen(4000, image_yx=(700, 1100)) == 4096


def test_too_little_memory_is_one_line():
    with pytest.raises(UserError, match=r"segment.mem_mb: 700 MB are too little .* by \d+ MB"):
        chosen(700)


def test_the_estimate_is_above_what_a_tile_takes():
    """The tensors that are alive at once, counted by hooks, with the largest margin for scratch."""
    net, peak = network(depth=3, channels=1), 0
    alive: dict[int, int] = {}

    def count(_module, inputs, output):
        nonlocal peak
        for tensor in (*inputs, output):
            alive[tensor.data_ptr()] = tensor.nbytes
        largest = sorted(alive.values())[-6:]
        peak = max(peak, sum(largest))

    for module in net.modules():
        module.register_forward_hook(count) if not list(module.children()) else None
    with torch.inference_mode():
        net(torch.zeros(1, 1, 220, 220))
    estimate = tile_memory.tile_bytes(net, (220, 220), 4, "cpu")
    assert peak < estimate < 12 * peak


def test_steps_cut_a_shard_into_equal_parts():
    steps = candidates(4096, 4)
    assert steps[:5] == [4096, 2048, 1376, 1024, 832]
    assert steps[-1] >= tile_memory.SMALLEST_PX
    assert next_smaller(4096, 4096, 4) == 2048
    assert next_smaller(1376, 4096, 4) == 832
    assert next_smaller(16, 4096, 4) is None


def test_the_least_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(tile_memory, "_cgroup_mb", lambda: [3000])
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    assert tile_memory.limit_mb(None) == 3000
    assert tile_memory.limit_mb(2000) == 2000
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1000")
    assert tile_memory.limit_mb(2000) == 1000
    monkeypatch.setattr(tile_memory, "_cgroup_mb", lambda: [])
    monkeypatch.delenv("SLURM_MEM_PER_NODE")
    assert tile_memory.limit_mb(None) == tile_memory.DEFAULT_MB


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_of_both_versions(tmp_path, version):
    folder = tmp_path / ("memory" if version == 1 else "") / "job/step"
    folder.mkdir(parents=True)
    name = "memory.limit_in_bytes" if version == 1 else "memory.max"
    (folder / name).write_text(f"{5 * 2**30}\n")
    (folder.parent / name).write_text(f"{2 * 2**30}\n")
    (folder.parents[1] / name).write_text("9223372036854771712\n" if version == 1 else "max\n")
    lines = "4:memory:/job/step\n" if version == 1 else "0::/job/step\n"
    (tmp_path / "cgroup").write_text("3:cpuset:/\n" + lines)
    found = tile_memory._cgroup_mb(str(tmp_path), str(tmp_path / "cgroup"))
    assert sorted(found) == [2048, 5120]


def test_errors_of_memory_are_told_from_others():
    assert tile_memory.is_out_of_memory(MemoryError())
    assert tile_memory.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    words = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"
    assert tile_memory.is_out_of_memory(RuntimeError(words))
    assert not tile_memory.is_out_of_memory(RuntimeError("expected 3 channels"))
    assert not tile_memory.is_out_of_memory(ValueError("out of memory"))
    assert MB == 2**20
