"""What the stages import only when they run: done before the fork, so that each call is short."""

import anndata  # noqa: F401
import dask.array  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import pyarrow.csv
import pyarrow.parquet
import torch

torch.set_num_threads(1)
pyarrow.set_cpu_count(1)
pyarrow.set_io_thread_count(1)
