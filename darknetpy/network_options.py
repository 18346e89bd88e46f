"""The numbers of a network: what [net] says, counters, and whether it trains."""
from __future__ import annotations

from typing import Any

import numpy as np

from darknetpy.arguments import finite_number, whole_number
from darknetpy.core import Core
from darknetpy.errors import ArgumentError
from darknetpy.sections import SECTIONS, TRAINING_NUMBERS, check_number


class NetworkOptions:
    """Numbers that the core keeps of a network; a part of :class:`darknetpy.Network`."""

    _core: Core
    _handle: Any
    _train: bool

    def _set_options(self, options):
        for name, value in options.items():
            self._core.check(self._core.lib.set_network_option(self._handle, name.encode(), finite_number(name, value)))

    def option(self, name: str) -> float:
        """Return the value of a number of [net], such as ``"momentum"``."""
        value = self._core.lib.get_network_option(self._handle, name.encode())
        if np.isnan(value):
            raise ArgumentError(f"[net] has no number option {name}")
        return value

    def set_option(self, name: str, value: float) -> None:
        """Set a number of [net] that concerns training: learning_rate, momentum, decay, decay_l1, max_gradient, ...

        Raises
        ------
        ArgumentError
            No such option, one that only a new network can have, or a value that a .cfg could not have.
        """
        self.option(name)       # there is such an option
        if name not in TRAINING_NUMBERS:
            raise ArgumentError(f"{name} is fixed once the network is made")
        try:
            self._set_options({name: check_number(SECTIONS["net"].options[name], finite_number(name, value))})
        except ValueError as error:
            raise error if isinstance(error, ArgumentError) else ArgumentError(f"{name}={value!r}: {error}") from None

    @property
    def batch(self) -> int:
        return int(self.option("batch"))

    @property
    def w(self) -> int:
        return int(self.option("width"))

    @property
    def h(self) -> int:
        return int(self.option("height"))

    @property
    def c(self) -> int:
        return int(self.option("channels"))

    @property
    def subdivisions(self) -> int:
        return int(self.option("subdivisions"))

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update, as the policy has it now."""
        return self._core.lib.get_current_rate(self._handle)

    @property
    def seen(self) -> int:
        """Rows passed forward in training so far."""
        return int(self._core.lib.get_seen(self._handle))

    @seen.setter
    def seen(self, rows: int) -> None:
        self._core.lib.set_seen(self._handle, whole_number("seen", rows))

    @property
    def updates(self) -> int:
        """Steps of the optimizer so far; Adam's bias correction counts them."""
        return int(self._core.lib.get_updates(self._handle))

    @updates.setter
    def updates(self, steps: int) -> None:
        self._core.lib.set_updates(self._handle, whole_number("updates", steps))

    @property
    def seed(self) -> int:
        """Seed of every random number of the network: dropout, crops, the policy ``random``."""
        return int(self._core.lib.get_seed(self._handle))

    @seed.setter
    def seed(self, number: int) -> None:
        self._core.lib.set_seed(self._handle, whole_number("seed", number))

    @property
    def iteration(self) -> int:
        """Updates made so far, as the learning-rate policy counts them: seen // (batch * subdivisions)."""
        return self.seen // (self.batch * self.subdivisions)

    @property
    def train(self) -> bool:
        """Whether forward passes train."""
        return self._train

    @train.setter
    def train(self, value: bool) -> None:
        self._train = bool(value)
        self._core.lib.set_network_train(self._handle, self._train)

    @property
    def graph(self) -> bool:
        """Whether a device may begin a pass as one CUDA graph."""
        return bool(self.option("graph"))

    @graph.setter
    def graph(self, value: bool) -> None:
        self._set_options({"graph": int(bool(value))})
