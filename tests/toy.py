"""A small method and its data for tests of the frame: two networks, rho, noise and a memory."""

import dataclasses
from collections import OrderedDict

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ganattn import optimizers
from ganattn.config import Config, base
from ganattn.methods import Input, Method, Output
from ganattn.state import split_networks
from ganattn.training.loop import train

SIZE = 4


class Generator(nn.Module):
    width: int = 3

    @nn.compact
    def __call__(self, x):
        rho = self.variable("rho", "rho", jnp.ones, (self.width,)).value
        x = nn.Conv(self.width, (3, 3))(x) * rho[None, None, None]
        return nn.Conv(3, (1, 1))(x)


@dataclasses.dataclass(frozen=True)
class Toy(Method):
    """Two small networks that are updated in turn, with noise and a carried memory."""

    @classmethod
    def from_config(cls, config):
        def adam():
            return optimizers.adam(optax.constant_schedule(0.01), 0.5, 0.999, 1e-4)

        networks = {
            "generator": Generator(config.method.width),
            "discriminator": nn.Conv(1, (3, 3)),
        }
        groups = {name: (name,) for name in networks}
        decay = config.method.get("ema_decay", 0.0)
        return cls(networks, groups, {name: adam() for name in networks}, ema_decay=decay)

    def network_input(self, name):
        return jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)

    def batch_spec(self, count):
        return dict.fromkeys("ab", jax.ShapeDtypeStruct((count, SIZE, SIZE, 3), jnp.float32))

    def inputs(self, direction=None):
        return {"image": Input("image", (SIZE, SIZE, 3), multiple=1)}

    def networks_for(self, direction=None):
        return ("generator",)

    def create_memory(self, dtype):
        return {"mean": jnp.zeros((), dtype)}

    def _loss(self, variables, a, b, sign):
        fake = self.networks["generator"].apply(variables["generator"], a)
        discriminator = self.networks["discriminator"]
        logits = [discriminator.apply(variables["discriminator"], x) for x in (fake, b)]
        return sign * (logits[0].mean() - logits[1].mean()) + jnp.square(logits[0]).mean()

    def step(self, state, batch, draws):
        keys = self.examples.keys(jax.random.fold_in(state.rng, state.step), len(batch["a"]))
        noise = jax.vmap(lambda key: jax.random.normal(key, (SIZE, SIZE, 3)))(keys)
        a, b, metrics = batch["a"] + 0.1 * noise, batch["b"], {}
        for name, sign in (("discriminator", 1.0), ("generator", -1.0)):
            trained, carried = split_networks(state.variables, (name,))

            def loss(trained, variables=state.variables, carried=carried, name=name, sign=sign):
                merged = {**variables, name: {**trained[name], **carried[name]}}
                return self._loss(merged, a, b, sign)

            value, gradients = jax.value_and_grad(loss)(self.examples.vary(trained))
            state = self.update(state, name, gradients, carried)
            metrics[f"{name}/loss"] = value
        average = self.examples.mean(metrics["discriminator/loss"])
        return state.replace(memory={"mean": 0.9 * state.memory["mean"] + 0.1 * average}), metrics

    def generate(self, variables, inputs, direction=None, rng=None):
        self.direction(direction)
        images = self.networks["generator"].apply(variables["generator"], inputs["image"])
        return Output(images, OrderedDict(red=images[..., :1]))

    def panels(self, variables, batch, rng):
        output = self.generate(variables, {"image": batch["a"]})
        images = {"attention": output.heatmap, "translation": output.images}
        return OrderedDict(a2b=OrderedDict(source=batch["a"], **images))


class Batches:
    """Batches that are a function of the step; not a number from step `broken_from` on."""

    def __init__(self, batch_size, broken_from=None):
        self.batch_size, self.broken_from = batch_size, broken_from
        self.skipped, self.truth, self.sizes = [], None, {}

    def __call__(self, step):
        random = np.random.default_rng([5, step])
        shape = (2, self.batch_size, SIZE, SIZE, 3)
        a, b = random.uniform(-1, 1, shape).astype(np.float32)
        if self.broken_from is not None and step >= self.broken_from:
            a[:] = np.nan
        return {"a": a, "b": b}

    def test_batch(self, count):
        return {name: x[:count] for name, x in self(10**6).items()}

    def close(self):
        pass


class At:
    """A hook that does something once, after a given step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def __call__(self, step, state, metrics):
        if step == self.step:
            self.action()

    def close(self):
        pass


def configure(total=6, width=3, ema_decay=0.0, **fields):
    config = base()
    config.method = Config({"name": "toy", "width": width})
    if ema_decay:
        config.method.ema_decay = ema_decay
    config.optimizer = Config({"total_steps": total})
    config.data.batch_size = 8
    config.train.update(
        {
            "log_every": 1,
            "pictures_every": 0,
            "histograms_every": 0,
            "checkpoint_every": 2,
            **fields,
        }
    )
    return config.lock()


def run(workdir, total=6, broken_from=None, hooks=None, source=None, source_step=None, **options):
    config = configure(total, **options)
    batches = Batches(config.data.batch_size, broken_from)
    origin = {"source": source, "source_step": source_step}
    toy = Toy.from_config(config)
    return train(config, workdir, method=toy, batches=batches, hooks=hooks, **origin)
