"""Runs the authors' TensorFlow U-GAT-IT and saves its checkpoint and outputs.

    python make.py FOLDER    # with ops.py and UGATIT.py of taki0112/UGATIT at d508e8f

Needs TensorFlow 2; what their code takes from tf.layers and tf.contrib is replaced here, with the
same names of variables. The networks are built by their code, and the file by its Saver.
"""

import sys
import types
from pathlib import Path

import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf

FOLDER = Path(__file__).parent
SIZE = 32


def conv2d(inputs, filters, kernel_size, strides=1, use_bias=True, **options):
    with tf.variable_scope("conv2d"):
        shape = [kernel_size, kernel_size, int(inputs.shape[-1]), filters]
        kernel = tf.get_variable("kernel", shape)
        output = tf.nn.conv2d(inputs, kernel, [1, strides, strides, 1], "VALID")
        return tf.nn.bias_add(output, tf.get_variable("bias", [filters]))


def dense(x, units, **options):
    with tf.variable_scope("dense"):
        kernel = tf.get_variable("kernel", [int(x.shape[-1]), units])
        return tf.matmul(x, kernel) + tf.get_variable("bias", [units])


def flatten(x):
    return tf.reshape(x, [int(x.shape[0]), int(np.prod(x.shape[1:]))])


def instance_norm(x, epsilon, scope, **options):
    with tf.variable_scope(scope):
        channels = int(x.shape[-1])
        beta, gamma = (tf.get_variable(name, [channels]) for name in ("beta", "gamma"))
        mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
        return (x - mean) * tf.rsqrt(variance + epsilon) * gamma + beta


class Shim(types.ModuleType):
    """TensorFlow 1 as their files import it."""

    def __getattr__(self, name):
        return getattr(tf, name)


def authors_class(folder):
    shim, contrib, data = (
        Shim("tensorflow"), types.ModuleType("contrib"), types.ModuleType("data"),
    )  # fmt: skip
    shim.layers = types.SimpleNamespace(conv2d=conv2d, dense=dense, flatten=flatten)
    shim.contrib = contrib
    contrib.layers = types.SimpleNamespace(
        instance_norm=instance_norm, l2_regularizer=lambda scale: None
    )
    data.prefetch_to_device = data.shuffle_and_repeat = data.map_and_batch = None
    replaced = {
        "tensorflow": shim,
        "tensorflow.contrib": contrib,
        "tensorflow.contrib.data": data,
        "utils": types.ModuleType("utils"),
    }
    sys.modules.update(replaced)
    sys.path.insert(0, folder)
    import UGATIT

    sys.modules["tensorflow"] = tensorflow
    return UGATIT.UGATIT


def value_of(name, shape, random):
    """Weights that make every variable matter."""
    if name.endswith("rho"):
        return random.uniform(0, 1, shape)
    return random.normal(1.0 if name.endswith("gamma") else 0.0, 0.1, shape)


def main(folder):
    tf.disable_eager_execution()
    model, random = object.__new__(authors_class(folder)), np.random.default_rng(0)
    model.light = model.sn = model.smoothing = True
    model.ch, model.n_res, model.n_dis, model.batch_size = 2, 4, 3, 1
    a, b = (tf.placeholder(tf.float32, [1, SIZE, SIZE, 3]) for _ in "ab")
    outputs = {}
    outputs["a2b"], outputs["a2b_cam"] = model.generate_a2b(a)
    outputs["b2a"], outputs["b2a_cam"] = model.generate_b2a(b)
    logits, cams, _, _ = model.discriminator(a, scope="discriminator_A")
    model.discriminator(b, scope="discriminator_B")
    outputs["local_a"], outputs["global_a"] = logits
    outputs["local_a_cam"], outputs["global_a_cam"] = cams
    images = {x: random.uniform(-1, 1, a.shape).astype(np.float32) for x in (a, b)}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            name = variable.name.removesuffix(":0")
            variable.load(value_of(name, variable.shape, random), session)
        prefix = str(FOLDER / "UGATIT_light.model")
        tf.train.Saver().save(session, prefix, global_step=7, write_meta_graph=False)
        outputs = session.run(outputs, images)
    # The newest checkpoint of a folder that was moved.
    state = 'model_checkpoint_path: "/home/authors/checkpoint/UGATIT_light.model-7"\n'
    (FOLDER / "checkpoint").write_text(state)
    np.savez_compressed(FOLDER / "outputs.npz", a=images[a], b=images[b], **outputs)


if __name__ == "__main__":
    main(sys.argv[1])
