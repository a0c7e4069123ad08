"""Small programs compiled for four H100s that are not there; printed as JSON, {name: [text, bytes of
arguments, of results]}.

    JAX_PLATFORMS=cpu PYTHONPATH=.target/VERSION python -m tests.planning.gpu_programs
"""
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxrl_moe.distributed.chips import CHIPS
from jaxrl_moe.planning import target

BF16 = jnp.bfloat16
F32 = jnp.float32
INT = jnp.int32


def scan(x, stack):
    return jax.lax.scan(lambda x, weights: (jax.nn.silu(x @ weights), None), x, stack)[0]


def attention(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="cudnn")


def attention_gradient(q, k, v):
    return jax.grad(lambda q, k, v: jnp.sum(attention(q, k, v).astype(F32)), (0, 1, 2))(q, k, v)


def repeated(count, x, weights):
    return jax.lax.while_loop(lambda carry: carry[0] < count, lambda carry:
                              (carry[0] + 1, carry[1] @ weights), (0, x))[1]


def programs() -> dict:
    """{name: (function, its arguments as shapes)}; `update` may write into its first argument."""
    heads = [((2, 512, count, 64), BF16) for count in (8, 4, 4)]
    return {
        "matmul": (jnp.matmul, [((512, 1024), BF16), ((1024, 2048), BF16)]),
        "batched": (functools.partial(jnp.einsum, "ebd,edf->ebf"), [((8, 128, 256), BF16),
                                                                    ((8, 256, 512), BF16)]),
        "scan": (scan, [((256, 512), BF16), ((6, 512, 512), BF16)]),
        "update": (lambda pool, rows, at: pool.at[at].set(rows), [((4096, 256), BF16), ((16, 256), BF16),
                                                                  ((16,), INT)]),
        "gather": (lambda pool, at: 2 * pool[at], [((4096, 256), BF16), ((16,), INT)]),
        "repeated": (repeated, [((), INT), ((256, 256), BF16), ((256, 256), BF16)]),
        "attention": (attention, heads),
        "attention_gradient": (attention_gradient, heads)
    }


def main():
    devices = target.devices(CHIPS["H100"], 4)
    alone = SingleDeviceSharding(devices[0])
    mesh = Mesh(np.array(devices), "x")
    found = {}
    for name, (function, arguments) in programs().items():
        shapes = [jax.ShapeDtypeStruct(size, dtype, sharding=alone) for size, dtype in arguments]
        with target.tracing(devices[0]):
            found[name] = compiled(function, shapes, donated=name == "update")
    total = jax.shard_map(lambda x: jax.lax.psum(x, "x"), mesh=mesh, in_specs=PartitionSpec("x"),
                          out_specs=PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("x"))
    found["all_reduce"] = compiled(total, [jax.ShapeDtypeStruct((4, 1024), F32, sharding=split)])
    print(json.dumps(found))


def compiled(function, shapes, donated=False):
    done = jax.jit(function, donate_argnums=(0,) * donated).trace(*shapes).lower().compile(target.OPTIONS)
    stats = done.memory_analysis()
    return done.as_text(), stats.argument_size_in_bytes, stats.output_size_in_bytes


if __name__ == "__main__":
    main()
