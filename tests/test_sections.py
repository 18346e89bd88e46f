"""The option table, the values that come out of it, dialects, and `explain`."""
import glob
import re
import sys

import pytest

from darknetpy.cfg import format_cfg, parse_cfg, parse_cfg_text
from darknetpy.errors import ArgumentError, CfgError
from darknetpy.sections import SECTIONS, find_section, parse_value, resolve, section_names
from darknetpy.sections.model import FORK_NAMES, Derived, PerDialect, Row
from darknetpy.sections.values import format_value, in_range, intervals

DEBIAN_CFGS = "/usr/share/darknet/cfg"
NET = "[net]\nwidth=8\nheight=8\nchannels=3\n"
CONV = "[convolutional]\nfilters=4\n"
KNOWN = ("net convolutional connected batchnorm groupnorm layernorm maxpool avgpool local_avgpool dropout activation softmax "
         "logistic cost crop route shortcut upsample rnn gru lstm crnn conv_lstm history deconvolutional local reorg "
         "reorg3d normalization l2norm scale_channels sam implicit empty "
         "detection region yolo Gaussian_yolo iseg contrastive").split()
KEYS = [(name, key) for name in KNOWN for key in SECTIONS[name].options]
REQUIRED = {"route": "layers=0\n", **dict.fromkeys(("shortcut", "scale_channels", "sam"), "from=0\n")}


def plan(text, **how):
    return resolve(parse_cfg_text(text, "t.cfg"), **how)


def refusal(text, **how):
    with pytest.raises(CfgError) as caught:
        plan(text, **how)
    message = str(caught.value)
    assert message.startswith("t.cfg:") and "\n" not in message
    return message


def last(text, **how):
    """The values of the last layer of [net] + `text`."""
    return plan(NET + text, **how).layers[-1].values


def with_option(name, line):
    """A .cfg whose section `name` has one more line; a layer stands behind a convolution."""
    if name == "net":
        return f"{NET}{line}\n{CONV}"
    return f"{NET}{CONV}[{name}]\n{REQUIRED.get(name, '')}{line}\n"


# The table itself.

def test_the_table_knows_every_section_of_the_family():
    assert len(SECTIONS) == 40      # 37 layer types of the forks, 2 of our own, and [net]
    assert len(section_names()) == 40 + 10
    assert sorted(SECTIONS) == sorted(KNOWN)
    assert find_section("conv") is find_section("convolutional") is SECTIONS["convolutional"]
    assert find_section("network") is SECTIONS["net"] and find_section("Net") is None


def test_how_many_options_each_fork_reads():
    """The figures of a count in the forks' own sources, commits f6afaabc, 59596d78 and f684e1d7."""
    common = SECTIONS["avgpool"].options
    rows = list(common.values()) + [row for kind in SECTIONS.values() for row in kind.options.values()
                                    if row is not common.get(row.key)]
    assert len([row for row in rows if set(row.forks) & set("pah")]) == 352
    assert [sum(letter in row.forks for row in rows) for letter in "pah"] == [175, 323, 259]


def test_every_row_is_sound():
    rows = [(kind, row) for kind in SECTIONS.values() for row in kind.options.values()]
    for kind, row in rows:
        place = f"[{kind.name}] {row.key}"
        assert row.meaning and "\n" not in row.meaning and len(row.meaning) < 90, place
        assert set(row.forks + row.zoo) <= set(FORK_NAMES), place
        assert row.effect in ("effect", "fork", "note"), place
        assert bool(row.choices) == (row.kind == "choice"), place
        for default in defaults(row):
            text = format_value(default)
            assert text == "" or parse_value(row, text) == default, place


def defaults(row):
    if isinstance(row.default, PerDialect):
        return [row.default.pjreddie, row.default.alexeyab, row.default.hankai]
    return [] if isinstance(row.default, Derived) else [row.default]


def test_every_layer_takes_the_common_keys():
    common = set(SECTIONS["avgpool"].options)
    assert common == set("learning_rate stopbackward onlyforward dontload dontloadscales dontsave "
                         "numload truth clip dont_update burnin_update train_only_bn smooth "
                         "show_receptive_field".split())
    assert all(common <= set(kind.options) for kind in SECTIONS.values() if kind.name != "net")


def has_default(name, key):
    """Tell whether the default may be written; that of sgdr_cycle is 0 here, good only without sgdr."""
    fixed = ("height", "width", "channels", "sgdr_cycle")
    return SECTIONS[name].options[key].default is not None and key not in fixed


@pytest.mark.parametrize("name, key", [pair for pair in KEYS if has_default(*pair)])
def test_defaults_written_out_change_nothing(name, key):
    bare = plan(with_option(name, ""))
    values = bare.net if name == "net" else bare.layers[-1].values
    written = plan(with_option(name, f"{key}={format_value(values[key])}"), dialect=bare.dialect)
    assert (written.net if name == "net" else written.layers[-1].values) == values
    assert not written.notes and not written.warnings


@pytest.mark.parametrize("name, key", KEYS)
def test_a_typo_suggests_the_key(name, key):
    before, letter, after = key[:len(key) // 2], key[len(key) // 2], key[len(key) // 2 + 1:]
    dropped, added, replaced = before + after, before + "q" + letter + after, before + "q" + after
    swapped = before[:-1] + letter + before[-1] + after
    for typo in {dropped, added, replaced, swapped} - set(SECTIONS[name].options):
        message = refusal(with_option(name, f"{typo}=1"))
        assert f"unknown key {typo!r}; did you mean " in message and repr(key) in message
        assert f"[{name}]" in message


@pytest.mark.parametrize("name", section_names())
def test_a_typo_suggests_the_section(name):
    message = refusal(f"{NET}{CONV}[{name}q]\n")
    assert f"unknown section [{name}q]; did you mean " in message and repr(name) in message
    assert message.startswith("t.cfg:7: ") and "known: net, network, convolutional, conv" in message


def test_a_key_of_another_section_says_whose_it_is():
    assert "unknown key 'crop_width'; it is a key of [crop]" in refusal(with_option("softmax",
                                                                                    "crop_width=3"))


def test_lenient_turns_unknown_keys_into_warnings():
    found = plan(with_option("net", "filtres=3"), lenient=True)
    assert found.warnings == ["t.cfg:5: [net] unknown key 'filtres' (ignored)"]
    assert "filtres" not in found.net
    with pytest.raises(CfgError):
        plan(NET + "[convolutionel]\n", lenient=True)
    with pytest.raises(CfgError):
        plan(with_option("convolutional", "filters=-1"), lenient=True)


# Values.

@pytest.mark.parametrize("text", ["3.0", "abc", "3x", "", " 3", "1e2", "0x10", "nan", "inf", "--3", "1_0",
                                  "３", "²", "+",
                                  "99999999999", "9" * 5000, "2147483648", "-1", "0"])
def test_bad_integers(text):
    with pytest.raises(ValueError):
        parse_value(SECTIONS["convolutional"].options["filters"], text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "1e39", "1e-50", "1.2.3", "1,2", ".", "e3",
                                  "1e", "0.1f",
                                  "٣", "1 2", "0x1p3", "1e9999999999", "infinity", "-.1"])
def test_bad_numbers(text):
    with pytest.raises(ValueError):
        parse_value(SECTIONS["net"].options["learning_rate"], text)


@pytest.mark.parametrize("text, value", [("3", 3.0), (".5", .5), ("5.", 5.0), ("1e-3", .001), ("+2", 2.0),
                                         ("1E2", 100.0)])
def test_good_numbers(text, value):
    assert parse_value(SECTIONS["net"].options["learning_rate"], text) == value


@pytest.mark.parametrize("key, text, wanted", [
    ("filters", "3.0", "[convolutional] filters=3.0: wanted an integer in [1, inf)"),
    ("filters", "0", "filters=0: out of range"),
    ("size", "-3", "size=-3: out of range"),
    ("stride", "0", "stride=0: out of range"),
    ("stride_x", "0", "stride_x=0: out of range"),
    ("groups", "0", "groups=0: out of range"),
    ("dilation", "0", "dilation=0: out of range"),
    ("padding", "-1", "padding=-1: out of range"),
    ("filters", "4294967297", "filters=4294967297: too large"),
    ("pad", "2", "pad=2: wanted 0 or 1"),
    ("batch_normalize", "yes", "batch_normalize=yes: wanted 0 or 1"),
    ("activation", "leeky", "activation=leeky: unknown; did you mean 'leaky'?"),
    ("activation", "Mish", "did you mean 'mish'"),
    ("activation", "xxxxxxxxxxxx", "wanted one of linear, logistic"),
    ("learning_rate", "1e400", "learning_rate=1e400: too large for a 32-bit float"),
])
def test_messages_name_the_line_the_key_and_what_was_wanted(key, text, wanted):
    message = refusal(f"{NET}[convolutional]\n\n{key}={text}\n")
    assert message.startswith("t.cfg:7: [convolutional] ") and wanted in message


def test_long_and_unprintable_values_keep_the_message_short():
    message = refusal(with_option("net", "batch=" + "9" * 10**6))
    assert len(message) < 250
    assert "\x1b" not in refusal(with_option("net", "batch=\x1b[31m"))


@pytest.mark.parametrize("value", [".99999999999", "1", "1.5", "-.1"])
def test_dropout_of_everything_is_refused(value):
    assert "wanted a number in [0, 1)" in refusal(with_option("dropout", f"probability={value}"))


def test_intervals():
    assert intervals("[0, 1)") == ((0, False, 1, True),)
    inside = [v for v in (-2, -1, -.5, 0, .5, 1, 2) if in_range(v, "(-inf, -1] or [1, inf)")]
    assert inside == [-2, -1, 1, 2]
    assert in_range(2**64 - 1, "[0, 2^64)") and not in_range(2**64, "[0, 2^64)")
    seed = SECTIONS["net"].options["seed"]
    assert parse_value(seed, str(2**64 - 1)) == 2**64 - 1
    with pytest.raises(ValueError):
        parse_value(seed, str(2**64))


def test_lists():
    row = Row("steps", "int list", None, "pah", "m")
    assert parse_value(row, "-1,100,200") == [-1, 100, 200]
    for bad in ("1,,2", ",", "1,", "1,x", "1,2.5"):
        with pytest.raises(ValueError):
            parse_value(row, bad)


# [net].

def test_net_comes_out_typed_with_defaults():
    net = plan(NET + "batch=4\nlearning_rate=.1\nadam=1\n" + CONV).net
    assert (net["batch"], net["learning_rate"], net["adam"], net["inputs"]) == (4, .1, True, 192)
    assert (net["momentum"], net["policy"], net["power"], net["time_steps"]) == (.9, "constant", 4, 1)
    assert (net["min_crop"], net["max_crop"], net["min_ratio"], net["max_ratio"]) == (8, 16, 1, 2)
    assert (net["dialect"], net["batchnorm"], net["fused"], net["seed"], net["decay_l1"],
            net["max_gradient"]) == (
        "pjreddie", "paper", True, 0, 0, 0)


@pytest.mark.parametrize("lines, message", [
    ("batch=1\n", "t.cfg:1: [net] the input has no size: height, width, channels missing or 0"),
    ("width=3\nheight=0\nchannels=1\n", "height missing or 0"),
    ("inputs=0\n", "inputs=0: out of range"),
    (NET[6:] + "inputs=5\n", "inputs=5 contradicts height * width * channels = 192"),
    ("width=300000\nheight=300000\nchannels=3\n", "270000000000 values per image are too many"),
    ("inputs=4\nsubdivisions=0\n", "subdivisions=0: out of range"),
    ("inputs=4\npolicy=steps\nscales=.1\n", "policy=steps needs steps="),
    ("inputs=4\npolicy=steps\nsteps=1\n", "policy=steps needs scales="),
    ("inputs=4\npolicy=steps\nsteps=1,2\nscales=.1\n", "2 steps but 1 scales"),
    ("inputs=4\npolicy=steps\nsteps=5,5\nscales=1,1\n",
     "t.cfg:4: [net] steps must increase, but 5 follows 5"),
    ("inputs=4\npolicy=poly\n", "policy=poly needs max_batches="),
    ("inputs=4\npolicy=sgdr\n", "policy=sgdr needs sgdr_cycle= or max_batches="),
    ("inputs=4\npolicy=sgdr\nsgdr_mult=0\n", "sgdr_mult=0: out of range"),
    ("inputs=4\npolicy=cosine\n", "policy=cosine: unknown; wanted one of constant"),
    ("inputs=4\nstep=0\n", "step=0: out of range"),
    ("inputs=4\nmomentum=1\n", "momentum=1: out of range"),
    (NET[6:] + "min_crop=9\nmax_crop=8\n", "min_crop=9 is larger than max_crop=8"),
    ("inputs=4\nseed=-1\n", "seed=-1: out of range"),
    ("inputs=4\ndialect=alexey\n", "did you mean 'alexeyab'"),
    ("inputs=4\nbatchnorm=papr\n", "did you mean 'paper'"),
])
def test_net_refusals(lines, message):
    assert message in refusal(f"[net]\n{lines}[softmax]\n")


def test_a_network_without_layers():
    assert refusal(NET) == "t.cfg:1: [net] the network has no layer"


def test_sections_made_by_hand():
    with pytest.raises(ArgumentError):
        resolve([])
    net, conv = parse_cfg_text(NET + CONV)
    with pytest.raises(ArgumentError):
        resolve([conv])
    with pytest.raises(CfgError, match="only the first section may be"):
        resolve([net, conv, net])


def test_policies():
    for policy in "constant step exp random sigmoid".split():
        assert plan(with_option("net", f"policy={policy}")).net["policy"] == policy
    found = plan(with_option("net", "policy=steps\nsteps=-1,100,200\nscales=.1,10,.1"))
    assert (found.net["steps"], found.net["scales"]) == ([-1, 100, 200], [.1, 10, .1])
    found = plan(with_option("net", "policy=sgdr\nmax_batches=50"))
    assert (found.net["sgdr_cycle"], found.net["sgdr_mult"], found.net["learning_rate_min"]) == (50, 2, 1e-5)


def test_sig_is_taken_for_sigmoid_with_a_note():
    found = plan(with_option("net", "policy=sig"))
    assert found.net["policy"] == "sigmoid"
    assert found.notes == ["t.cfg:5: [net] policy=sig means sigmoid here; Darknet takes it for constant"]


def test_uneven_subdivisions_are_noted_with_the_numbers():
    (note,) = plan(with_option("net", "batch=65\nsubdivisions=8")).notes
    assert note == ("t.cfg:6: [net] batch=65 / subdivisions=8 is rounded down, as in Darknet: "
                    "8 images per forward pass, 64 per update")


def test_a_crop_range_that_a_default_turns_upside_down():
    found = plan(with_option("net", "max_crop=6"))
    assert [found.net[key] for key in ("min_crop", "max_crop", "min_ratio", "max_ratio")] == [6, 8, .75, 1]
    assert found.notes == ["t.cfg:5: [net] min_crop=8 is larger than max_crop=6; they are swapped"]
    assert plan(with_option("net", "min_crop=17")).net["max_crop"] == 17


def test_a_repeated_key_warns():
    found = plan(with_option("net", "batch=2\nbatch=4"))
    assert found.net["batch"] == 2
    assert found.warnings == ["t.cfg:6: [net] batch=4 is ignored: line 5 has already set 2"]
    text = "[net]\nwidth=8\nheight=8\nchannels=1\n[convolutional]\nsize=3\npad=1\nsize=3\n"
    found = resolve(parse_cfg_text(text, "t.cfg"))
    assert found.layers[0].values["size"] == 3
    assert found.warnings == ["t.cfg:8: [convolutional] size=3 is ignored: line 6 has already set 3"]


# Layers.

def test_convolutional():
    values = last("[conv]\nfilters=8\nsize=3\nstride=2\npad=1\nbatch_normalize=1\nactivation=leaky\n"
                  "groups=2\n")
    assert {key: values[key] for key in ("filters", "size", "stride", "stride_x", "stride_y", "padding",
                                         "groups")} == {
        "filters": 8, "size": 3, "stride": 2, "stride_x": 2, "stride_y": 2, "padding": 1, "groups": 2}
    assert (values["batch_normalize"], values["activation"], values["learning_rate"]) == (True, "leaky", 1)
    assert last("[conv]\n")["activation"] == "logistic"


def test_layers_know_their_type_index_and_place():
    found = plan(NET + "[conv]\n[max]\n")
    assert [(spec.type, spec.index) for spec in found.layers] == [("convolutional", 0), ("maxpool", 1)]
    error = found.layers[1].error("does not fit", "size")
    assert (str(error), error.key) == ("t.cfg:6: [max] does not fit", "size")
    found = plan(NET + "[conv]\n\nsize=9\n")
    assert str(found.layers[0].error("too large", "size")) == "t.cfg:7: [conv] too large"
    assert str(found.error("no room", "width")) == "t.cfg:2: [net] no room"


def test_pooling_defaults_follow_from_the_stride():
    values = last("[maxpool]\nstride=2\n")
    assert (values["size"], values["padding"], values["stride_x"], values["stride_y"]) == (2, 1, 2, 2)
    values = last("[local_avgpool]\nsize=3\nstride_y=4\nstride_x=-1\n")
    assert (values["size"], values["padding"], values["stride_x"], values["stride_y"]) == (3, 2, 1, 4)


def test_pad_wins_over_padding_and_dilation_needs_a_kernel():
    found = plan(NET + "[conv]\nsize=3\npad=1\npadding=3\n")
    assert found.layers[0].values["padding"] == 1
    assert found.notes == ["t.cfg:8: [conv] padding=3 is ignored: pad=1 makes it size / 2 = 1"]
    found = plan(NET + "[conv]\nsize=1\ndilation=2\n")
    assert found.layers[0].values["dilation"] == 1
    assert found.notes == ["t.cfg:7: [conv] dilation=2 is taken as 1, because size=1"]
    assert last("[conv]\nsize=3\npadding=3\ndilation=2\n")["padding"] == 3


def test_links_come_out_absolute():
    assert last(CONV * 3 + "[route]\nlayers=-1,0,-2\n")["layers"] == [2, 0, 1]
    assert last(CONV * 3 + "[shortcut]\nfrom=-3\n")["from"] == [0]
    assert last(CONV * 3 + "[shortcut]\nfrom=-3,1\n")["from"] == [0, 1]


@pytest.mark.parametrize("text, message", [
    (CONV * 3 + "[route]\nlayers=-1,-4\n",
     "t.cfg:12: [route] layers=-4 means layer -1, which is not before layer 3; "
                                           "wanted 0 to 2, or -1 to -3"),
    (CONV + "[route]\nlayers=1\n", "layers=1 means layer 1, which is not before layer 1"),
    (CONV + "[shortcut]\nfrom=99\n", "from=99 means layer 99"),
    (CONV + "[shortcut]\nfrom=-99999999999\n", "too large"),
    ("[shortcut]\nfrom=-1\n", "wanted none: this is the first layer"),
    (CONV + "[route]\n", "t.cfg:7: [route] layers= is missing"),
    (CONV + "[shortcut]\nactivation=relu\n", "from= is missing"),
    (CONV + "[route]\nlayers=0\ngroups=2\ngroup_id=2\n", "group_id=2 with groups=2; wanted 0 to 1"),
    ("[conv]\nfilters=6\ngroups=4\n", "groups=4 does not divide filters=6"),
    ("[upsample]\nstride=0\n", "wanted an integer in (-inf, -1] or [1, inf)"),
    ("[softmax]\ntemperature=0\n", "temperature=0: out of range"),
    ("[crop]\ncrop_width=0\n", "crop_width=0: out of range"),
    ("[connected]\noutput=0\n", "output=0: out of range"),
    ("[cost]\ntype=l1\n", "did you mean 'L1'"),
])
def test_layer_refusals(text, message):
    assert message in refusal(NET + text)


def test_a_long_stopbackward_is_alexeyabs():
    assert plan(NET + "[conv]\nstopbackward=1\n").notes == []
    found = plan(NET + "[conv]\nstopbackward=500\n")
    assert "means 1 in dialect=pjreddie" in found.notes[0] and found.layers[0].values["stopbackward"] == 1
    found = plan(NET + "[conv]\nstopbackward=500\n", dialect="alexeyab")
    assert found.notes == [] and found.layers[0].values["stopbackward"] == 500


# What AlexeyAB added: acts, or has no effect here.

@pytest.mark.parametrize("text, key, value", [
    ("[conv]\nstride_x=2\nstride_y=3\n", "stride_y", 3),
    ("[conv]\nsize=3\ndilation=2\n", "dilation", 2),
    ("[conv]\nactivation=mish\n", "activation", "mish"),
    ("[conv]\nactivation=normalize_channels_softmax_maxval\n", "activation",
     "normalize_channels_softmax_maxval"),
    ("[conv]\nantialiasing=0\nxnor=0\nshare_index=-1000000000\n", "antialiasing", 0),
    ("[maxpool]\nmaxpool_depth=0\nstride_x=2\n", "stride_x", 2),
    ("[local_avg]\nsize=2\n", "padding", 1),
    (CONV + "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n", "group_id", 1),
    (CONV * 2 + "[shortcut]\nfrom=-2,-1\nactivation=swish\n", "from", [0, 1]),
    (CONV + "[shortcut]\nfrom=-1\nweights_type=none\nweights_normalization=none\nactivation=relu6\n",
     "weights_type", "none"),
    (CONV + "[shortcut]\nfrom=-1\nweights_type=per_layer\nweights_normalization=avg_relu\n", "weights_type", "per_feature"),
    ("[conv]\nantialiasing=2\ncoordconv=1\n", "antialiasing", 2),
    ("[maxpool]\nmaxpool_depth=1\nout_channels=2\nantialiasing=1\n", "out_channels", 2),
    ("[dropout]\ndropblock=1\ndropblock_size_abs=3\n", "dropblock_size_abs", 3),
    ("[dropout]\ndropblock=0\n", "probability", .2),
    ("[conv]\ntrain_only_bn=1\n", "train_only_bn", True), ("[conv]\ndont_update=9\n", "dont_update", 9),
    ("[conv]\nburnin_update=2\n", "burnin_update", 2),
])
def test_alexeyab_options_that_act(text, key, value):
    found = plan(NET + text)
    assert found.layers[-1].values[key] == value
    assert found.dialect == "alexeyab" and found.notes == []


@pytest.mark.parametrize("text, key, value, note", [
    (CONV * 2 + "[conv]\nshare_index=-2\n", "share_index", 0, None),
    (CONV * 2 + "[conv]\nshare_index=1\n", "share_index", 1, None),
    ("[conv]\nxnor=1\nfilters=4\ngroups=2\nstride_x=1\n", "groups", 1, "groups=2 is taken as 1, because xnor=1"),
    ("[conv]\ncbn=1\n", "normalize", "batch", None), ("[conv]\nclip=.5\n", "clip", .5, None),
    ("[conv]\ngrad_centr=1\nbatch_normalize=1\n", "grad_centr", True, None),
    ("[conv]\ngrad_centr=1\n", "grad_centr", False, "grad_centr=1 has no effect here: it goes with batch normalization"),
])
def test_options_of_convolutions(text, key, value, note):
    found = plan(NET + text)
    assert found.layers[-1].values[key] == value
    assert [n.partition("] ")[2] for n in found.notes] == ([note] if note else [])
    if key == "share_index":
        message = refusal(NET + text.replace("share_index=", "share_index=3") if value else NET + "[conv]\nshare_index=-1\n")
        assert "which is not before layer" in message


@pytest.mark.parametrize("name, line", [
    ("net", "workspace_size_limit_MB=512"), ("net", "use_cuda_graph=1"), ("net", "max_chart_loss=5"), ("net",
                                                                                                       "seen=64"),
    ("net", "max_epochs=3"), ("net", "optimized_memory=3"), ("net", "loss_scale=128"),
    ("yolo", "delta_normalizer=2"), ("yolo", "sim_thresh=.5"), ("region", "log=1"),
    ("convolutional", "stream=1"), ("convolutional", "show_receptive_field=1"), ("convolutional", "dot=1"),
    ("crop", "shift=.2"), ("softmax", "spatial=1"), ("cost", "ratio=.5"), ("maxpool", "out_channels=2"),
    ("dropout", "dropblock_size_rel=.5"), ("dropout", "dropblock_size_abs=3"), ("shortcut", "weights_normalization=relu"),
])
def test_options_without_effect_are_noted(name, line):
    (note,) = plan(with_option(name, line)).notes
    assert re.fullmatch(rf"t\.cfg:\d+: \[{name}\] {re.escape(line)} has no effect here: .+", note)


def test_cost_types_that_darknet_needs_a_gpu_for_act_here():
    for line in ("type=seg", "type=wgan", "type=L1", "noobj=.5"):
        assert plan(with_option("cost", line)).notes == []


# Whole files.

DEBIAN = sorted(glob.glob(f"{DEBIAN_CFGS}/*.cfg"))


@pytest.mark.skipif(not DEBIAN, reason=f"no cfgs in {DEBIAN_CFGS} (Debian package darknet)")
def test_debians_cfgs_resolve():
    for file in DEBIAN:
        sections = parse_cfg(file)
        assert parse_cfg_text(format_cfg(sections)) == sections
        found = resolve(sections)
        assert found.dialect == "pjreddie" and len(found.layers) == len(sections) - 1


def test_work_grows_with_the_number_of_sections():
    """Not with its square: twice the sections, twice the calls."""

    def calls(n):
        sections, count = parse_cfg_text(NET + "[convolutional]\nfilters=4\nsize=3\nactivation=leaky\n" * n), 0

        def counting(frame, event, argument):
            nonlocal count
            count += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(counting)
        try:
            assert len(resolve(sections).layers) == n
        finally:
            sys.setprofile(before)
        return count

    assert calls(1000) < 2.1 * calls(500)
