"""Dense layers."""

import flax.linen as nn
import jax
from jax import Array

from ganattn.layers.convolution import Initializer, parameters
from ganattn.layers.lowering import on_cpu

SMALL_BATCH = 8


class Dense(nn.Module):
    """x @ kernel + bias for x (n, features_in), in the kernel's precision.

    Initial values are PyTorch's defaults.
    """

    features: int
    use_bias: bool = False
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel, bias = parameters(self, (x.shape[-1], self.features))
        x = x.astype(kernel.dtype)
        output = _matmul_rank_n(x, kernel) if on_cpu() and len(x) <= SMALL_BATCH else x @ kernel
        return output if bias is None else output + bias[None]


@jax.custom_vjp
def _matmul_rank_n(x: Array, kernel: Array) -> Array:
    """x @ kernel, whose weight gradient is a sum of outer products.

    XLA fuses this form of the gradient of U-GAT-IT's 268 M weights into the optimizer's update
    instead of storing it, which it does not do with a matrix product.
    """
    return x @ kernel


def _forward(x, kernel):
    return x @ kernel, (x, kernel)


def _backward(residuals, gradient):
    x, kernel = residuals
    outer = sum(x[i][:, None] * gradient[i][None, :] for i in range(len(x)))
    return gradient @ kernel.T, outer


_matmul_rank_n.defvjp(_forward, _backward)
