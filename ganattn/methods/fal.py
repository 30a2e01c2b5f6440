"""Feedback adversarial learning: a generator that sees the discriminator's response, in rounds.

Huh et al., CVPR 2019, as the baseline of Lin et al., WACV 2021: voidstrike/ASGIT, `--model fal`.
"""

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn.config import check
from ganattn.errors import CheckpointError
from ganattn.layers.attention import enlarge
from ganattn.methods.base import DTYPES, Input, Output, Panels, columns, images_spec
from ganattn.methods.families import image_translation
from ganattn.methods.families.paired import DISCRIMINATOR, GENERATOR, Paired
from ganattn.networks.feedback import (
    ENCODER_BLOCKS,
    MODULATIONS,
    FeedbackDecoder,
    FeedbackEncoder,
)
from ganattn.optimizers import repeated
from ganattn.state import TrainState, Tree, Variables

ENCODER = "encoder_a2b"


@dataclasses.dataclass(frozen=True)
class FAL(Paired):
    """`Paired` whose generator improves its image in rounds.

    The encoder runs once. Each round modulates the code by the last round's image and by the
    discriminator's response to it, decodes an image, and lets the discriminator respond: its logits
    for (source, image), enlarged to the image. The losses are those of pix2pix on the last image.

    Gradients go through the responses into the earlier rounds, through the discriminator as it was
    before its update. PyTorch 1.4 and earlier took the updated weights with the activations of the
    old ones there, unnoticed (in two steps, weights differ by 5 to 7 percent of the distance that
    they move), and later versions refuse to run the authors' code with more than one round. Their
    code has no default for the number of rounds; 3 are those of figure 1 in Huh et al.

    num_rounds: of generation. feedback_gradient: False stops gradients at the responses.
    modulation: see `FeedbackDecoder`. norm: of all networks. test_statistics: as of pix2pix.
    """

    num_rounds: int = 3
    feedback_gradient: bool = True
    modulation: str = "global"
    norm: str = "batch"
    test_statistics: str = "batch"

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method, optimizer = config.method, config.optimizer
        check(config, "method.modulation", choices=MODULATIONS)
        check(config, "method.num_rounds", least=1)
        check(config, "method.num_residual_blocks", least=ENCODER_BLOCKS)
        check(config, "optimizer.decoder_updates", least=1)
        # A global modulation's convolutions turn its map, a quarter of the image, into a pixel.
        image_translation.check_config(config, multiple=64 if method.modulation == "global" else 4)
        options = {"norm": method.norm, "dtype": DTYPES[method.dtype]}
        networks = {
            ENCODER: FeedbackEncoder(method.width, **options),
            GENERATOR: FeedbackDecoder(
                method.width, method.num_residual_blocks, modulation=method.modulation, **options
            ),
            DISCRIMINATOR: image_translation.create_discriminator(method),
        }
        groups = {"generator": (ENCODER, GENERATOR), "discriminator": (DISCRIMINATOR,)}
        twice = functools.partial(
            repeated, times=optimizer.decoder_updates, is_repeated=_is_of_decoder
        )
        optimizers = {
            "generator": image_translation.create_optimizer(optimizer, twice),
            "discriminator": image_translation.create_optimizer(optimizer),
        }
        return cls(networks, groups, optimizers, **cls.values_of(method))

    @property
    def multiple(self) -> int:
        """What divides the height and width of images: two halvings."""
        return 4

    @property
    def joint(self) -> bool:
        """With instance normalization no layer mixes examples."""
        return self.norm == "instance"

    def inputs(self, direction: str | None = None) -> Mapping[str, Input]:
        """The "image" to translate; a global modulation fits the size of training alone."""
        (image,) = super().inputs(direction).values()
        return {"image": image._replace(multiple=None) if self.modulation == "global" else image}

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """All: translation needs the discriminator's responses."""
        return GENERATOR, ENCODER, DISCRIMINATOR

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        """As `Paired.network_input`; a code for the decoder."""
        if name != GENERATOR:
            return super().network_input(name)
        side = self.image_size // 4
        return images_spec(1, side, side, 4 * self.networks[ENCODER].width)

    def recall(self, state: TrainState, batch: Mapping[str, Array]) -> Any:
        """The discriminator's variables before its update."""
        return state.variables[DISCRIMINATOR]

    def carry(self, state: TrainState, carried: Mapping[str, Variables]) -> TrainState:
        """Stores the discriminator's averages, which the rounds have moved."""
        if not carried[DISCRIMINATOR]:
            return state
        new = {**state.variables[DISCRIMINATOR], **self.examples.mean(carried[DISCRIMINATOR])}
        return state.replace(variables={**state.variables, DISCRIMINATOR: new})

    def forward(self, trained, carried, images, guide, keys):
        """As `Paired.forward`; guide: variables of the discriminator, whose averages move too."""
        variables = {name: {**trained[name], **carried[name]} for name in trained}
        rounds, _, new = self._unroll({**variables, DISCRIMINATOR: guide}, images, keys, "batch")
        return rounds[-1], {**carried, **new}

    def _translate(
        self, variables: Mapping[str, Variables], images: Array, keys: Array | None
    ) -> Output:
        """Images of the last round; keys: a dropout key an example, None for no dropout.

        extras: "rounds" (n, rounds, h, w, 3), the images of all rounds, and "responses"
        (n, rounds, h, w, 1), the discriminator's enlarged logits for them. Raises CheckpointError
        without weights of the discriminator.
        """
        if DISCRIMINATOR not in variables:
            raise CheckpointError(
                f"there are no weights of {DISCRIMINATOR}, whose responses the generator needs: "
                "give those of all networks"
            )
        statistics = image_translation.TEST_STATISTICS[self.test_statistics]
        rounds, responses, _ = self._unroll(variables, images, keys, statistics)
        extras = {"rounds": rounds, "responses": responses}
        stacked = OrderedDict((name, jnp.stack(x, axis=1)) for name, x in extras.items())
        return Output(rounds[-1], extras=stacked)

    def panels(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array], rng: Array
    ) -> Panels:
        """Source, the images of all rounds, the last being the translation, and the true target."""
        output = self.generate(variables, {"image": batch["a"]}, "a2b", rng)
        earlier = [
            (f"round {i + 1}", output.extras["rounds"][:, i]) for i in range(self.num_rounds - 1)
        ]
        images = {"translation": output.images, "target": batch["b"]}
        return OrderedDict(a2b=columns([("source", batch["a"]), *earlier, *images.items()]))

    def _unroll(
        self,
        variables: Mapping[str, Variables],
        images: Array,
        keys: Array | None,
        statistics: str,
    ) -> tuple[list[Array], list[Array], dict[str, Tree]]:
        """Images and responses of all rounds, and the collections that these have changed."""
        new: dict[str, Tree] = {name: {} for name in (ENCODER, GENERATOR, DISCRIMINATOR)}

        def apply(name, *inputs):
            output, new[name] = self.networks[name].apply(
                {**variables[name], **new[name]}, *inputs, statistics, mutable=["batch_stats"]
            )
            return output

        code = apply(ENCODER, images, keys)
        image = response = None
        rounds, responses = [], []
        for i in range(self.num_rounds):
            round_keys = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            output = apply(GENERATOR, code, image, response, round_keys)
            image, code = output.images, output.extras["code"]
            logits = apply(DISCRIMINATOR, jnp.concatenate([images, image], -1)).logits
            response = enlarge(logits, *images.shape[1:3])
            if not self.feedback_gradient:
                response = jax.lax.stop_gradient(response)
            rounds.append(image)
            responses.append(response)
        return rounds, responses, new


def _is_of_decoder(path: tuple[str, ...]) -> bool:
    """Whether a leaf belongs to the layers that the authors' optimizer holds twice."""
    network, _, layer = path[:3]
    return network == GENERATOR and not layer.startswith(("feedback", "modulation"))
