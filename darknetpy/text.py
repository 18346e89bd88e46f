"""What a network makes of text, character by character: bits per character, and text of its own."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

import numpy as np

from darknetpy._types import Floats, Integers
from darknetpy.data.text import CHARACTERS, Text, one_hot
from darknetpy.errors import ArgumentError, CfgError, DarknetError

if TYPE_CHECKING:
    from darknetpy.network import Network

_LEAST = np.finfo(np.float32).tiny  # of a probability: a character has at most 126 bits
_IMPROBABLE = 1e-4  # characters below are never generated, as in Darknet


class TextMeasure(NamedTuple):
    """How well a network predicts a text.

    Attributes
    ----------
    bits : float
        Mean of -log2 of the probability that it gave to the character that came.
    characters : int
        How many it foretold.
    """

    bits: float
    characters: int

    @property
    def figure(self) -> float:
        """The figure by which the best is known."""
        return self.bits

    def columns(self) -> dict[str, float]:
        """Return what it adds to a row of the .csv."""
        return {"valid_bits": self.bits}

    def text(self) -> str:
        """Return it in words, such as ``2.310 bits per character (perplexity 4.96) of 13,382 characters``."""
        return (
            f"{self.bits:.3f} bits per character (perplexity {2**self.bits:.2f}) "
            f"of {self.characters:,} characters"
        )

    def figures(self) -> dict[str, Any]:
        """Return it as a dict for JSON."""
        return {"bits_per_character": self.bits, "perplexity": 2**self.bits, "characters": self.characters}


def require_text(net: Network) -> None:
    """Check that a network reads characters and tells the probability of each to be the next.

    Raises
    ------
    CfgError
        It does not.
    """

    def error(message: str, key: Optional[str] = None) -> CfgError:
        return net.sections.error(message, key) if net.sections else CfgError(message, section="net")

    if net.inputs != CHARACTERS:
        raise error(f"{net.inputs} inputs: wanted inputs={CHARACTERS}, one for each byte", "inputs")
    last = net._output_layer()
    if last.type != "softmax" or net.outputs != CHARACTERS or last.option("groups") != 1:
        raise error(
            f"its output is {net.outputs} values of [{last.type}]: wanted the probabilities of {CHARACTERS} "
            f"characters, from [softmax] behind [connected] output={CHARACTERS}"
        )


def time_steps(net: Network) -> int:
    """Return how many time steps one pass has."""
    return int(net.sections.net["time_steps"]) if net.sections else 1


def code_lengths(net: Network, truth: Integers) -> Floats:
    """Return for each row of the last pass the bits of the character that came: -log2 of its probability.

    Raises
    ------
    DarknetError
        The output is not finite.
    """
    output = net._output_layer().output.reshape(len(truth), -1)
    if not np.isfinite(output).all():
        raise DarknetError(
            f"the network's output is not finite after iteration {net.iteration} "
            "(is the learning rate too high?)"
        )
    return -np.log2(np.maximum(output[np.arange(len(truth)), truth].astype(float), _LEAST))


@contextlib.contextmanager
def _from_zeros(net):
    """Begin at a state of zeros; put back the state that training goes on from."""
    kept = [(state, state.copy()) for state in net._states()]
    net.reset_state()
    try:
        yield
    finally:
        for state, values in kept:
            state[...] = values


def measure(
    net: Network, text: Text, should_stop: Callable[[], bool] = lambda: False
) -> Optional[TextMeasure]:
    """Measure how well a network predicts each character of a text but the first.

    The sequences of a mini-batch read equal shares of it side by side, each from a state of zeros.

    Parameters
    ----------
    net : Network
        Its training state is left alone.
    text : Text
    should_stop : callable
        Asked between mini-batches; once it says yes, None is returned.
    """
    steps = time_steps(net)
    sequences, known = net.batch // steps, len(text) - 1
    share = -(-known // sequences)
    bits = 0.0
    with _from_zeros(net):
        for place in range(0, share, steps):
            if should_stop():
                return None
            step = place + np.arange(steps)[:, None]
            at = (np.arange(sequences) * share + step).ravel()
            counts = ((step < share) & (at.reshape(steps, -1) < known)).ravel()
            at = np.minimum(at, known - 1)  # rows behind the end are not counted
            net.forward(one_hot(text.characters[at]), train=False)
            bits += float(code_lengths(net, text.characters[at + 1])[counts].sum())
    return TextMeasure(bits / known, known)


def generate(
    net: Network, seed: bytes, length: int, temperature: float = .7, random_seed: int = 0
) -> Iterator[int]:
    """Return an iterator over the characters that a network writes behind a seed, as numbers 0..255.

    Parameters
    ----------
    net : Network
        Of one row; its state is left where the text ends.
    seed : bytes
        What it reads first, from a state of zeros; at least one character.
    length : int
        How many characters to write.
    temperature : float
        Replaces that of [softmax]: the lower, the more often the likeliest character comes.
    random_seed : int
        Of the choices: the same gives the same text.

    Raises
    ------
    ArgumentError
        An argument is out of range.
    """
    if net.batch != 1:
        raise ArgumentError(f"a network of {net.batch} rows: generating wants one of batch=1")
    if not seed or not temperature > 0:
        raise ArgumentError(
            f"temperature {temperature}: wanted more than 0" if seed else "an empty seed: wanted a character"
        )
    power = net._output_layer().option("temperature") / temperature
    return _write(net, seed, length, power, random.Random(random_seed).random)


def _write(net, seed, length, power, draw):
    net.reset_state()
    for character in seed[:-1]:
        net.predict(one_hot(np.array([character])))
    character = seed[-1]
    for _ in range(length):
        probabilities = net.predict(one_hot(np.array([character]))).ravel()
        character = _choose(probabilities, power, draw())
        yield character


def _choose(probabilities, power, number):
    """The character that `number`, in 0..1, falls on, the likely ones having the larger shares."""
    if not np.isfinite(probabilities).all():
        raise DarknetError("the network's output is not finite")
    likely = power * np.log(np.maximum(probabilities.astype(float), _LEAST))
    shares = np.exp(likely - likely.max())
    shares /= shares.sum()
    shares[shares < _IMPROBABLE] = 0
    ends = np.cumsum(shares)
    return int(np.searchsorted(ends, number * ends[-1], side="right"))
