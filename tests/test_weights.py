"""Darknet's .weights files: layout, switches, refusals.  Side by side with Darknet itself: test_darknet_peer.py."""
from __future__ import annotations

import os
import struct

import numpy as np
import pytest

import darknetpy as dn
from darknetpy.errors import ArgumentError, CfgError, WeightsError
from darknetpy.weights import HEADER_BYTES, Header, expected_bytes, load_weights, read_header

NET = "[net]\nbatch=2\nwidth=4\nheight=3\nchannels=2\n"
CONVOLUTION = "[convolutional]\nfilters=3\nsize=3\npad=1\nbatch_normalize={bn}\nactivation=leaky\n"
CONNECTED = "[connected]\noutput=4\nbatch_normalize={bn}\nactivation=linear\n"
ALL = NET + CONVOLUTION.format(bn=1) + "[maxpool]\n" + CONVOLUTION.format(bn=0) + "[batchnorm]\n" + CONNECTED.format(bn=1) \
    + CONNECTED.format(bn=0) + "[softmax]\n"


@pytest.fixture
def make(tmp_path):
    """Build a network from the text of a .cfg; its values are all different from each other and from any other network's."""
    def make(text=ALL, seed=1, **options):
        path = tmp_path / "net.cfg"
        path.write_text(text)
        net = dn.load_network(path, **options)
        rng = np.random.default_rng(seed)
        for layer in net.layers:
            for name, array in layer.arrays("parameter", "statistic").items():
                if layer.type != "batchnorm" or name != "biases" or net.dialect == "alexeyab":
                    array[...] = rng.uniform(.5, 1.5, array.shape)
        return net
    return make


@pytest.fixture
def file(tmp_path):
    return tmp_path / "x.weights"


def values(net):
    return [array.copy() for layer in net.layers for array in layer.arrays("parameter", "statistic").values()]


def same(net, before):
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(values(net), before))


def body(*arrays):
    return b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in arrays)


HEAD = struct.pack("<iiiQ", 0, 2, 0, 0)


# ---- layout
def test_save_writes_darknets_order(make, file):
    net = make()
    net.seen = 2**40 + 1
    net.save_weights(file)
    first, _, second, norm, connected, bare, _ = net.layers
    expected = struct.pack("<iiiQ", 0, 2, 0, 2**40 + 1) + body(
        first.biases, first.scales, first.rolling_mean, first.rolling_variance, first.weights, second.biases, second.weights,
        norm.scales, norm.rolling_mean, norm.rolling_variance,
        connected.biases, connected.weights, connected.scales, connected.rolling_mean, connected.rolling_variance,
        bare.biases, bare.weights)
    assert file.read_bytes() == expected
    assert expected_bytes(net) == len(expected)


def test_alexeyab_files_hold_batchnorm_biases_and_revision_5(make, file):
    net = make(dialect="alexeyab")
    net.save_weights(file)
    norm = net["batchnorm_3"]
    assert read_header(file) == Header(0, 2, 5, 0, 20)
    assert body(norm.biases, norm.scales, norm.rolling_mean, norm.rolling_variance) in file.read_bytes()
    assert os.path.getsize(file) == expected_bytes(make()) + 4 * 3
    other = make(seed=2, dialect="alexeyab")
    other.load_weights(file)
    assert same(other, values(net))


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_load_gives_back_what_was_saved(make, file, dialect):
    net = make(dialect=dialect)
    net.seen = 12345
    net.save_weights(file)
    other = make(seed=2, dialect=dialect)
    assert not same(other, values(net))
    other.load_weights(file)
    assert same(other, values(net)) and other.seen == 12345


@pytest.mark.parametrize("version, seen, form", [((0, 1, 0), 2**32 - 1 >> 1, "<I"), ((0, 2, 0), 2**63 - 1, "<Q"), ((0, 2, 5), 7, "<Q"),
                                                 ((2000, 0, 0), 7, "<I"), ((0, 2000, 3), 7, "<I")])
def test_headers_of_both_widths(make, file, version, seen, form):
    net = make(NET + CONVOLUTION.format(bn=0))
    before = values(net)
    file.write_bytes(struct.pack("<iii", *version) + struct.pack(form, seen) + body(*before))
    assert read_header(file) == Header(*version, seen, 12 + struct.calcsize(form))
    other = make(NET + CONVOLUTION.format(bn=0), seed=2)
    other.load_weights(file)
    assert same(other, before) and other.seen == seen


def test_files_from_before_versions_have_connected_weights_transposed(make, file):
    """They begin with the floats learning rate, momentum and decay."""
    net = make(NET + CONVOLUTION.format(bn=0) + CONNECTED.format(bn=1))
    convolution, connected = net.layers
    before = values(net)
    file.write_bytes(struct.pack("<fffI", .01, .9, .0005, 99) + body(
        convolution.biases, convolution.weights, connected.biases, connected.weights.T,
        connected.scales, connected.rolling_mean, connected.rolling_variance))
    other = make(NET + CONVOLUTION.format(bn=0) + CONNECTED.format(bn=1), seed=2)
    other.load_weights(file)
    assert same(other, before) and other.seen == 99


def test_a_network_made_by_hand(file):
    nets = []
    for _ in range(2):
        net = dn.Network(2, 4, 3, 2, train=True)
        net.add(dn.make_convolutional_layer(2, 3, 4, 2, 3, size=3, padding=1, batch_normalize=1))
        nets.append(net)
    nets[0].layers[0].rolling_mean[:] = [1, 2, 3]
    nets[0].save_weights(file)
    nets[1].load_weights(file)
    assert same(nets[1], values(nets[0]))
    file.write_bytes(b"\0" * 3)
    with pytest.raises(WeightsError, match="3 bytes, wanted a .weights header"):
        nets[1].load_weights(file)


# ---- switches of single layers
def test_dontload_skips_the_layer_but_nothing_in_the_file(make, file):
    text = NET + CONVOLUTION.format(bn=1) + "dontload=1\n" + CONVOLUTION.format(bn=0)
    net, source = make(text), make(text, seed=2)
    mine, theirs = values(net), values(source)
    file.write_bytes(HEAD + body(*theirs[5:]))
    net.load_weights(file)
    assert same(net, mine[:5] + theirs[5:])


def test_dontsave_leaves_the_layer_out(make, file):
    net = make(NET + CONVOLUTION.format(bn=1) + "dontsave=1\n" + CONVOLUTION.format(bn=0))
    net.save_weights(file)
    assert file.read_bytes() == HEAD + body(*values(net)[5:])


@pytest.mark.parametrize("kind, kept", [(CONVOLUTION, (1, 2, 3)), (CONNECTED, (2, 3, 4))])
def test_dontloadscales_neither_reads_nor_skips(make, file, kind, kept):
    text = NET + kind.format(bn=1) + "dontloadscales=1\n"
    net, source = make(text), make(text, seed=2)
    mine, theirs = values(net), values(source)
    file.write_bytes(HEAD + body(*(theirs[i] for i in range(5) if i not in kept)))
    net.load_weights(file)
    assert same(net, [mine[i] if i in kept else theirs[i] for i in range(5)])


def test_numload_reads_the_first_filters(make, file):
    text = NET + CONVOLUTION.format(bn=1) + "numload=2\n" + CONVOLUTION.format(bn=0)
    net, source = make(text), make(text, seed=2)
    mine, theirs = values(net), values(source)
    file.write_bytes(HEAD + body(*(array[:2] for array in theirs[:5]), *theirs[5:]))
    net.load_weights(file)
    assert same(net, [np.concatenate([b[:2], a[2:]]) for a, b in zip(mine[:5], theirs[:5])] + theirs[5:])


@pytest.mark.parametrize("switch", ["", "dontload=1\n", "numload=2\n", "dontloadscales=1\n"])
def test_what_the_file_lacks_has_its_start_values(file, tmp_path, switch):
    """A network made with its weights is one made without them, and loaded."""
    text = NET + CONVOLUTION.format(bn=1) + switch + CONVOLUTION.format(bn=0) + "[rnn]\noutput=5\nhidden=4\n"
    path = tmp_path / "net.cfg"
    path.write_text(text)
    loaded = dn.load_network(path, lenient=True)
    file.write_bytes(HEAD + np.random.default_rng(3).random((expected_bytes(loaded) - len(HEAD)) // 4, np.float32).tobytes())
    loaded.load_weights(file)
    at_once = dn.load_network(path, file, lenient=True)
    assert same(at_once, values(loaded)) and len(values(loaded)) > 12
    assert [part.index for part in at_once.layers[-1].parts.values()] == [len(at_once.layers) - 1] * 3


def test_numload_beyond_the_filters_names_the_line(make, file):
    net = make(NET + CONVOLUTION.format(bn=1) + "numload=4\n")
    file.write_bytes(HEAD + bytes(4096))
    with pytest.raises(CfgError, match=r"net.cfg:12: \[convolutional\] numload=4: wanted at most filters=3"):
        net.load_weights(file)


def test_flipped_weights_are_stored_transposed(make, file):
    text = NET + CONVOLUTION.format(bn=0) + "flipped=1\n"
    net, source = make(text), make(text, seed=2)
    biases, weights = values(source)
    stored = weights.reshape(3, 2 * 3 * 3).T
    file.write_bytes(HEAD + body(biases, stored))
    net.load_weights(file)
    assert same(net, [biases, weights])
    source.save_weights(file)
    assert file.read_bytes() == HEAD + body(biases, stored)


# ---- parts of networks
def test_cutoff_and_start(make, file):
    net, source = make(), make(seed=2)
    mine, theirs = values(net), values(source)
    source.save_weights(file)
    net.load_weights(file, cutoff=3)
    assert same(net, theirs[:7] + mine[7:])
    net.load_weights(file, cutoff=99)
    assert same(net, theirs)
    source.save_weights(file, cutoff=3)
    assert file.read_bytes() == HEAD + body(*theirs[:7])
    with pytest.raises(WeightsError, match=r"the file ends after layer 2 \[convolutional\]; cutoff=3 loads the layers up to it"):
        net.load_weights(file)
    file.write_bytes(HEAD + body(*theirs[-2:]) + b"more")
    net = make()
    net.load_weights(file, start=5)
    assert same(net, mine[:-2] + theirs[-2:])
    os.truncate(file, 40)
    with pytest.raises(WeightsError, match="found 40"):
        net.load_weights(file, start=5)


@pytest.mark.parametrize("options", [{"cutoff": -1}, {"cutoff": 1.5}, {"cutoff": True}, {"start": "1"}, {"start": -1}])
def test_cutoff_and_start_must_be_layer_numbers(make, file, options):
    net = make()
    net.save_weights(file)
    with pytest.raises(ArgumentError, match="wanted the number of a layer"):
        load_weights(net, file, **options)


def test_biases_of_batchnorm(make, file):
    """pjreddie's files have no place for them: they cannot be saved, and a loaded network has none."""
    net = make()
    net.save_weights(file)
    before = file.read_bytes()
    net["batchnorm_3"].biases[1] = .25
    with pytest.raises(WeightsError, match=r"layer 3 \[batchnorm\] has biases .* use dialect=alexeyab"):
        net.save_weights(file)
    assert file.read_bytes() == before
    net.save_weights(file, cutoff=3)
    file.write_bytes(before)
    net.load_weights(file)
    assert not net["batchnorm_3"].biases.any()


# ---- refusals
def refused(net, file, match, **options):
    before, seen = values(net), net.seen
    with pytest.raises(WeightsError, match=match) as caught:
        net.load_weights(file, **options)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)
    assert same(net, before) and net.seen == seen, "a refused file has changed the network"


@pytest.mark.parametrize("text", [ALL, NET + CONVOLUTION.format(bn=0), NET + CONNECTED.format(bn=1)])
def test_every_wrong_length_is_refused(make, file, text):
    source, net = make(text, seed=2), make(text)
    source.seen = 640
    source.save_weights(file)
    good = file.read_bytes()
    before = values(net)
    for length in [*range(len(good)), *range(len(good) + 1, len(good) + 65)]:
        file.write_bytes(good[:length] + bytes(max(length - len(good), 0)))
        with pytest.raises(WeightsError, match="empty" if not length else "wanted a .weights header" if length < 20 else
                           rf"^{file}: expected {len(good)} bytes for .*net.cfg, found {length}: "):
            net.load_weights(file)
    assert same(net, before) and net.seen == 0
    file.write_bytes(good)
    net.load_weights(file)
    assert same(net, values(source))


def test_a_wrong_length_names_the_layer(make, file):
    net = make(NET + 2 * CONVOLUTION.format(bn=0))
    net.save_weights(file)
    end = 20 + 4 * (3 + 54)
    os.truncate(file, end + 10)
    refused(net, file, rf"found {end + 10}: the file ends inside layer 1 \[convolutional\], which ends at byte {end + 4 * (3 + 81)}$")
    file.write_bytes(HEAD + bytes(1000))
    refused(net, file, rf"found 1020: layer 1 \[convolutional\], the last with weights, ends at byte {end + 4 * (3 + 81)}$")


def test_another_forks_file_is_explained(make, file):
    make(dialect="alexeyab").save_weights(file)
    refused(make(dialect="pjreddie"), file, r"found .* \(its header says revision 5, but the network is of dialect pjreddie, revision 0")


FOREIGN = {
    b"": "an empty one", b"<!DOCTYPE html><html><head><title>404</title>": r"a web page \(a download", b"\n  <html>\n": "a web page",
    b"hello, this is no network\n": "text", b"\xef\xbb\xbf[net]\nbatch=1\nwidth=2\n": "text",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00": "a Git LFS pointer", b"PK\x03\x04" + bytes(60): "a zip archive",
    b"\x1f\x8b\x08" + bytes(60): "a gzip file", b"\x89PNG\r\n\x1a\n" + bytes(60): "a PNG image",
    b"\x89DNCKPT1" + bytes(60): "a checkpoint of darknetpy: load_checkpoint reads it",
}


@pytest.mark.parametrize("start", FOREIGN)
def test_foreign_files_are_named(make, file, start):
    file.write_bytes(start)
    refused(make(), file, f"not a .weights file but {FOREIGN[start]}")
    file.write_bytes(start * 200)
    refused(make(), file, f"not a .weights file but {FOREIGN[start]}")


@pytest.mark.parametrize("version", [(0, 0, 0), (0, 3, 0), (1, 0, 0), (-1, 2, 0), (0, -2, 0), (0, 2, 6), (0, 2, -1), (0, 2, 2**31 - 1),
                                     (1000, 1000, 0), (-5, 5000, 0), (0x464c457f, 0, 0)])
def test_unknown_versions_are_refused(make, file, version):
    net = make()
    net.save_weights(file)
    good = file.read_bytes()
    file.write_bytes(struct.pack("<iii", *version) + good[12:])
    refused(net, file, "byte 0: unknown version" if version[0] != 0x464c457f else "a program")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("text, at", [(NET + CONVOLUTION.format(bn=1), 7), (NET + CONVOLUTION.format(bn=0) + "flipped=1\n", 3 + 4)])
def test_values_that_are_not_finite(make, file, value, text, at):
    net = make(text)
    net.save_weights(file)
    data = bytearray(file.read_bytes())
    offset = HEADER_BYTES + 4 * at
    struct.pack_into("<f", data, offset, value)
    file.write_bytes(data)
    name = "rolling_mean" if "batch_normalize=1" in text else "weights"
    refused(net, file, rf"byte {offset}: {value} in layer 0 \[convolutional\] {name}; allow_nonfinite=True loads it")
    net.load_weights(file, allow_nonfinite=True)
    assert np.array_equal(getattr(net.layers[0], name)[~np.isfinite(getattr(net.layers[0], name))], [np.float32(value)], equal_nan=True)


@pytest.mark.parametrize("version, form, seen", [(2, "<Q", 2**63), (2, "<Q", 2**64 - 1), (1, "<I", 2**31), (1, "<I", 2**32 - 1)])
def test_seen_out_of_range(make, file, version, form, seen):
    net = make()
    file.write_bytes(struct.pack("<iii", 0, version, 0) + struct.pack(form, seen) + body(*values(net)[:7], *values(net)[8:]))
    refused(net, file, rf"byte 12: {seen} images seen is out of range; -clear")
    load_weights(net, file, clear=True)
    assert net.seen == 0


def test_what_is_no_regular_file(make, tmp_path):
    net = make()
    os.mkfifo(tmp_path / "pipe")
    for name, kind in ((".", IsADirectoryError), ("pipe", OSError), ("missing", FileNotFoundError)):
        with pytest.raises(kind) as caught:
            net.load_weights(tmp_path / name)
        assert caught.value.errno and str(tmp_path) in str(caught.value)


def test_damaged_bytes_never_do_more_than_refuse(make, file):
    """A thousand files with a few bytes changed, at random, mostly in the header."""
    net = make()
    net.save_weights(file)
    good, rng = file.read_bytes(), np.random.default_rng(0)
    accepted = 0
    for _ in range(1000):
        data = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(0, 20 if rng.random() < .7 else len(data))] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        file.write_bytes(data)
        before = values(net)
        try:
            net.load_weights(file)
            accepted += 1
        except WeightsError as error:
            assert "\n" not in str(error) and same(net, before)
    assert 0 < accepted < 1000
