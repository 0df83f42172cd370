"""Max pooling by slices: the same numbers as PyTorch's own, in the same layout."""

import pytest
import torch
from slideunet.pooling import pooled
from torch.nn.functional import max_pool2d


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 3, 20, 30), (1, 16, 21, 33), (1, 1, 2, 2)])
def test_pooling_is_pytorchs(dtype, shape):
    x = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
    x[0, 0, 0, 0] = float("inf")
    expected = max_pool2d(x, 2)
    with torch.no_grad():
        found = pooled(x)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_nan_stays():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 3, 2] = float("nan")
    with torch.no_grad():
        assert pooled(x).isnan().tolist() == [[[[False, False], [False, True]]]]


def test_learning_goes_back_to_one_pixel_as_pytorchs():
    """Also where several are the largest, as after a ReLU that leaves zeros: not spread on all."""
    x = torch.tensor([[[[1.0, 3.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]]]], requires_grad=True)
    pooled(x).sum().backward()
    assert x.grad.tolist() == [[[[0, 1, 1, 0], [0, 0, 0, 0]]]]
