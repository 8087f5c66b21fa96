"""How to build every component, small: laws are functions over these tables.

A component that is exported but missing here fails `tests/test_coverage.py`. Losses are those that the configs compose.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from narrows import corruptions, inputs
from narrows.bottlenecks.categorical import Categorical, Joint
from narrows.bottlenecks.deterministic import Deterministic
from narrows.bottlenecks.discrete import ResidualVQ, VectorQuantizer
from narrows.bottlenecks.entropy import EntropyBottleneck
from narrows.bottlenecks.experts import MixtureOfExperts, MixtureOfProductsOfExperts, ProductOfExperts
from narrows.bottlenecks.flow import FlowPosterior, FlowPrior
from narrows.bottlenecks.gaussian import Gaussian
from narrows.bottlenecks.gumbel import GumbelVQ
from narrows.bottlenecks.hierarchical import HierarchicalVQ
from narrows.bottlenecks.hyperprior import ScaleHyperprior
from narrows.bottlenecks.hyperspherical import Hyperspherical
from narrows.bottlenecks.ladder import Ladder
from narrows.bottlenecks.logistic_normal import LogisticNormal
from narrows.bottlenecks.lookup_free import FSQ, LFQ
from narrows.bottlenecks.mixture import GaussianMixture
from narrows.bottlenecks.sparse import BatchTopK, GatedSAE, JumpReLU, TopK
from narrows.config.building import build
from narrows.config.composition import choice_files, config_dir
from narrows.config.hydra_versions import VERSION_BASE
from narrows.decoders.mlp import MLPDecoder
from narrows.densities.autoregressive import AutoregressiveCodes
from narrows.densities.by_class import ClassMixtures
from narrows.densities.flow import FlowDensity
from narrows.densities.gaussians import GaussianDensity, MixtureDensity
from narrows.densities.pseudo_inputs import VampDensity
from narrows.densities.second_stage import SecondStage
from narrows.encoders.mlp import MLPEncoder
from narrows.layers.feature_networks import FeatureNetwork
from narrows.likelihoods import counts, elementwise, normal
from narrows.likelihoods.parts import PartsLikelihood
from narrows.likelihoods.table_row import MixedLikelihood
from narrows.losses import Objective, Term
from narrows.losses.adversarial import LatentAdversary, OutputAdversary, TotalCorrelationCritic
from narrows.losses.aggregate import DIP, DimensionwiseKL, MutualInformation, TotalCorrelation
from narrows.losses.critic import Critic
from narrows.losses.discrepancy import MMD
from narrows.losses.divergence import KL, Capacity, Rate
from narrows.losses.experts import StratifiedELBO, SubsampledELBO
from narrows.losses.geometry import Contraction, DecoderContraction
from narrows.losses.importance import ImportanceWeighted
from narrows.losses.norms import DecoderNorm, LatentNorm
from narrows.losses.perceptual import Perceptual
from narrows.losses.quantisation import CodebookDistance, CodeKL, Commitment, LookupFreeEntropy
from narrows.losses.reconstruction import HiddenNegativeLogLikelihood, NegativeLogLikelihood
from narrows.losses.similarity import MultiScaleSSIM
from narrows.losses.sound import SignalToNoise, SpectralDistance
from narrows.losses.sparsity import (
    L0,
    L1,
    AuxK,
    GateL1,
    GateReconstruction,
    MatryoshkaReconstruction,
    SparseKL,
)
from narrows.losses.vicinity import Vicinity
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.schedules import Constant, Cyclical, Linear
from narrows.types import Batch, Column, DataSpec

Build = Callable[..., Any]

IMAGE = DataSpec(shape=(1, 8, 8), kind="image", size=100, value_range=(0.0, 1.0))
SERIES = DataSpec(shape=(2, 12), kind="series", size=100)
TABLE = DataSpec(
    shape=(8,),
    kind="vector",
    size=100,
    columns=[
        *(Column("height", "numeric"), Column("colour", "categorical", 3), Column("paid", "binary")),
        *(Column("weight", "numeric"), Column("side", "categorical", 2)),
    ],
)

COUNTS = DataSpec(
    shape=(9,), kind="counts", size=100, num_classes=3, value_range=(0.0, float("inf")), totals=(2.5, 0.4)
)

TOKENS = DataSpec(shape=(9,), kind="tokens", size=100, vocabulary=["<end>", "<unk>", *"abcde"], variable=True, end=0)

SOUND = DataSpec(shape=(1, 96), kind="audio", size=100, value_range=(-1.0, 1.0), rate=800)

BOTTLENECKS: dict[str, Build] = {
    "deterministic": partial(Deterministic, dim=5),
    "deterministic_sigmoid": partial(Deterministic, dim=5, activation="sigmoid"),
    "topk": partial(TopK, dim=9, k=3),
    "batch_topk": partial(BatchTopK, dim=9, k=3),
    "jumprelu": partial(JumpReLU, dim=9, threshold=0.01, bandwidth=1.0),
    "gated_sae": partial(GatedSAE, dim=9),
    "gaussian": partial(Gaussian, dim=5),
    "logistic_normal": partial(LogisticNormal, dim=5, concentration=0.3),
    "logistic_normal_plain": partial(LogisticNormal, dim=5, norm=False),
    "gaussian_mixture": partial(GaussianMixture, dim=5, components=3),
    "flow_posterior": partial(FlowPosterior, dim=5, hidden=[12]),
    "flow_posterior_maf": partial(FlowPosterior, dim=5, flow="maf", hidden=[12]),
    "flow_posterior_nsf": partial(FlowPosterior, dim=5, flow="nsf", hidden=[12]),
    "flow_posterior_planar": partial(FlowPosterior, dim=5, flow="planar", hidden=[12]),
    "flow_prior": partial(FlowPrior, dim=5, hidden=[12]),
    "flow_prior_nsf": partial(FlowPrior, dim=5, flow="nsf", hidden=[12]),
    "flow_prior_planar": partial(FlowPrior, dim=5, flow="planar", hidden=[]),
    "hyperspherical": partial(Hyperspherical, dim=5),
    "ladder": partial(Ladder, dims=[4, 3, 2], hidden=[6]),
    "entropy": partial(EntropyBottleneck, dim=5),
    "scale_hyperprior": partial(ScaleHyperprior, dim=5, hidden=6, side=3, halvings=1),
    "categorical": partial(Categorical, dim=3, categories=4),
    "categorical_hard": partial(Categorical, dim=3, categories=4, hard=True),
    "joint": partial(Joint, dim=4, variables=2, categories=3),
    "vq": partial(VectorQuantizer, dim=5, codes=7),
    "vq_gradient": partial(VectorQuantizer, dim=5, codes=7, ema=None),
    "vq_rotate": partial(VectorQuantizer, dim=5, codes=7, rotate=True),
    "product_vq": partial(VectorQuantizer, dim=6, codes=4, groups=3),
    "residual_vq": partial(ResidualVQ, dim=5, codes=4, levels=3),
    "fsq": partial(FSQ, levels=[16, 15, 32]),
    "lfq": partial(LFQ, dim=6, groups=2),
    "gumbel_vq": partial(GumbelVQ, dim=5, codes=7),
}

# These have no meaning on a vector; their laws are in tests/laws/test_hierarchical.py.
MAP_BOTTLENECKS: dict[str, Build] = {
    "hierarchical_vq": partial(HierarchicalVQ, dim=5, codes=6),
    "hierarchical_vq_gradient": partial(HierarchicalVQ, dim=5, codes=6, ema=None),
    "hierarchical_vq_rotate": partial(HierarchicalVQ, dim=5, codes=6, rotate=True),
}

# These read an expert for each part of multi-modal data; their laws are in tests/laws/test_experts.py.
PART_BOTTLENECKS: dict[str, Build] = {
    "poe": partial(ProductOfExperts, dim=5),
    "moe": partial(MixtureOfExperts, dim=5),
    "mopoe": partial(MixtureOfProductsOfExperts, dim=5),
}

LIKELIHOODS: dict[str, Build] = {
    "bernoulli": partial(elementwise.BernoulliLikelihood),
    "continuous_bernoulli": partial(elementwise.ContinuousBernoulliLikelihood),
    "gaussian_fixed": partial(normal.GaussianLikelihood, sigma=0.7),
    "gaussian_shared": partial(normal.GaussianLikelihood, scope="shared"),
    "gaussian_value": partial(normal.GaussianLikelihood, scope="value"),
    "gaussian_optimal": partial(normal.OptimalGaussianLikelihood),
    "laplace": partial(elementwise.LaplaceLikelihood, scale=0.5),
    "categorical": partial(elementwise.CategoricalLikelihood, levels=8),
}

# These need to know the columns of a table; their laws are in tests/laws/test_mixed.py.
COLUMN_LIKELIHOODS: dict[str, Build] = {
    "mixed": partial(MixedLikelihood),
    "mixed_fixed": partial(MixedLikelihood, scope="fixed"),
}

# These need data of named parts; their laws are in tests/laws/test_parts.py.
PART_LIKELIHOODS: dict[str, Build] = {"parts": partial(PartsLikelihood)}

# These need counts; their laws are in tests/laws/test_count_likelihoods.py.
COUNT_LIKELIHOODS: dict[str, Build] = {
    "multinomial": partial(counts.MultinomialLikelihood),
    "multinomial_without": partial(counts.MultinomialLikelihood, coefficient=False),
    "poisson": partial(counts.PoissonLikelihood),
    "negative_binomial": partial(counts.NegativeBinomialLikelihood),
    "negative_binomial_class": partial(counts.NegativeBinomialLikelihood, dispersion="class"),
    "zinb": partial(counts.ZeroInflatedLikelihood),
    "zinb_class": partial(counts.ZeroInflatedLikelihood, dispersion="class"),
}

INPUTS: dict[str, Build] = {
    "identity": partial(inputs.Identity),
    "missing_indicator": partial(inputs.MissingIndicator),
    "covariates": partial(inputs.Covariates),
    "log1p": partial(inputs.Log1p),
    "l1_normalise": partial(inputs.L1Normalise),
    "l2_normalise": partial(inputs.L2Normalise),
}

# These read sound and other series; their laws are in tests/laws/test_sound.py.
SOUND_INPUTS: dict[str, Build] = {
    "spectrum": partial(inputs.Spectrum, width=16, hop=8),
    "spectrum_map": partial(inputs.Spectrum, width=16, hop=4, scale="magnitude", layout="map", level=False),
}
SOUND_CORRUPTIONS: dict[str, Build] = {
    "sound": partial(corruptions.SoundNoise, noises=["white", "pink", "babble", "hum", "impulses"], snr=[-5, 15]),
}

# These read tokens; their laws are in tests/laws/test_tokens.py.
TOKEN_INPUTS: dict[str, Build] = {"embedding": partial(inputs.Embedding, dim=4)}
TOKEN_CORRUPTIONS: dict[str, Build] = {"word_dropout": partial(corruptions.WordDropout, p=0.4)}

CORRUPTIONS: dict[str, Build] = {
    "none": partial(corruptions.NoCorruption),
    "gaussian": partial(corruptions.GaussianNoise, sigma=0.3),
    "masking": partial(corruptions.Masking, p=0.4),
    "salt_and_pepper": partial(corruptions.SaltAndPepper, p=0.4),
    "speckle": partial(corruptions.Speckle, sigma=0.3),
    "block": partial(corruptions.Block, size=0.4, value=-1.0),
    "swap_noise": partial(corruptions.SwapNoise, p=0.4),
    "patches": partial(corruptions.Patches, size=2, ratio=0.6, value=-1.0),
}

CRITIC = partial(Critic, encoder=partial(MLPEncoder, widths=[8], activation="tanh"))

TERMS: dict[str, Callable[[], Term]] = {
    "nll": NegativeLogLikelihood,
    "hidden_nll": HiddenNegativeLogLikelihood,
    "hidden_nll_normalised": partial(HiddenNegativeLogLikelihood, patch=2),
    "kl": KL,
    "kl_free_bits": partial(KL, free_bits=0.1),
    "rate": Rate,
    "rate_side": partial(Rate, part="side"),
    "capacity": partial(Capacity, capacity=Linear(0, 5, 10)),
    "l1": L1,
    "commitment": Commitment,
    "codebook_distance": CodebookDistance,
    "code_kl": CodeKL,
    "lfq_entropy": LookupFreeEntropy,
    "l0": L0,
    "gate_l1": GateL1,
    "gate_nll": GateReconstruction,
    "auxk": partial(AuxK, k=2, dead_after=3),
    "matryoshka": MatryoshkaReconstruction,
    "latent_adversary": partial(LatentAdversary, critic=CRITIC),
    "tc_critic": partial(TotalCorrelationCritic, critic=CRITIC),
    "output_adversary": partial(OutputAdversary, critic=CRITIC),
    "sparse_kl": SparseKL,
    "contraction": Contraction,
    "contraction_exact": partial(Contraction, method="exact"),
    "vicinity": Vicinity,
    "decoder_contraction": DecoderContraction,
    "latent_norm": LatentNorm,
    "decoder_norm": DecoderNorm,
    "importance_weighted": ImportanceWeighted,
    "importance_weighted_doubly": partial(ImportanceWeighted, samples=3, groups=2, doubly=True),
    "piwae": partial(ImportanceWeighted, samples=3, groups=2, elbo_share=0.2, joined=True),
    "mutual_information": MutualInformation,
    "total_correlation": TotalCorrelation,
    "total_correlation_mws": partial(TotalCorrelation, estimator="mws"),
    "dimensionwise_kl": DimensionwiseKL,
    "dip_i": DIP,
    "dip_ii": partial(DIP, moment="aggregate", ratio=1.0),
    "msssim": MultiScaleSSIM,
    "signal_to_noise": SignalToNoise,
    "signal_to_noise_invariant": partial(SignalToNoise, scale_invariant=True),
    "perceptual": partial(Perceptual, features=partial(FeatureNetwork, layers=["stem", "stage1"])),
    "mmd": MMD,
    "mmd_rbf": partial(MMD, kernel="rbf", scales=[1.0]),
}

# These compare sound and other series; their laws are in tests/laws/test_sound.py.
SOUND_TERMS: dict[str, Callable[[], Term]] = {"spectral": partial(SpectralDistance, widths=[8, 16])}


# These are bounds of multi-modal data; their laws are in tests/laws/test_experts.py.
PART_TERMS: dict[str, Callable[[], Term]] = {
    "subsampled_elbo": SubsampledELBO,
    "stratified_elbo": StratifiedELBO,
}


@functools.cache
def _shipped(loss: str) -> Objective:
    holder = GlobalHydra.instance()
    before, holder.hydra = holder.hydra, None
    try:
        with initialize_config_dir(str(config_dir()), **VERSION_BASE):
            config = compose(f"loss/{loss}").loss
    finally:
        holder.hydra = before
    return Objective({name: build(node, f"loss.{name}") for name, node in config.items()})


def shipped(loss: str) -> Objective:
    """What `loss=...` is without a variant: the terms of its yaml, with the options that stand there."""
    return deepcopy(_shipped(loss))


OF_PARTS = ("subsampled", "stratified")
"""Losses that read experts of parts, which no bottleneck of other data has; they are refused by name."""
LOSSES: dict[str, Callable[[], Objective]] = {name: partial(shipped, name) for name in choice_files("loss")}

SCHEDULES: dict[str, Build] = {
    "constant": partial(Constant, 0.5),
    "linear": partial(Linear, 0.0, 2.0, 10, 5),
    "cyclical": partial(Cyclical, 0.0, 1.0, 10, 3, 0.5),
}

DENSITIES: dict[str, Any] = {
    "gaussian": partial(GaussianDensity),
    "mixture": partial(MixtureDensity, components=2),
    "by_class": partial(ClassMixtures, components=2),
    "flow": partial(FlowDensity, transforms=2, widths=[8], epochs=2),
    "vamp": partial(VampDensity, pseudo_inputs=5, epochs=2),
    "second_stage": partial(SecondStage, dim=3, widths=[8], epochs=2),
    "autoregressive": partial(AutoregressiveCodes, width=8, layers=1, heads=2, epochs=2),
}

ENCODER, DECODER = partial(MLPEncoder, widths=[16]), partial(MLPDecoder, widths=[16])


def model(
    spec: DataSpec = IMAGE,
    *,
    bottleneck: Build = BOTTLENECKS["gaussian"],
    likelihood: Build = LIKELIHOODS["bernoulli"],
    corruption: Build = CORRUPTIONS["none"],
    input: Build = INPUTS["identity"],
    encoder: Build = ENCODER,
    decoder: Build = DECODER,
) -> Autoencoder:
    """A small autoencoder; every stage can be exchanged."""
    return Autoencoder(
        spec,
        Stages(
            encoder=encoder,
            bottleneck=bottleneck,
            decoder=decoder,
            likelihood=likelihood,
            corruption=corruption,
            input=input,
        ),
    )


def batch(spec: DataSpec = IMAGE, n: int = 6) -> Batch:
    """`n` examples of the data's shape, inside its range."""
    x = torch.rand(n, *spec.shape)
    if spec.kind in ("counts", "interactions"):
        x = (6 * x - 2).round().clamp_min(0)
    return Batch(x=x, label=torch.arange(n) % 3, index=torch.arange(n))
