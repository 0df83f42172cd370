"""Stages that die at a chosen moment, with and without what lets them go on; picklable."""

import os
import signal


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DieWithinShard:
    """The process dies once the probabilities of a shard are written, but not its class map."""

    def __init__(self, key: str):
        self.key = key

    def __call__(self) -> None:
        from slideunet.shard_store import ShardStore

        whole = ShardStore.write

        def write(store, shard, block) -> dict[str, str]:
            if shard.key == self.key:
                window = (slice(None), *store.window(shard).slices())
                store.arrays[shard.level][0][window] = block.probabilities
                die()
            return whole(store, shard, block)

        ShardStore.write = write


class BelieveShards:
    """Takes away markers and checksums: a shard is whole where its first file is."""

    def __call__(self) -> None:
        from slideunet.shard_store import ShardStore

        def resume(store) -> set:
            grid = [s for level in range(len(store.arrays)) for s in store.shards(level)]
            done = {s for s in grid if (store.path / store.files(s)[0]).exists()}
            for shard in done:
                if store.marker(shard) is None:
                    window = store.window(shard)
                    found = {"computed_px": window.height * window.width, "masked": []}
                    store.mark(shard, {}, found)
            return done

        ShardStore.resume = resume


class DieAfterCheckpoint:
    """The process dies once the checkpoint of a step is written."""

    def __init__(self, step: int):
        self.step = step

    def __call__(self) -> None:
        from slideunet import checkpoints

        whole = checkpoints.save

        def save(folder, step, groups, state):
            path = whole(folder, step, groups, state)
            if step == self.step:
                die()
            return path

        checkpoints.save = save


class ForgetOptimiser:
    """Takes away a part of what a training goes on from."""

    def __call__(self) -> None:
        from slideunet import training

        training.load_optimiser_tensors = lambda optimiser, tensors: None
