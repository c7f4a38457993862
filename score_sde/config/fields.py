"""The one table of fields: from it come the schema, the checks of single values, --help and docs/config.md.

A new field is a row here. What several fields ask of one another stands in validation.py and the files beside it.
"""

from typing import Any

from ml_collections import ConfigDict

from score_sde.config.rules import (
    AT_LEAST_ONE,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    PROBABILITY,
    SEED,
    WIDTHS,
    Field,
    Section,
    field,
    one_of,
    some_of,
)

Config = Any
"""A ConfigDict of the fields of `default`; they exist at run time alone, so type checkers know none of them."""

SONG_NETS = ("ncsnpp", "ddpm")
"""The U-Nets of Song et al. and Ho et al."""
U_NETS = (*SONG_NETS, "adm", "dhariwal", "edm2")
ZERO_NULL = ("dhariwal", "edm2")
"""Those whose null label is the zero vector."""
REFINE_NETS = ("ncsnv2_64", "ncsnv2_128", "ncsnv2_256", "ncsn")
WAVEGRAD = ("factors", "up_widths", "down_widths", "frames_width", "long_blocks", "level_scale")
"""The fields of network.name='wavegrad'."""
CLASSIFIERS = ("wideresnet", "adm_encoder")
"""Networks of logits, of system.name='classifier'."""
TRANSFORMER = "transformer"
"""The network of tokens, of system.name='masked'."""
POINT_NETS = ("egnn",)
"""Networks of point sets."""
AUTOENCODERS = ("mlp", "convolutional")
"""Networks that are an encoder and a decoder."""
LEVELLED = (*U_NETS, "adm_encoder")
"""Networks whose levels ch_mult says."""
ADMS = ("adm", "adm_encoder")

CHURNING = (
    "euler_maruyama", "exponential_euler_maruyama", "peaked_sde", "sde_adams_2", "sde_adams_3", "dpm_solver_pp_2m_sde",
    "dpm_solver_pp_3m_sde", "dpm_solver_pp_sde", "dpm_solver_2s_ancestral", "dpm_solver_pp_2s_ancestral",
    "adaptive_sde",
)  # fmt: skip
"""Solvers that add as much noise as sampling.churn says."""
STOCHASTIC = (*CHURNING, "gotta_go_fast", "reverse_diffusion", "ancestral", "edm")
"""Solvers that draw noise."""
ADAPTIVE_SDES = ("adaptive_sde", "gotta_go_fast")
"""Solvers of the reverse-time SDE that choose their own steps."""
RUNGE_KUTTA = ("rk45", "rk45_batch")
ADAPTIVE_DPM = ("dpm_solver_12", "dpm_solver_23", "dpm_solver_12_batch", "dpm_solver_23_batch")
ADAPTIVE_ODES = (*RUNGE_KUTTA, *ADAPTIVE_DPM)
"""Solvers of the probability-flow ODE that choose their own steps."""
ODES = (
    "euler", "heun", "ddim", "deis_2", "deis_3", "lms", "dpm_solver_2s", "dpm_solver_3s", "dpm_solver_2m",
    "dpm_solver_3m", "dpm_solver_pp_2s", "dpm_solver_pp_3s", "dpm_solver_pp_2m", "dpm_solver_pp_3m", "unipc_2",
    "unipc_3", "unipc_2_bh1", "unipc_3_bh1", "unipc_2_vary_coeff", "unipc_3_vary_coeff", "adams_2", "adams_3",
    "adams_4",
)  # fmt: skip
"""Solvers of the probability-flow ODE on a grid."""
MULTISTEP = (
    "deis_2", "deis_3", "dpm_solver_2m", "dpm_solver_3m", "dpm_solver_pp_2m", "dpm_solver_pp_3m", "unipc_2", "unipc_3",
    "unipc_2_bh1", "unipc_3_bh1", "unipc_2_vary_coeff", "unipc_3_vary_coeff", "adams_2", "adams_3", "adams_4",
    "sde_adams_2", "sde_adams_3", "dpm_solver_pp_2m_sde", "dpm_solver_pp_3m_sde",
)  # fmt: skip
"""Solvers whose last steps may be of lower order."""
MEASURING = ("ddrm", "dps", "pgdm", "diffpir", "repaint", "replacement")
"""Solvers whose steps hold a measurement."""
FLOWS = ("straight", "polynomial", "linear_vp", "cosine")
"""SDEs that carry data at t = 0 to noise at t = 1, at an even pace."""
STUDENTS = ("distilled", "consistency")
"""Systems that draw samples in few steps, as most learn of another run's score, and have no score themselves."""
CODED = ("vae", "hierarchical", "autoencoder")
"""Systems of an encoder and a decoder."""
SAMPLERS = (*STUDENTS, "adversarial", "masked", *CODED)
"""Systems that draw samples by steps of their own, and have no score."""
OWN_SOLVERS = ("few_step", "unmasking")
"""Values of sampling.solver that are a system's own steps, all in one program."""
BOUNDED = (*CODED, "latent", "masked", "vdm")
"""Systems that bound the likelihood themselves."""
TAUGHT = ("reflow", *STUDENTS)
"""Systems that learn from the score of another run, which teacher.scale guides."""
PUBLISHED_SETS = ("cifar10", "svhn", "celeba", "lsun", "ffhq", "celebahq")
DECODED = ("folder", "tfds", *PUBLISHED_SETS)
"""Values of data.name whose pictures are decoded and brought to one size."""
PRECISIONS = one_of("default", "high", "highest")
"""How exactly products of float32 are made."""

FIELDS: dict[str, Section] = {
    "": Section(
        "the run as a whole",
        {"seed": field(42, "decides initial parameters, order of the data and all noise of training", SEED)},
    ),
    "system": Section(
        "what is trained",
        {
            "name": field(
                "score", "the system: parts, losses, how samples come of them",
                one_of("score", "classifier", "reflow", "vdm", "latent", *SAMPLERS),
            )
        },
    ),
    "sde": Section(
        "the noise process",
        {
            "name": field("vp", "which SDE", one_of("vp", "subvp", "ve", "edm", *FLOWS)),
            "beta_min": field(0.1, "of vp and subvp: beta(0), per unit of time"),
            "beta_max": field(20.0, "of vp and subvp: beta(1), per unit of time"),
            "sigma_min": field(0.01, "of ve: the least noise level, in units of the network's data range"),
            "sigma_max": field(50.0, "of ve and edm: the largest noise level, in units of the network's data range"),
            "power": field(2.0, "of polynomial: alpha = (1 - t)^power", POSITIVE),
            "discrete": field(False, "a chain of num_scales noise levels (DDPM under vp, SMLD under ve)"),
            "num_scales": field(1000, "noise levels of a chain, 2 or more"),
            "schedule": field("linear", "the betas of vp's chain", one_of("linear", "cosine", "polynomial")),
        },
    ),
    "network": Section(
        "the network",
        {
            "name": field(
                "ncsnpp", "its architecture",
                one_of(
                    *U_NETS, *REFINE_NETS, "wavegrad", "perceptron", TRANSFORMER, *POINT_NETS, *CLASSIFIERS,
                    *AUTOENCODERS,
                ),
            ),
            "nf": field(
                128, "channels of the finest level; of wideresnet, of the noise level; of transformer, of every token",
                AT_LEAST_ONE,
            ),
            "ch_mult": field(
                (1, 2, 2, 2), "multipliers of nf, one per level", networks=(*LEVELLED, "convolutional")
            ),
            "num_res_blocks": field(
                4, "residual blocks per level; of transformer and egnn, in all", AT_LEAST_ONE,
                networks=(*LEVELLED, "wideresnet", "convolutional", TRANSFORMER, *POINT_NETS),
            ),
            "hidden": field(
                (400,), "widths of the dense layers; () for none", WIDTHS, element=int, networks=("mlp", "perceptron")
            ),
            "widen_factor": field(
                10, "multiplier of its levels' 16, 32 and 64 channels", AT_LEAST_ONE, networks=("wideresnet",)
            ),
            "attn_resolutions": field(
                (16,), "levels with attention, by their shorter side in pixels", networks=LEVELLED
            ),
            "up_attention": field(
                "level", "on the way up, attention once a level or after every block", one_of("level", "block"),
                networks=SONG_NETS,
            ),
            "dropout": field(
                0.1, "probability that an activation is dropped in training", FRACTION, networks=(*U_NETS, TRANSFORMER)
            ),
            "resamp_with_conv": field(True, "convolutions in DDPM's resampling", networks=(*SONG_NETS, *ADMS)),
            "conditional": field(
                True, "whether the network is told the noise level", networks=(*SONG_NETS, TRANSFORMER)
            ),
            "fir": field(True, "resampling by a FIR filter", networks=("ncsnpp",)),
            "fir_kernel": field((1, 3, 3, 1), "the filter's taps", element=float, networks=("ncsnpp",)),
            "circular": field(
                (), "axes of space that close to a circle, 0 the first, as (1,) for the longitude of [H, W]",
                element=int, networks=SONG_NETS,
            ),
            "skip_rescale": field(True, "residual sums over sqrt(2)", networks=("ncsnpp",)),
            "resblock_type": field("biggan", "residual blocks", one_of("biggan", "ddpm"), networks=("ncsnpp",)),
            "progressive": field(
                "none", "pyramid of the output", one_of("none", "output_skip", "residual"), networks=("ncsnpp",)
            ),
            "progressive_input": field(
                "none", "pyramid of the input", one_of("none", "input_skip", "residual"), networks=("ncsnpp",)
            ),
            "progressive_combine": field(
                "sum", "how the input's pyramid is joined", one_of("sum", "cat"), networks=("ncsnpp",)
            ),
            "embedding_type": field(
                "positional", "embedding of the noise level", one_of("fourier", "positional"), networks=("ncsnpp",)
            ),
            "init_scale": field(0.0, "scale of the last convolutions' initialisation", networks=("ncsnpp",)),
            "fourier_scale": field(
                16.0, "standard deviation of Fourier frequencies", networks=("ncsnpp", "wideresnet")
            ),
            "scale_by_sigma": field(False, "output over sigma", networks=(*SONG_NETS, *REFINE_NETS)),
            "nonlinearity": field(
                "swish", "activation", one_of("swish", "relu", "elu", "lrelu"), networks=(*SONG_NETS, *REFINE_NETS)
            ),
            "interpolation": field(
                "bilinear", "how RefineNets join levels", one_of("bilinear", "nearest_neighbor"), networks=REFINE_NETS
            ),
            "label_embedding": field(
                "edm", "how a class label enters: before the noise level's two layers (EDM) or behind them (ADM)",
                one_of("edm", "adm"), networks=SONG_NETS,
            ),
            "label_dropout": field(
                0.0, "probability that an example's label, or its text, is replaced by the null one in training",
                FRACTION, networks=U_NETS,
            ),
            "null_label": field(
                "row", "what the null label is: a row of its own, EDM's zero vector, or a learned vector, 0 at first",
                one_of("row", "zero", "learned"), networks=SONG_NETS,
            ),
            "text_resolutions": field(
                (), "levels whose pixels ask the text, by their shorter side in pixels", element=int, networks=SONG_NETS
            ),
            "text_width": field(64, "channels of the text's rows", AT_LEAST_ONE, networks=SONG_NETS),
            "text_layers": field(2, "transformer blocks that read the text", NOT_NEGATIVE, networks=SONG_NETS),
            "text_heads": field(
                4, "heads of attention in these and where pixels ask the text", AT_LEAST_ONE, networks=SONG_NETS
            ),
            "head_channels": field(
                64, "channels of one head of attention", AT_LEAST_ONE, networks=(*ADMS, "edm2", TRANSFORMER)
            ),
            "num_heads": field(0, "heads; 0 for as many as head_channels makes", NOT_NEGATIVE, networks=ADMS),
            "attention_order": field(
                "legacy", "how queries, keys and values lie among the channels, as in the file that is imported",
                one_of("legacy", "new", "edm"), networks=ADMS,
            ),
            "scale_shift": field(True, "the embedding scales and shifts, and is not added", networks=ADMS),
            "resblock_updown": field(True, "levels are changed within residual blocks", networks=ADMS),
            "pool": field(
                "attention", "how logits come of all pixels: by attention, or of their means",
                one_of("attention", "adaptive"), networks=("adm_encoder",),
            ),
            "factors": field(
                (5, 5, 3, 2, 2), "by which its blocks lengthen the frames, whose product is the samples of a frame",
                WIDTHS, networks=("wavegrad",),
            ),
            "up_widths": field((512, 512, 256, 128, 128), "their channels", WIDTHS, networks=("wavegrad",)),
            "down_widths": field(
                (32, 128, 128, 256, 512), "channels of the waveform, from its own rate down", WIDTHS,
                networks=("wavegrad",),
            ),
            "frames_width": field(768, "channels of the frames", AT_LEAST_ONE, networks=("wavegrad",)),
            "long_blocks": field(
                3, "blocks, the last ones, of dilations 1, 2, 4, 8 and not 1, 2, 1, 2", NOT_NEGATIVE,
                networks=("wavegrad",),
            ),
            "level_scale": field(
                5000.0, "times the noise level, in its embedding; ports of the paper have 1", POSITIVE,
                networks=("wavegrad",),
            ),
            "sublayers": field(1, "rounds of messages per block", AT_LEAST_ONE, networks=POINT_NETS),
            "edge_attention": field(True, "a gate on every message", networks=POINT_NETS),
            "coords_range": field(
                15.0, "bound of a block's step along one pair, by tanh; 0 for none", NOT_NEGATIVE, networks=POINT_NETS
            ),
            "distance_offset": field(
                1.0, "c of a step's direction (x_i - x_j) / (d_ij + c)", NOT_NEGATIVE, networks=POINT_NETS
            ),
            "neighbours": field(1.0, "what sums over the other points are divided by", POSITIVE, networks=POINT_NETS),
            "logvar_channels": field(
                128, "of the head for the loss's variance in EDM2's files; 0 for none", NOT_NEGATIVE, networks=("edm2",)
            ),
        },
    ),
    "parametrization": Section(
        "from the network's output to the score",
        {
            "prediction": field(
                "noise", "what the network predicts",
                one_of("noise", "score", "denoiser", "velocity", "difference", "posterior_mean", "edm", "boundary"),
            ),
            "label": field(
                "time", "what it is told of the noise level",
                one_of("time", "sigma", "alpha", "level", "log_sigma", "root_sigma", "gamma"),
            ),
            "learned_variance": field(False, "a second output for the variance of DDPM's chain"),
            "sigma_data": field(
                0.5, "of edm and boundary: the data's standard deviation in the network's range", POSITIVE
            ),
        },
    ),
    "data": Section(
        "what is trained on",
        {
            "name": field(
                "digits", "the source", one_of("digits", "digit_pairs", "array", "waves", "text", "xyz", *DECODED)
            ),
            "path": field("", "a file or directory, or a builder of tensorflow_datasets", free=True),
            "category": field("", "of lsun: the category"),
            "held_out": field(0, "examples kept from training where the data have no split of their own", NOT_NEGATIVE),
            "workers": field(0, "processes that decode ahead", NOT_NEGATIVE, free=True),
            "cache": field("", "directory of decoded sets; empty for the user's cache directory", free=True),
            "cache_limit": field(8.0, "largest decoded set that is kept, in GiB", NOT_NEGATIVE, free=True),
            "kind": field(
                "auto", "bytes (0 to 255), real numbers, tokens, or points; auto: by the dtype uint8, float32 or int32",
                one_of("auto", "bytes", "real", "tokens", "points"),
            ),
            "dimension": field(
                0, "of points: how many of a point's numbers are coordinates, the first; 0 for all, of xyz files 3",
                NOT_NEGATIVE,
            ),
            "shape": field(
                (), "of one example that is no picture; empty for pictures, and for what the file has", element=int
            ),
            "rank": field(
                0, "axes of space of an example, 1 to 3, with channels behind them or without; 0 to go by its shape:"
                " (L,), [H, W], [H, W, C] or [D, H, W, C]", NOT_NEGATIVE,
            ),
            "image_size": field(8, "height and width of pictures, in pixels", AT_LEAST_ONE),
            "height": field(0, "height of pictures that are not square; 0 for image_size", NOT_NEGATIVE),
            "width": field(0, "width of pictures that are not square; 0 for image_size", NOT_NEGATIVE),
            "num_channels": field(1, "channels of pictures", AT_LEAST_ONE),
            "centered": field(True, "bytes become [-1, 1] and not [0, 1]"),
            "range": field(
                "auto", "the stored values of pictures that become 0 and 255, as 0,4095; auto for the least of 1, 255,"
                " 1023, 4095, 16383 and 65535 that holds them all",
            ),
            "max_pixels": field(
                178_956_970, "largest file of a picture that is read, in pixels; decoding takes 3 bytes for each",
                AT_LEAST_ONE, free=True,
            ),
            "mean": field((), "of real data, per channel; empty for that of the training split", element=float),
            "std": field((), "of real data, per channel; empty for that of the training split", element=float),
            "missing": field(
                "refuse", "NaN in real data: an error, or mask: what is not there, left out of losses and likelihoods",
                one_of("refuse", "mask"),
            ),
            "random_flip": field(False, "mirror every second example left to right"),
            "uniform_dequantization": field(False, "uniform noise below the bytes' resolution"),
            "augmentation": field(0.0, "probability of each geometric augmentation of EDM", PROBABILITY),
            "condition": field(
                (), "what conditions, by the data's names: ('label',), ('caption',), ('embeddings',), ('field',) or"
                " ('frames',)", element=str,
            ),
            "length": field(0, "of an example: bytes of text, samples of waves", NOT_NEGATIVE),
            "rate": field(
                0, "of waveforms: samples per second, of .wav files that are read and written; 0 for no sound",
                NOT_NEGATIVE,
            ),
            "hop": field(300, "of frames of waves: samples from one to the next", AT_LEAST_ONE),
            "n_fft": field(2048, "of frames of waves: samples of a Fourier transform", AT_LEAST_ONE),
            "window": field(1200, "of frames of waves: samples of the Hann window", AT_LEAST_ONE),
            "mels": field(128, "of frames of waves: mel bands", AT_LEAST_ONE),
            "mel_low": field(20.0, "of frames of waves: where the lowest band begins, in Hz", NOT_NEGATIVE),
            "mel_high": field(
                0.0, "of frames of waves: where the highest ends, in Hz; 0 for half the rate", NOT_NEGATIVE
            ),
            "num_classes": field(0, "classes of `label`; 0 for as many as the data have", NOT_NEGATIVE),
        },
    ),
    "degradation": Section(
        "what is left of a picture: the network is shown it beside x, and learns to undo it",
        {
            "name": field(
                "none", "what is shown: means of blocks, bicubic down-sampling, grey values, or the middle alone",
                one_of("none", "box", "bicubic", "gray", "uncrop"),
            ),
            "factor": field(2, "of height and width: how much smaller it is, of uncrop the middle", AT_LEAST_ONE),
            "enlarging": field(
                "bicubic", "how what is smaller is brought to x's size", one_of("bicubic", "bilinear", "nearest")
            ),
            "first": field(False, "its channels come before x's, as SR3's, not behind them, as ADM's"),
            "noise": field(
                0.0, "training noises it at levels up to this time of the VP SDE, and tells the network; 0 for none",
                PROBABILITY,
            ),
            "level": field(0.0, "of samples: the level at which theirs is noised", PROBABILITY, free=True),
        },
    ),
    "frozen": Section(
        "trained parts of other runs, as <run>[@step][:average]; kept by their checksums",
        {
            "teacher": field("", "what a student learns from", free=True),
            "guide": field("", "of samples: a weaker score, u of guidance.scale", free=True),
            "classifier": field("", "of samples: a classifier of noisy examples", free=True),
            "autoencoder": field("", "encoder and decoder of a latent space", free=True),
        },
    ),
    "teacher": Section(
        "how a student sees frozen.teacher",
        {
            "scale": field(1.0, "lambda of u + lambda (c - u), as guidance.scale: what students learn has it fixed"),
        },
    ),
    "distillation": Section(
        "progressive distillation, of system.name='distilled'",
        {
            "steps": field(
                (8, 4, 2, 1), "of the student; several, each half of the one before, are phases, one run each",
                element=int,
            ),
            "updates": field((), "of every phase; empty for training.num_steps in each", element=int),
            "rho": field(1.0, "its times are T (i / N)^rho: 1 for even ones, 7 for edm's and ve's SDE", POSITIVE),
        },
    ),
    "adversarial": Section(
        "a denoising diffusion GAN, of system.name='adversarial'",
        {
            "steps": field(4, "of the chain, 2 or more, each a draw of the generator's", AT_LEAST_ONE),
            "latent": field(100, "numbers of z, which tell one draw from another", AT_LEAST_ONE),
            "latent_width": field(256, "of the layers between z and the generator's norms", AT_LEAST_ONE),
            "latent_layers": field(3, "of these behind the first", NOT_NEGATIVE),
            "tanh": field(True, "the generator ends in tanh, for data in [-1, 1]"),
            "critic_nf": field(128, "channels of the critic's finest level", AT_LEAST_ONE),
            "critic_ch_mult": field((1, 2, 4, 4), "multipliers of critic_nf, one per level of the critic"),
            "critic_embedding": field(256, "numbers in which the critic's noise level is embedded", AT_LEAST_ONE),
            "critic_learning_rate": field(
                1.25e-4, "the critic's, in the place of optimizer.learning_rate", POSITIVE, free=True
            ),
            "critic_beta1": field(0.5, "the critic's, in the place of optimizer.beta1", FRACTION),
            "critic_beta2": field(0.9, "the critic's, in the place of optimizer.beta2", FRACTION),
            "r1": field(0.05, "gamma of the penalty gamma / 2 |grad D|^2; 0 for none", NOT_NEGATIVE),
            "r1_every": field(15, "updates of which one has the penalty", AT_LEAST_ONE),
            "r1_rescaled": field(False, "the penalty times r1_every, as of all updates; as published not"),
        },
    ),
    "reflow": Section(
        "the pairs of noise and sample that system.name='reflow' is trained on, drawn of frozen.teacher once",
        {
            "pairs": field(10_000, "how many", AT_LEAST_ONE),
            "solver": field("adams_3", "of the teacher's probability-flow ODE", one_of(*ODES)),
            "num_steps": field(15, "its steps, on the grid that auto has for the teacher's SDE", AT_LEAST_ONE),
        },
    ),
    "consistency": Section(
        "consistency models, of system.name='consistency': f(x_t, t) is to be f(x_s, s) on a trajectory",
        {
            "pair": field(
                "data", "what leads from x_t to x_s: the example and its noise, or a step of frozen.teacher",
                one_of("data", "euler", "heun"),
            ),
            "target": field(
                "self", "whose f(x_s, s): the parameters' own, without gradient, or that of ema.averages by this name",
                one_of("self", "constant", "warmup", "half_life", "scheduled"),
            ),
            "levels": field(
                "karras", "t and s: neighbours among levels, drawn evenly or log-normally, or a share apart, t by"
                " training.times; limit: s -> t, by derivatives",
                one_of("karras", "log_normal", "share", "limit"),
            ),
            "metric": field(
                "l2", "of f(x_t, t) - f(x_s, s); of limit l2, or the tangent brought to one size",
                one_of("l1", "l2", "pseudo_huber", "normalised"),
            ),
            "huber": field(
                0.00054, "of pseudo_huber: its c over the root of an example's dimension; 0 for the norm", NOT_NEGATIVE
            ),
            "over_gap": field(False, "the loss over the difference of the two noise levels sigma / alpha"),
            "curriculum": field(
                "constant", "steps M of a trajectory, which grow from first to last, or are last",
                one_of("constant", "root", "doubling"),
            ),
            "first": field(2, "the least M", AT_LEAST_ONE),
            "last": field(150, "the largest M", AT_LEAST_ONE),
            "expansion": field(
                8.0, "of share: 1 - r_s / r_t is (1 + expansion sigmoid(-r_t)) / M, r = sigma / alpha", NOT_NEGATIVE
            ),
            "tangent_warmup": field(
                10_000, "of normalised: updates until the derivative's second term has its full weight; 0 for none",
                NOT_NEGATIVE,
            ),
        },
    ),
    "vdm": Section(
        "variational diffusion, of system.name='vdm': its noise schedule gamma(t) = -log SNR, which is learned too",
        {
            "gamma_min": field(-13.3, "gamma(0), at first where it is learned"),
            "gamma_max": field(5.0, "gamma(1), at first where it is learned"),
            "learned": field(
                "ends", "what of gamma is: its ends, by the bound; all, also the curve between, by the variance of the"
                " loss; none", one_of("none", "ends", "all"),
            ),
            "features": field(1024, "of all: hidden numbers of the curve", AT_LEAST_ONE),
            "learning_rate": field(2e-4, "gamma's, in the place of optimizer.learning_rate", POSITIVE, free=True),
            "num_scales": field(0, "steps whose bound is minimised; 0 for continuous time", NOT_NEGATIVE),
            "fourier": field(
                (), "powers n: the network is shown sin and cos of 2^n 2 pi x beside x; 6,7 as published", element=int
            ),
        },
    ),
    "vae": Section(
        "autoencoders of Gaussian latents, of system.name='vae' and, but for its shape of z, 'hierarchical'",
        {
            "latent": field((20,), "shape of z: (d,), or of convolutional also (height, width, channels)"),
            "encoder_variance": field(
                "diagonal", "of z: one number for each of its elements, or for all; constant: whatever x",
                one_of("scalar", "diagonal", "constant_scalar", "constant_diagonal"),
            ),
            "decoder_variance": field(
                "scalar", "of x: one number for all its elements, or for each; constant: whatever z",
                one_of("scalar", "diagonal", "constant_scalar", "constant_diagonal"),
            ),
            "warmup": field(0, "updates in which the KL term's weight rises from 0 to 1; 0 for none", NOT_NEGATIVE),
            "warmup_after": field(0, "updates before it, of weight 0", NOT_NEGATIVE),
            "free_bits": field(
                0.0, "nats of KL that training leaves every element of z, or every level, for nothing", NOT_NEGATIVE
            ),
        },
    ),
    "autoencoder": Section(
        "autoencoders for latent diffusion, of system.name='autoencoder', with the latents of vae.latent",
        {
            "regular": field("kl", "what keeps latents in their place: KL, or a codebook", one_of("kl", "vq")),
            "kl_weight": field(1e-6, "of kl: the weight of KL(q(z | x) || N(0, I))", NOT_NEGATIVE),
            "codes": field(512, "of vq: vectors of the codebook", AT_LEAST_ONE),
            "beta": field(0.25, "of vq: the weight that keeps latents near their codes", POSITIVE),
            "critic_weight": field(0.0, "of a critic's term, times the adaptive weight; 0 for no critic", NOT_NEGATIVE),
            "critic_start": field(0, "updates before it", NOT_NEGATIVE),
            "critic_nf": field(64, "channels of the critic's first layer", AT_LEAST_ONE),
            "critic_levels": field(3, "times that the critic halves pictures", AT_LEAST_ONE),
        },
    ),
    "latent": Section(
        "diffusion of latents, of system.name='latent'",
        {
            "joint": field(False, "encoder, decoder and prior learn together (LSGM), without frozen.autoencoder"),
            "coder": field("mlp", "of joint: the network of encoder and decoder, of vae.latent", one_of(*AUTOENCODERS)),
            "hidden": field((400,), "of mlp: widths of the dense layers; () for none", WIDTHS, element=int),
            "nf": field(32, "of convolutional: channels of the finest level", AT_LEAST_ONE),
            "ch_mult": field((1, 2, 2), "of convolutional: multipliers of nf, one per level"),
            "num_res_blocks": field(1, "of convolutional: residual blocks per level", AT_LEAST_ONE),
            "mixing": field(
                -6.0,
                "of joint: the logit of the network's share of the prior's noise at first; -15 or less: none, for good",
            ),
            "prior_updates": field(0, "of joint: updates at first in which the prior alone learns", NOT_NEGATIVE),
            "scale_images": field(
                1024, "of frozen.autoencoder: examples whose latents' standard deviation is made 1, once", AT_LEAST_ONE
            ),
        },
    ),
    "masked": Section(
        "masked discrete diffusion of tokens, of system.name='masked'",
        {
            "schedule": field(
                "loglinear", "the probability m(t) that a token is masked: t, 1 - cos(pi t / 2), sin^2(pi t / 2)",
                one_of("loglinear", "cosine", "cosine_squared"),
            ),
            "num_scales": field(
                0, "steps whose bound is minimised; 0 for continuous time, from training.t_min on", NOT_NEGATIVE
            ),
        },
    ),
    "hierarchical": Section(
        "a Markov chain of latents, of system.name='hierarchical'",
        {
            "latents": field((20, 20), "sizes of z_1, z_2 and so on upwards"),
            "balanced": field(False, "during vae.warmup, levels that have less KL are held back less"),
        },
    ),
    "training": Section(
        "the updates",
        {
            "num_steps": field(1_300_000, "updates in all", AT_LEAST_ONE, free=True),
            "batch_size": field(128, "examples per update, over all devices", AT_LEAST_ONE, free=True),
            "steps_per_call": field(1, "updates in one compiled call", AT_LEAST_ONE, free=True),
            "microbatches": field(1, "parts that a batch passes in, one after the other", AT_LEAST_ONE, free=True),
            "compute_dtype": field("float32", "of convolutions and products", one_of("float32", "bfloat16")),
            "precision": field("default", "of float32's products: the backend's fast one, or more", PRECISIONS),
            "remat": field("none", "what is computed again, for memory", one_of("none", "dots", "blocks"), free=True),
            "scan_blocks": field(False, "U-Nets: blocks that are alike compiled once, as a loop", free=True),
            "objective": field(
                "denoising", "what is minimised",
                one_of(
                    "denoising", "absolute", "implicit", "sliced", "sliced_variance_reduced", "variational", "hybrid"
                ),
            ),
            "projections": field(1, "directions of sliced score matching", AT_LEAST_ONE),
            "bound_weight": field(1e-3, "of hybrid: the weight of the bound", POSITIVE),
            "weighting": field(
                "simple", "of noise levels in the loss",
                one_of("simple", "likelihood", "velocity", "difference", "truncated_snr", "denoiser", "edm"),
            ),
            "times": field(
                "uniform", "the law of t", one_of("uniform", "likelihood", "log_normal", "levels", "between_levels")
            ),
            "p_mean": field(-1.2, "of log_normal: the mean of ln(sigma / alpha), which is logit t under straight"),
            "p_std": field(1.2, "of log_normal: its standard deviation", POSITIVE),
            "stratified": field(False, "t spread evenly over every aligned batch"),
            "t_min": field(1e-5, "the least t trained at, in the SDE's unit", POSITIVE),
            "reduce_mean": field(True, "the mean over an example's elements, not half their sum"),
            "nonfinite": field("stop", "at an update that is not finite", one_of("stop", "skip"), free=True),
            "max_skipped": field(10, "updates skipped in a row before stopping", NOT_NEGATIVE, free=True),
            "start_from": field("", "a run whose weights a new one starts with, as <run>[@step][:average]"),
            "start_strict": field(True, "whether all of these must fit; else the rest is made afresh", free=True),
        },
    ),
    "optimizer": Section(
        "Adam, for every part",
        {
            "learning_rate": field(2e-4, "after the warm-up", POSITIVE, free=True),
            "beta1": field(0.9, "decay of the first moment", FRACTION),
            "beta2": field(0.999, "decay of the second moment", FRACTION),
            "eps": field(1e-8, "added to the second moment's root", POSITIVE),
            "weight_decay": field(0.0, "decoupled, times the learning rate", NOT_NEGATIVE),
            "warmup": field(5000, "updates until the full rate; 0 for none", NOT_NEGATIVE),
            "decay": field("none", "of the rate, to 0 at training.num_steps", one_of("none", "linear")),
            "grad_clip": field(1.0, "largest norm of the gradient; negative for none"),
        },
    ),
    "ema": Section(
        "averages of the parameters, which are what is sampled",
        {
            "averages": field(
                ("constant",), "which are kept, the main one first",
                some_of("constant", "warmup", "half_life", "power", "scheduled"),
            ),
            "decay": field(0.9999, "of constant, warmup and, at its first steps, scheduled, per update", FRACTION),
            "half_life": field(500_000, "of half_life, in examples", AT_LEAST_ONE),
            "rampup": field(0.05, "of half_life: at most so much of the examples seen; 0 or less for none"),
            "power_stds": field((0.05, 0.1), "of power: widths relative to the training so far"),
            "snapshot_every": field(0, "updates between snapshots of power; 0 for none", NOT_NEGATIVE, free=True),
        },
    ),
    "parallel": Section(
        "how training is laid over devices",
        {
            "strategy": field("pmap", "copies on all devices, or a mesh", one_of("pmap", "sharded"), free=True),
            "fsdp": field(1, "of sharded: devices that share one copy; 0 for all", NOT_NEGATIVE, free=True),
            "topology": field(
                "", "of --mode forecast: v5e:4x4, h100, cpu, or several with commas; empty in other modes",
                free=True,
            ),
        },
    ),
    "sampling": Section(
        "how samples are drawn",
        {
            "solver": field(
                "euler_maruyama", "from t to s; auto chooses all by num_steps evaluations; few_step is a student's,"
                " unmasking that of tokens",
                one_of("auto", *OWN_SOLVERS, *STOCHASTIC, *ODES, *ADAPTIVE_ODES, *MEASURING, "none"),
                free=True,
            ),
            "corrector": field(
                "none", "behind every step", one_of("none", "langevin", "annealed_langevin"), free=True
            ),
            "corrector_steps": field(1, "of the corrector, per step", AT_LEAST_ONE, free=True),
            "snr": field(0.16, "of the corrector: signal-to-noise ratio", POSITIVE, free=True),
            "churn": field(1.0, "noise of the reverse SDE: 1 for Anderson's, 0 for the ODE", NOT_NEGATIVE, free=True),
            "center": field(0.5, "of peaked_sde, peaked: sigma / alpha of the most noise", POSITIVE, free=True),
            "eta": field(0.0, "of ddim: noise, 0 to 1", NOT_NEGATIVE, free=True),
            "lower_final": field(
                "published", "of multistep solvers: the last steps of order 2, then 1; published: where its own code"
                " does so", one_of("published", "always", "never"), free=True,
            ),
            "s_churn": field(40.0, "of edm: noise over the whole grid", NOT_NEGATIVE, free=True),
            "s_min": field(0.05, "of edm: the least noise level with noise added", NOT_NEGATIVE, free=True),
            "s_max": field(50.0, "of edm: the largest noise level with noise added", NOT_NEGATIVE, free=True),
            "s_noise": field(1.003, "of edm: the added noise's standard deviation", POSITIVE, free=True),
            "variance": field("small", "of ancestral steps", one_of("small", "large", "learned"), free=True),
            "num_steps": field(1000, "steps; of auto, network evaluations in all", AT_LEAST_ONE, free=True),
            "nodes": field(
                (), "of few_step for a consistency model: the times below T of its evaluations; empty for Karras'",
                element=float, free=True,
            ),
            "times": field(
                "uniform", "the grid of times",
                one_of(
                    "uniform", "quadratic", "power", "log_snr", "log_sigma", "karras", "edm_levels", "levels",
                    "betas", "peaked", "optimised",
                ),
                free=True,
            ),
            "betas": field(
                (), "of times=betas: the variances of a chain's steps, the least first; the last node is denoised",
                element=float, free=True,
            ),
            "rho": field(7.0, "exponent of power and karras", POSITIVE, free=True),
            "t_min": field(1e-3, "where sampling ends, in the SDE's unit", POSITIVE, free=True),
            "denoise": field(True, "end at E[x_0 | x], one more evaluation", free=True),
            "reference": field(False, "the official code's own arithmetic", free=True),
            "rtol": field(1e-5, "of rk45: relative tolerance", POSITIVE, free=True),
            "atol": field(1e-5, "of rk45: absolute tolerance, in the network's data range", POSITIVE, free=True),
            "dpm_rtol": field(0.05, "of dpm_solver_12 and 23: relative tolerance", POSITIVE, free=True),
            "dpm_atol": field(
                0.0078, "of dpm_solver_12 and 23: absolute, in the network's data range", POSITIVE, free=True
            ),
            "sde_rtol": field(0.02, "of adaptive_sde and gotta_go_fast: relative tolerance", POSITIVE, free=True),
            "sde_atol": field(
                0.0078, "of adaptive_sde and gotta_go_fast: absolute, in the network's data range", POSITIVE, free=True
            ),
            "label": field(
                "", "classes asked for: a number, several as 3,5, or the word each; empty for the training data's law",
                free=True,
            ),
            "points": field(
                "", "of point sets, how many: a number, several as 5,7, or the word each; empty for the training data's"
                " law", free=True,
            ),
            "decode_parts": field(
                1, "of latents: parts in which a batch of them is decoded, one after the other", AT_LEAST_ONE, free=True
            ),
            "decoder_noise": field(
                True, "of a vae and of latent.joint: with the decoder's noise, else its mean", free=True
            ),
            "caption": field(
                "", "a caption, or a file with one a line, in turn; empty for those trained on; of embeddings an .npz"
                " file of them", free=True,
            ),
            "condition": field(
                "", "a file, in turn: of frames .wav, or .npz with them; of fields .npy or .npz, empty for the data's"
                " own, held-out ones if there are any", free=True,
            ),
            "length": field(
                0, "of waveforms: samples of time of each, of overlapping windows; 0 for as many as were trained on",
                NOT_NEGATIVE, free=True,
            ),
            "num_samples": field(64, "samples of --mode sample and of grids", AT_LEAST_ONE, free=True),
            "batch_size": field(64, "samples drawn at once", AT_LEAST_ONE, free=True),
            "seed": field(0, "decides the noise; sample k depends on it and on k alone", SEED, free=True),
            "average": field("", "a name, raw, or a power's width; empty for the main one", free=True),
            "precision": field("default", "as training.precision", PRECISIONS, free=True),
        },
    ),
    "guidance": Section(
        "what samples are asked for beyond their label",
        {
            "scale": field(
                1.0, "lambda of u + lambda (c - u), c the label's score and u the null label's: 1 for c, 0 for u",
                free=True,
            ),
            "weight": field(0.0, "the same as lambda - 1, in the place of scale: 0 for none, -1 for u", free=True),
            "classifier_scale": field(
                0.0, "gamma, times the gradient of log p(label | x) of frozen.classifier: 0 for none", free=True
            ),
            "log_prob": field(
                "", "dotted path of a function x_0 -> log p(y | x_0), guided by through the denoiser; empty for none",
                free=True,
            ),
            "log_prob_scale": field(1.0, "times that function's gradient", free=True),
            "interval": field(
                (), "noise levels sigma / alpha, (low, high), between which it acts; empty for everywhere",
                element=float, free=True,
            ),
            "interval_by": field(
                "step", "decided where a step begins, as published, or at every evaluation",
                one_of("step", "evaluation"), free=True,
            ),
            "rescale": field(0.0, "share of the unguided score's deviation put back", PROBABILITY, free=True),
            "threshold": field(
                "none", "of the denoiser: clipped to the data's range, or by a quantile of each sample",
                one_of("none", "static", "dynamic"), free=True,
            ),
            "quantile": field(0.995, "of dynamic", PROBABILITY, free=True),
            "method": field(
                "auto", "the posterior score of a measurement; none for solvers whose steps hold it; auto chooses, and"
                " the solver too if that is auto",
                one_of("auto", "none", "matched", "mmps", "tmpd", "pigdm", "dps", "diffpir"), free=True,
            ),
            "products": field(3, "of matched and mmps: steps of conjugate gradients", AT_LEAST_ONE, free=True),
            "step": field(
                1.0, "of sampling.solver=dps: its zeta; of diffpir, the solver or the method: its lambda", POSITIVE,
                free=True,
            ),
            "particles": field(
                1, "for every sample, of which one is drawn by its weight: more are nearer the exact posterior",
                AT_LEAST_ONE, free=True,
            ),
            "repeats": field(3, "of sampling.solver=repaint: times that a step is made", AT_LEAST_ONE, free=True),
        },
    ),
    "measurement": Section(
        "--mode sample: y = A x + sigma_y n, which samples are to explain",
        {
            "name": field(
                "none", "the operator A", one_of("none", "inpaint", "blur", "box", "bicubic", "gray", "matrix"),
                free=True,
            ),
            "path": field(
                "", "an .npz file of y and sigma_y in the data's units, and mask, kernel or matrix; with a degradation,"
                " of the pictures y that are shown, or a run that draws them: empty for the data's own", free=True,
            ),
            "samples": field(1, "of each y: sample k answers y number k // samples", AT_LEAST_ONE, free=True),
        },
    ),
    "editing": Section(
        "--mode sample: examples noised to some level and sampled back, or what lies between two of them",
        {
            "name": field(
                "none", "SDEdit, purification (with frozen.classifier, its accuracy too), interpolation of pairs, or"
                " of a vae reconstruction, which keeps the latents too",
                one_of("none", "edit", "purify", "interpolate", "reconstruct"), free=True,
            ),
            "path": field(
                "", "an .npz file of x in the data's units, perhaps mask (1 stays), y (classes), truth", free=True
            ),
            "time": field(
                0.0, "the noise that is put in, in the SDE's unit; of interpolate, up to which pairs are encoded, 0 for"
                " the SDE's end", NOT_NEGATIVE, free=True,
            ),
            "repeats": field(1, "of edit and purify: times that this is done", AT_LEAST_ONE, free=True),
            "samples": field(
                1, "of each x: sample k is of x number k // samples; of interpolate, points from one to the other",
                AT_LEAST_ONE, free=True,
            ),
        },
    ),
    "likelihood": Section(
        "--mode likelihood",
        {
            "split": field("held_out", "whose examples", one_of("held_out", "train"), free=True),
            "num_images": field(0, "how many examples, a fixed choice; 0 for all", NOT_NEGATIVE, free=True),
            "label": field(
                "", "the class to condition on; empty for each example's own, each for all, which classifies", free=True
            ),
            "batch_size": field(128, "examples at once", AT_LEAST_ONE, free=True),
            "divergence": field(
                "rademacher", "how the divergence is taken",
                one_of("rademacher", "gaussian", "coloured", "exact"), free=True,
            ),
            "probes": field(1, "of the divergence, per evaluation", AT_LEAST_ONE, free=True),
            "dequantizations": field(2, "repetitions: of bytes with noise of their own", AT_LEAST_ONE, free=True),
            "bound_samples": field(32, "noise levels of the SDE's bound; 0 for no bound", NOT_NEGATIVE, free=True),
            "importance_samples": field(
                0, "of systems of latents: draws of the importance-weighted bound; 0 for none", NOT_NEGATIVE, free=True
            ),
            "t_min": field(1e-5, "where the ODE begins, in the SDE's unit", POSITIVE, free=True),
            "solver": field(
                "grid", "of the ODE: grid, a multistep method on times found by a pilot, or rk45; of latents rk45"
                " alone, and grid for none",
                one_of("grid", "rk45"), free=True,
            ),
            "accuracy": field(1e-3, "per dimension, of the mean on the grid against rk45's", POSITIVE, free=True),
            "rtol": field(1e-5, "rk45's relative tolerance", POSITIVE, free=True),
            "atol": field(1e-5, "rk45's absolute tolerance, in the network's data range", POSITIVE, free=True),
            "seed": field(0, "decides noise and probes", SEED, free=True),
            "average": field("", "as sampling.average", free=True),
            "precision": field("highest", "as training.precision", PRECISIONS, free=True),
        },
    ),
    "evaluation": Section(
        "held-out loss, two-sample figures, --mode evaluate",
        {
            "every": field(0, "updates between held-out losses; 0 for none", NOT_NEGATIVE, free=True),
            "precision": field("highest", "of held-out losses, as training.precision", PRECISIONS, free=True),
            "num_images": field(1024, "held-out examples, a fixed choice; 0 for all", NOT_NEGATIVE, free=True),
            "final_samples": field(0, "samples of the final two-sample figures; 0 for none", NOT_NEGATIVE, free=True),
            "num_samples": field(10_000, "samples of --mode evaluate", AT_LEAST_ONE, free=True),
            "samples": field("", "pictures in their place: a folder, zip, .npy or .npz file", free=True),
            "against": field("train", "train, held_out, or a file of statistics or of pictures", free=True),
            "num_data": field(0, "how many of the data, a fixed choice; 0 for all", NOT_NEGATIVE, free=True),
            "checkpoints": field("", "all, or steps as 1000,2000; empty for the newest", free=True),
            "averages": field((), "names as sampling.average; () for that one", free=True, element=str),
            "features": field("inception", "inception, pixels, or a function's dotted path", free=True),
            "weights": field("", "the Inception's file; empty for the installed package's", free=True),
            "preprocessing": field(
                "tf1", "how pictures are resized and scaled for it", one_of("tf1", "torch", "clean"), free=True
            ),
            "keep_features": field(False, "the samples' features stay in statistics.npz", free=True),
            "batch_size": field(0, "pictures at once through the network; 0 for what suits", NOT_NEGATIVE, free=True),
        },
    ),
    "report": Section(
        "the page about a run",
        {
            "students": field(
                (), "runs of few steps beside its solvers, as <run>[@step][:average]; a folder for all of its phases",
                free=True, element=str,
            ),
        },
    ),
    "checkpoint": Section(
        "what is kept of the state",
        {
            "every": field(10_000, "updates between checkpoints", AT_LEAST_ONE, free=True),
            "keep": field(3, "newest ones kept", AT_LEAST_ONE, free=True),
            "keep_every": field(0, "those of multiples of it are kept for good; 0 for none", NOT_NEGATIVE, free=True),
        },
    ),
    "logging": Section(
        "what is told while training",
        {
            "every": field(50, "updates between lines of the log", AT_LEAST_ONE, free=True),
            "samples_every": field(5000, "updates between grids of samples; 0 for none", NOT_NEGATIVE, free=True),
        },
    ),
}  # fmt: skip
"""Every field by section."""


def default() -> Config:
    """Every field with its default; a config file changes what is different about it and returns the rest."""
    values = {name: {n: f.default for n, f in section.fields.items()} for name, section in FIELDS.items() if name}
    return ConfigDict({n: f.default for n, f in FIELDS[""].fields.items()} | values)


ROWS: dict[str, Field] = {
    f"{name}.{n}".lstrip("."): f for name, section in FIELDS.items() for n, f in section.fields.items()
}
"""Every field by its full name, such as sampling.num_steps."""
SCHEMA: dict[str, Any] = {name: row.default for name, row in ROWS.items()}
"""Every field's default, an example of its type."""
FREE_ON_RESUME = tuple(name for name, row in ROWS.items() if row.free)
"""Fields that may change when a run is resumed."""

READ_ANEW = (
    "seed", "sampling.", "guidance.", "measurement.", "editing.", "report.", "likelihood.", "evaluation.", "logging.",
    "checkpoint.", "ema.snapshot_every", "data.workers", "training.num_steps", "training.batch_size",
    "training.steps_per_call", "training.microbatches", "training.stratified", "training.nonfinite",
    "training.max_skipped", "degradation.level",
)  # fmt: skip
"""Sections and fields that are read whenever they are used; of the others an experiment has made objects."""


def choices(name: str) -> tuple[str, ...]:
    """The words that a field may have; () for one that has none."""
    return ROWS[name].rule.choices


def network_fields(network: str) -> tuple[str, ...]:
    """The fields of `network` that the network of this name reads."""
    rows = FIELDS["network"].fields.items()
    return tuple(n for n, f in rows if n != "name" and (not f.networks or network in f.networks))
