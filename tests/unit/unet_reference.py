"""The U-Net of depth 1 and its gradient, written out in numpy, float64, without autograd."""

import numpy as np


def convolve(x, weight, bias):
    """Unpadded: x (C, Y, X), weight (O, C, k, k) -> (O, Y - k + 1, X - k + 1)."""
    k = weight.shape[-1]
    height, width = x.shape[1] - k + 1, x.shape[2] - k + 1
    y = np.zeros((len(weight), height, width)) + bias[:, None, None]
    for i in range(k):
        for j in range(k):
            y += np.tensordot(weight[:, :, i, j], x[:, i : i + height, j : j + width], 1)
    return y


def convolve_back(gradient, x, weight):
    """Gradients by x, weight and bias, from the gradient by the output."""
    k = weight.shape[-1]
    height, width = gradient.shape[1:]
    by_x, by_weight = np.zeros_like(x), np.zeros_like(weight)
    for i in range(k):
        for j in range(k):
            window = np.s_[:, i : i + height, j : j + width]
            by_x[window] += np.tensordot(weight[:, :, i, j].T, gradient, 1)
            by_weight[:, :, i, j] = np.tensordot(gradient, x[window], ((1, 2), (1, 2)))
    return by_x, by_weight, gradient.sum((1, 2))


def pool(x):
    """2x2 maximum, and where it stood (ties: the first)."""
    channels, height, width = x.shape
    four = x.reshape(channels, height // 2, 2, width // 2, 2).transpose(0, 1, 3, 2, 4)
    four = four.reshape(channels, height // 2, width // 2, 4)
    return four.max(-1), four.argmax(-1)


def pool_back(gradient, where, shape):
    channels, height, width = gradient.shape
    four = np.zeros((channels, height, width, 4))
    np.put_along_axis(four, where[..., None], gradient[..., None], -1)
    return four.reshape(channels, height, width, 2, 2).transpose(0, 1, 3, 2, 4).reshape(shape)


def up(x, weight, bias):
    """2x2 up-convolution of stride 2: weight (C, O, 2, 2)."""
    y = np.zeros((weight.shape[1], 2 * x.shape[1], 2 * x.shape[2])) + bias[:, None, None]
    for i in range(2):
        for j in range(2):
            y[:, i::2, j::2] += np.tensordot(weight[:, :, i, j].T, x, 1)
    return y


def up_back(gradient, x, weight):
    by_x, by_weight = np.zeros_like(x), np.zeros_like(weight)
    for i in range(2):
        for j in range(2):
            part = gradient[:, i::2, j::2]
            by_x += np.tensordot(weight[:, :, i, j], part, 1)
            by_weight[:, :, i, j] = np.tensordot(x, part, ((1, 2), (1, 2)))
    return by_x, by_weight, gradient.sum((1, 2))


def loss_and_gradient(p, x, target, border, class_weights):
    """Loss of one tile and its gradient by each parameter.

    p: name -> array, names as in slideunet.network; x (C, Y, X), target (Y, X) with 255 = ignored,
    border (Y, X).
    """
    relu = lambda v: np.maximum(v, 0)  # noqa: E731
    layer = lambda name: (p[f"{name}.weight"], p[f"{name}.bias"])  # noqa: E731
    a1 = relu(convolve(x, *layer("down.0.first")))
    a2 = relu(convolve(a1, *layer("down.0.second")))
    pooled, where = pool(a2)
    b1 = relu(convolve(pooled, *layer("bottom.first")))
    b2 = relu(convolve(b1, *layer("bottom.second")))
    u = relu(up(b2, *layer("up.0")))
    edge = (a2.shape[1] - u.shape[1]) // 2
    crop = np.s_[:, edge : edge + u.shape[1], edge : edge + u.shape[2]]
    joined = np.concatenate([u, a2[crop]])
    c1 = relu(convolve(joined, *layer("join.0.first")))
    c2 = relu(convolve(c1, *layer("join.0.second")))
    scores = convolve(c2, *layer("score"))

    exponential = np.exp(scores - scores.max(0))
    softmax = exponential / exponential.sum(0)
    loss, by_scores = 0.0, np.zeros_like(scores)
    pixels = target.size
    for row in range(target.shape[0]):
        for column in range(target.shape[1]):
            true = target[row, column]
            if true == 255:
                continue
            weight = class_weights[true] + border[row, column]
            loss -= weight * np.log(softmax[true, row, column]) / pixels
            by_scores[:, row, column] = weight * softmax[:, row, column] / pixels
            by_scores[true, row, column] -= weight / pixels

    g = {}

    def back(name, gradient, entered, function=convolve_back):
        by_x, g[f"{name}.weight"], g[f"{name}.bias"] = function(
            gradient, entered, p[f"{name}.weight"]
        )
        return by_x

    d = back("score", by_scores, c2) * (c2 > 0)
    d = back("join.0.second", d, c1) * (c1 > 0)
    d = back("join.0.first", d, joined)
    by_u, by_skip = d[: len(u)] * (u > 0), d[len(u) :]
    d = back("up.0", by_u, b2, up_back) * (b2 > 0)
    d = back("bottom.second", d, b1) * (b1 > 0)
    d = back("bottom.first", d, pooled)
    d = pool_back(d, where, a2.shape)
    d[crop] += by_skip
    d = back("down.0.second", d * (a2 > 0), a1) * (a1 > 0)
    back("down.0.first", d, x)
    return loss, g
