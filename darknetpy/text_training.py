"""Training a network to predict text; see :class:`darknetpy.training.Trainer`."""

from __future__ import annotations

import contextlib
import math

from darknetpy.text import code_lengths, measure, require_text, time_steps
from darknetpy.training import Trainer
from darknetpy.training_log import TextRecord


class TextTrainer(Trainer):
    """Trains a network to tell the next character of a text from those before it.

    Each sequence of the mini-batch reads on where it stopped in the one before, with the state that it had
    there.
    """

    record, command = TextRecord, "rnn train"
    lower_is_better = True  # bits per character

    def open_data(self):
        net = self.net
        require_text(net)
        self._steps = time_steps(net)
        if self._steps < 2:
            raise net.sections.error(
                "time_steps= is missing: wanted how many characters gradients go back, such as time_steps=32",
                "time_steps",
            )
        self._bits = []
        return None, self.source.train, self.source.valid

    def _loader(self):
        return contextlib.nullcontext(self._batches())

    def _batches(self):
        sequences = self.net.batch // self._steps
        while True:
            yield self.train.batch(self.net.seen // sequences, self._steps, sequences)

    def observe(self, batch):
        self._bits.append(float(code_lengths(self.net, batch.truth).mean()))

    def figures(self):
        bits, self._bits = math.fsum(self._bits) / len(self._bits), []
        return {"bits": bits}

    def measure(self, should_stop):
        return measure(self.net, self.valid, should_stop)

    @staticmethod
    def report(result):
        measured = (
            result.accuracy.figures()
            if result.accuracy
            else {"bits_per_character": None, "perplexity": None, "characters": None}
        )
        return {**measured, "best_bits_per_character": result.best, "best_iteration": result.best_iteration}

    @staticmethod
    def best_text(best):
        return f"{best:.3f} bits per character"
