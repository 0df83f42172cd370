"""What the stages import only when they run: done before the fork, so that each call is short."""

from io import BytesIO

import anndata  # noqa: F401
import dask.array  # noqa: F401
import matplotlib.pyplot
import pyarrow.csv
import pyarrow.parquet
import torch
import torch._dynamo  # each optimiser imports it: it took most of a short training's time
import torch.utils.tensorboard

torch.set_num_threads(1)
pyarrow.set_cpu_count(1)
pyarrow.set_io_thread_count(1)
# The first figure with a logarithmic axis finds the fonts and builds the parser of its labels.
figure, axis = matplotlib.pyplot.subplots()
axis.set_yscale("log")
figure.savefig(BytesIO())
matplotlib.pyplot.close(figure)
