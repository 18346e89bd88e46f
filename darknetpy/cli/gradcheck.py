"""``darknetpy gradcheck CFG``: are the gradients of this network right?"""
from __future__ import annotations

from darknetpy.builder import build_network
from darknetpy.cli import common
from darknetpy.cli.parser import not_negative, positive
from darknetpy.core import double_core
from darknetpy.threads import get_num_threads

_DESCRIPTION = """Build the network in double precision, with random input and truth, and compare what the backward pass
says of some values of every array with differences of the loss. Every layer's gradients are proven by the tests; this
does it for a network of yours. One line per array; the last names the worst entry. Exit status 1 if it is above 1e-5."""
# Two rows have nothing to be compared with in [contrastive], and are plus and minus one once normalized.
_FEW_VALUES = {"contrastive", "rnn", "gru", "lstm", "crnn"}
_EXAMPLE = """examples:
  darknetpy gradcheck fashion-mnist.cfg
  darknetpy gradcheck resnet50.cfg --side 64 --samples 2"""


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser("gradcheck", help="compare a network's gradients with differences of its loss",
                                   description=_DESCRIPTION, epilog=_EXAMPLE)
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    parser.add_argument("--samples", type=positive, metavar="N", default=5, help="values of each array to look at (default 5)")
    parser.add_argument("--batch", type=positive, metavar="N",
                        help="rows (default 2, or 4 with recurrent layers and [contrastive], per time step)")
    parser.add_argument("--side", type=positive, metavar="N", help="width and height of the input, instead of the file's")
    parser.add_argument("--seed", type=not_negative, metavar="N", default=0, help="seed of parameters, input and choice (default 0)")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads (default: every CPU); changes no result")
    parser.add_argument("--json", action="store_true", help="print figures as JSON, nothing else on standard output")
    common.add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    import numpy as np

    from darknetpy.gradcheck import LIMIT, check_gradients, randomize, replace_constants

    plan = common.read_plan(args, width=args.side, height=args.side, seed=args.seed)
    if plan.batchnorm == "darknet":
        raise plan.error("batchnorm=darknet has Darknet's backward formulas, which are no derivatives; "
                         "check with --batchnorm paper", "batchnorm")
    core = double_core()
    core.lib.dn_set_num_threads(args.threads or get_num_threads())
    rows = 4 if _FEW_VALUES & {spec.type for spec in plan.layers} else 2
    net = build_network(plan, batch=args.batch or rows * plan.net["time_steps"], train=True, core=core)
    common.show_notes(net.notes + replace_constants(net))
    randomize(net, np.random.default_rng(args.seed))
    checks = []
    for check in check_gradients(net, args.samples, args.seed):
        checks.append(check)
        if not args.json:
            kinks = f", {check.kinks} at a kink" if check.kinks else ""
            print(f"{check.error:8.1e}  {check.name}: {check.checked} of {check.values} values{kinks}", flush=True)
    worst = max(checks, key=lambda check: check.error)
    right = worst.error <= LIMIT
    if args.json:
        common.print_json({"cfg": args.cfg, "limit": LIMIT, "right": right, "worst": worst._asdict(),
                           "arrays": [check._asdict() for check in checks]})
    else:
        print(_verdict(worst, right))
    return 0 if right else 1


def _verdict(worst, right):
    if worst.place is None:
        return "no error at all"
    place = ", ".join(map(str, worst.place))
    return (f"largest relative error {worst.error:.1e}, {'right' if right else 'WRONG'}: {worst.name}[{place}]: "
            f"backward {worst.backward:.9g}, differences {worst.differences:.9g}")
