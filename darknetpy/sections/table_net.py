"""[net], and the options that every layer takes."""
from __future__ import annotations

from .choices import BATCHNORM_MODES, CONVOLUTIONS, DIALECT_NAMES, POLICIES, PRECISIONS, STATISTICS
from .model import (
    ABOVE_ZERO,
    ALONE,
    GPU,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SHOWN,
    SPEED,
    TRAINING,
    UNREAD,
    Derived,
    PerDialect,
    SectionType,
    choice,
    flag,
    integer,
    integers,
    number,
    numbers,
    table,
)
from .values import SEED_RANGE

BELOW_ONE = "[0, 1)"


def _ratio(key):
    return lambda values: values[key] / values["width"] if values["width"] else 0.0


_OWN = (
    choice("dialect", None, "d", "fork whose conventions hold", DIALECT_NAMES),
    choice("batchnorm", "paper", "d", "formulas of batch normalization", BATCHNORM_MODES),
    choice("statistics", "ema", "d", "what inference normalizes by, made of each mini-batch's statistics",
           STATISTICS),
    number("rolling_momentum", None, "d",
           "share of the old value in statistics=ema; .99, or with batchnorm=darknet the fork's", BELOW_ONE),
    choice("convolution", "auto", "d", "algorithm of convolutions; see docs/convolution.md", CONVOLUTIONS),
    choice("precision", "fp32", "d", "what a GPU's matrix products and convolutions multiply; sums and arrays stay float32",
           PRECISIONS),
    flag("fused", 1, "d",
         "run fused kernels; 0: compose layers of the named kernels, for reading and checking"),
    number("decay_l1", 0.0, "d", "L1 weight decay: each step moves weights towards 0 by rate times this",
           NOT_NEGATIVE),
    number("max_gradient", 0.0, "d", "largest Euclidean norm of the batch-averaged gradient; 0: no clipping",
           NOT_NEGATIVE),
    integer("seed", 0, "d", "seed of every random number of the run", SEED_RANGE),
)

_SHAPE = (
    integer("height", 0, "pah", "height of the input image", NOT_NEGATIVE, unit="pixels"),
    integer("width", 0, "pah", "width of the input image", NOT_NEGATIVE, unit="pixels"),
    integer("channels", 0, "pah", "channels of the input image", NOT_NEGATIVE),
    integer("inputs", Derived("image size", lambda v: v["height"] * v["width"] * v["channels"]), "pah",
            "values per input row; needed where rows are no images", POSITIVE),
)

_BATCH = (
    integer("batch", 1, "pah", "images per update", POSITIVE),
    integer("subdivisions", 1, "pah", "forward passes per update: each takes batch / subdivisions images",
            POSITIVE),
    integer("time_steps", 1, "pah", "steps of a sequence; multiplies the rows of a forward pass", POSITIVE),
    integer("max_batches", 0, "pah", "updates after which training ends", NOT_NEGATIVE, unit="updates"),
    integer("track", 0, "ah", "train on consecutive frames of a video",
            reason="training on video is not part of darknetpy"),
    integer("augment_speed", 2, "ah", "frames that tracking may skip; acts with track only", reason=ALONE),
    integer("sequential_subdivisions", Derived("subdivisions", lambda v: v["subdivisions"]), "ah",
            "subdivisions while tracking; acts with track only", reason=ALONE),
    flag("dynamic_minibatch", 0, "ah", "larger batches at smaller sizes in multi-scale training of detectors",
         reason=TRAINING),
    flag("notruth", 0, "p", "leave the truth off the GPU", reason=GPU),
)

_OPTIMIZER = (
    number("learning_rate", .001, "pah", "base learning rate", NOT_NEGATIVE),
    number("momentum", .9, "pah", "share of the last step that is kept", BELOW_ONE),
    number("decay", .0001, "pah", "L2 weight decay, d of d / 2 |w|^2: twice the lambda of lambda |w|^2",
           NOT_NEGATIVE),
    flag("adam", 0, "pah", "Adam instead of momentum (Darknet: on a GPU only)"),
    number("B1", .9, "pah", "Adam: decay of the first moment", BELOW_ONE),
    number("B2", .999, "pah", "Adam: decay of the second moment", BELOW_ONE),
    number("eps", PerDialect.named("adam_eps"), "pah", "Adam: added to the root of the second moment",
           ABOVE_ZERO),
    number("clip", 0.0, "p", "after an update, clip weights to plus or minus this; 0: do not", NOT_NEGATIVE),
    number("ema_alpha", 0.0, "ah",
           "share of the old value in parameters' moving averages, kept from half of max_batches on",
           BELOW_ONE),
    flag("try_fix_nan", 0, "ah", "replace NaN and clip deltas on a GPU; here NaN is an error",
         reason="a loss that is not finite is an error here, and nothing is updated"),
    integer("weights_reject_freq", 0, "ah", "every so many updates replace filters that resemble others",
            NOT_NEGATIVE, reason=TRAINING, unit="updates"),
    integer("equidistant_point", 0, "ah", "detectors: drop small deltas from this update on", NOT_NEGATIVE,
            reason=TRAINING),
    number("badlabels_rejection_percentage", 0.0, "ah", "detectors: drop the largest deltas late in training",
           NOT_NEGATIVE, reason=TRAINING),
    number("num_sigmas_reject_badlabels", 0.0, "ah", "detectors: drop deltas this many sigmas off",
           NOT_NEGATIVE, reason=TRAINING),
    number("adversarial_lr", 0.0, "ah", "step size of adversarial training", NOT_NEGATIVE, reason=TRAINING),
)

_RATE = (
    choice("policy", "constant", "pah", "how the learning rate changes", POLICIES),
    integer("burn_in", 0, "pah", "warm-up: rate * (updates / burn_in)^power until then", NOT_NEGATIVE,
            unit="updates"),
    number("power", 4.0, "pah", "exponent of burn-in, poly and random", NOT_NEGATIVE),
    integer("step", 1, "pah", "step, sigmoid: updates per step, or to the middle", POSITIVE, unit="updates"),
    number("scale", 1.0, "pah", "step: factor of each step", NOT_NEGATIVE),
    integers("steps", "pah", "steps: updates after which the rate changes, increasing", unit="updates"),
    numbers("scales", "pah", "steps: factor of each change, as many as steps", NOT_NEGATIVE),
    numbers("seq_scales", "ah", "factors of the sequence length; acts with track only", reason=ALONE),
    number("gamma", 1.0, "pah", "exp: factor of each update; sigmoid: steepness"),
    number("learning_rate_min", .00001, "ah", "sgdr: lowest rate", NOT_NEGATIVE),
    integer("sgdr_cycle", Derived("max_batches", lambda v: v["max_batches"]), "ah",
            "sgdr: length of the first cycle", POSITIVE, unit="updates"),
    integer("sgdr_mult", 2, "ah", "sgdr: each cycle is this many times as long as the last", POSITIVE),
)

_AUGMENTATION = (
    integer("max_crop", Derived("2 * width", lambda v: 2 * v["width"]), "pa",
            "longest short side of a training image", POSITIVE, unit="pixels", zoo="h"),
    integer("min_crop", Derived("width", lambda v: v["width"]), "pa",
            "shortest short side of a training image", POSITIVE, unit="pixels", zoo="h"),
    number("max_ratio", Derived("max_crop / width", _ratio("max_crop")), "p", "max_crop in widths",
           ABOVE_ZERO),
    number("min_ratio", Derived("min_crop / width", _ratio("min_crop")), "p", "min_crop in widths",
           ABOVE_ZERO),
    flag("center", 0, "p", "crop the centre of training images, not a random place"),
    flag("flip", 1, "ah", "mirror half of the training images"),
    number("angle", 0.0, "pah", "rotate training images by up to plus or minus this", "[0, 360]",
           unit="degrees"),
    number("aspect", 1.0, "pah", "change the aspect ratio by up to this factor, either way", ABOVE_ZERO),
    number("saturation", 1.0, "pah", "change the saturation by up to this factor, either way", ABOVE_ZERO),
    number("exposure", 1.0, "pah", "change the brightness by up to this factor, either way", ABOVE_ZERO),
    number("hue", 0.0, "pah", "shift the hue by up to plus or minus this", SHARE, unit="turns"),
    integer("blur", 0, "ah", "blur training images", NOT_NEGATIVE, reason=TRAINING),
    integer("gaussian_noise", 0, "ah", "add noise to training images", NOT_NEGATIVE, reason=TRAINING),
    integer("mixup", 0, "ah", "mix pairs of training images", NOT_NEGATIVE, reason=TRAINING),
    flag("cutmix", 0, "ah", "paste rectangles of other training images", reason=TRAINING),
    flag("mosaic", 0, "ah", "put four training images together", reason=TRAINING),
    flag("mosaic_bound", 0, "ah", "clip boxes to their tile; acts with mosaic only", reason=ALONE),
    flag("letter_box", 0, "ah", "detectors: keep the aspect ratio of images, as pjreddie's always do"),
    flag("contrastive", 0, "ah", "train on pairs of views of one image", reason=TRAINING),
    flag("contrastive_jit_flip", 0, "ah", "jitter and mirror the views; acts with contrastive only",
         reason=ALONE),
    flag("contrastive_color", 0, "ah", "recolour the views; acts with contrastive only", reason=ALONE),
    flag("unsupervised", 0, "a", "a label of its own for every image", reason=TRAINING),
    number("label_smooth_eps", 0.0, "ah", "classifier: share of the truth that goes to the other classes", SHARE),
    integer("random", 0, "p", "classifier: another input size every 40 batches", NOT_NEGATIVE,
            reason=TRAINING),
    number("resize_step", 32.0, "ah", "detectors: sizes of multi-scale training are multiples of this",
           ABOVE_ZERO,
           reason=TRAINING, unit="pixels"),
)

_MACHINE = (
    flag("attention", 0, "ah", "draw attention maps", reason=SHOWN),
    number("max_chart_loss", 20.0, "ah", "upper end of the chart's loss axis", reason=SHOWN),
    number("loss_scale", 1.0, "ah", "factor that keeps 16-bit gradients from vanishing (GPU)",
           reason="gradients are of 32 bits, and precision=fp16 scales what it multiplies by its size"),
    flag("use_cuda_graph", 0, "ah", "replay kernels as one graph (GPU)",
         reason="a GPU's passes are graphs by themselves; net.graph and --no-graph turn that off"),
    integer("optimized_memory", 0, "ah", "0 to 3: trade speed for GPU memory", reason=SPEED),
    number("workspace_size_limit_MB", 1024.0, "ah", "most memory that cuDNN may take",
           reason="cuDNN may take 256 MiB, whatever the network", unit="MB"),
    number("seen", None, "", "published cfgs carry it; no fork reads it", reason=UNREAD, zoo="pah"),
    number("max_epochs", None, "", "published cfgs carry it; no fork reads it", reason=UNREAD, zoo="ah"),
)

NET = SectionType(
    "net", "the network: input shape, batch, optimizer, learning rate, augmentation", "pah",
    table(*_OWN, *_SHAPE, *_BATCH, *_OPTIMIZER, *_RATE, *_AUGMENTATION,
          *_MACHINE), aliases=("network",))

# What may change while a network trains, and a checkpoint keeps.
TRAINING_NUMBERS = ("learning_rate", "learning_rate_min", "momentum", "decay", "decay_l1", "max_gradient",
                    "gamma", "scale", "power", "B1", "B2", "eps", "ema_alpha", "subdivisions", "step",
                    "burn_in", "max_batches", "sgdr_cycle", "sgdr_mult")

COMMON = (
    number("learning_rate", 1.0, "pah", "factor on the network's learning rate", NOT_NEGATIVE),
    integer("stopbackward", 0, "pah", "1: the backward pass ends here; N: it does in the first N updates",
            NOT_NEGATIVE, unit="updates"),
    flag("onlyforward", 0, "pah", "skip this layer in the backward pass"),
    flag("dontload", 0, "pah",
         "skip this layer when loading .weights; the place in the file does not advance"),
    flag("dontloadscales", 0, "pah",
         "convolutional, connected: the file lacks the layer's scales and rolling statistics"),
    flag("dontsave", 0, "p", "skip this layer when saving .weights"),
    integer("numload", 0, "p", "load only this many filters; 0: all", NOT_NEGATIVE),
    flag("truth", 0, "p", "the output becomes the truth of the layers after it"),
    number("clip", 0.0, "ah", "as [net] clip, for this layer", NOT_NEGATIVE),
    integer("dont_update", 0, "ah", "the layer does not learn in the first N updates", NOT_NEGATIVE,
            unit="updates"),
    integer("burnin_update", 0, "ah", "the layer does not learn before this many times burn_in",
            NOT_NEGATIVE),
    flag("train_only_bn", 0, "ah", "no layer up to here learns; moving statistics go on"),
    number("smooth", 0.0, "p", "smoothing of the output's delta, or of the labels in [cost] (GPU)",
           reason=GPU),
    number("show_receptive_field", 0.0, "ah", "print the receptive field", reason=SHOWN),
)
