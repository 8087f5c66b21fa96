"""Every choice of every group composes, and every choice fits two real steps through the command."""

from __future__ import annotations

import functools
import json
import math
import tarfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command import NARROW, NO_TASKS, TINY, composed, manifest, only_run, run_in_process
from count_source import COUNTS
from omegaconf import OmegaConf
from PIL import Image
from sound_clips import write_clips

from narrows.config.auto_values import decided, open_keys
from narrows.config.composition import check_keys, config_dir
from narrows.config.hydra_versions import instantiate
from narrows.loading.model_from_config import build_model
from narrows.losses import Objective

# As counts, from files that are published elsewhere: tests/data.
PUBLISHED = {"bbc", "movielens", "movielens_1m", "newsgroups20", "newsgroups20_etm", "scrna"}
# As music and molecules, from files too: tests/tasks.
PUBLISHED |= {"jsb_chorales", "qm9", "music", "molecules"}
# As text, likewise: their experiments.
PUBLISHED |= {"ptb", "tinyshakespeare"}
# Sound and video, of files too: their experiments; what is generated from files: tests/data.
PUBLISHED |= {"fsdd", "mnist_fsdd", "frey_faces", "lesions", "moving_digits"}
# No experiment yet in these, or nothing to fit: composed alone.
NOT_FITTED = {
    "datamodule": PUBLISHED
    | {"binarized_mnist", "celeba", "cifar10", "ecg5000", "fashion_mnist", "kmnist", "mnist", "svhn"}
    | {"latents"},  # of another run: test_new_data.py
    "trainer": {"ddp", "fsdp", "gpu"},  # two processes: test_ddp.py, test_fsdp.py; no GPU: test_bad_input.py
    "decoder": {"gru_ar", "tcn", "transformer"},  # two steps of each with its encoder: below
    "logger": {"wandb", "mlflow"},  # not installed: test_bad_input.py
    "features": {"efficientnet_b0", "resnet18", "vgg16"},  # their weights are not at hand: tests/layers
    "debug": {"fdr", "limit", "overfit", "profiler"},  # each to its end: tests/config/test_other_words.py
    # By evaluate: test_restoration.py; on models of their own: tests/tasks.
    "task": {
        *("compression", "denoising", "imputation", "transfer"),
        *("clusters", "molecules", "music", "recommendation", "summary", "topics"),
        "language",  # test_text_runs.py
    },
}
NEEDS_PATH = ("arrays", "audio", "counts", "documents", "interactions", "image_folder", "table", "tables", "text")
NEEDS_PATH += ("huggingface", "image_shards", "molecules", "music", "video", "volumes")
PLACES = {
    "augmentation": "augmentation@datamodule.augment",
    "critic": "critic@loss.adversary.critic",
    "feature_map": "feature_map@datamodule.features",
    "features": "features@loss.perceptual.features",
    "task": "+task@tasks.mine",
    "term": "+term@loss.mine",
    "schedule": "+schedule@loss.reconstruction.weight",
}


def choices(group: str) -> list[str]:
    folder = config_dir() / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


GROUPS = sorted(path.name for path in config_dir().iterdir() if path.is_dir())
EXPERIMENTS = choices("experiment")
# Like others but for sizes and epochs; each of them is trained to its figure when that changes.
ALIKE = {"keras/deep", "keras/simple", "keras/sparse", "zoo/binary", "denoising_salt_mnist", "fashion_against_mnist"}
ALIKE |= {"genes_bladder", "genes_worm", "molecules_qm9"}


@pytest.mark.parametrize("group", [*NOT_FITTED, "sweep"])
def test_a_choice_that_is_not_fitted_composes(group: str) -> None:
    for choice in NOT_FITTED.get(group) or choices(group):
        needed = ["datamodule.source.path=here"] if choice in NEEDS_PATH and group != "task" else []
        needed += ["datamodule.source.run=here"] if choice == "latents" else []
        needed += ["variant=vqgan"] if group == "features" else []
        check_keys(composed(chosen(group, choice), *needed))


def chosen(group: str, choice: str) -> str:
    """A sweep's workers and pruners are groups within its group."""
    inner, _, name = choice.rpartition("/") if group == "sweep" else ("", "", choice)
    return f"{PLACES.get(group, group)}{'/' if inner else ''}{inner}={name}"


@pytest.mark.parametrize(
    "override",
    [
        *("trainer.devices='0,1'", "trainer.devices=[0,1]", "trainer.devices=auto", "trainer.max_time='00:00:10:00'"),
        *("trainer.limit_train_batches=0.5", "trainer.precision=bf16-mixed", "trainer.precision=32"),
        *("trainer.deterministic=warn", "trainer.max_epochs=null", "datamodule.validation=official"),
        *("datamodule.source.train_labels=[1,2]", "datamodule.source.train_labels=null", "encoder.widths=[]"),
        *("encoder.dropout=0", "encoder.norm=batch", "optimizer.lr=1", "optimizer.betas=[0,0.9]"),
    ],
)
def test_a_value_of_the_right_type_is_not_refused(override: str) -> None:
    check_keys(composed(override))


SERIES = ("datamodule=series", "datamodule.source.window=16")
HIDDEN = ("encoder.hidden=6", "decoder.hidden=6")
TEXT = (*("datamodule=text", "datamodule.source.path=letters", "datamodule.source.label=null", "input.dim=6"), *HIDDEN)
CONVOLUTIONS = ("encoder.channels=[4,4]", "decoder.channels=[4,4]")
TOKENS = ("encoder.width=8", "encoder.depth=1", "decoder.width=8", "decoder.depth=1")
RUNS: dict[str, tuple[str, ...]] = {
    "linear": ("variant=linear", "logger=csv", "trainer=cpu"),
    "undercomplete": ("variant=undercomplete", *NARROW, "likelihood=bernoulli", "optimizer=sgd", "optimizer.lr=1e-4"),
    "sparse_l1": ("variant=sparse_l1", *NARROW, "likelihood=laplace", "optimizer=adamw", "scheduler=cosine"),
    "sparse_kl": (
        *("variant=sparse_kl", *NARROW, "likelihood=continuous_bernoulli"),
        *("optimizer=adadelta", "scheduler=milestones"),
    ),
    "topk": ("variant=topk", *NARROW, "likelihood=categorical", "likelihood.levels=17", "corruption=salt_and_pepper"),
    "batch_topk": (
        *("variant=batch_topk", *NARROW, "corruption=speckle"),
        *("callbacks=resample", "callbacks.progress.enable=false", "callbacks.resample.every_n_steps=1"),
    ),
    "jumprelu": ("variant=jumprelu", *NARROW, "corruption=block"),
    "gated_sae": (
        *("variant=gated_sae", *NARROW, "corruption=swap_noise"),
        *("callbacks=start_at_mean", "callbacks.progress.enable=false"),
    ),
    "matryoshka_sae": (
        "variant=matryoshka_sae",
        "callbacks=ema",
        "encoder.widths=[]",
        "decoder.widths=[]",
        "decoder.unit_norm=true",
    ),
    "aae": ("variant=aae", *NARROW, "loss.adversary.critic.lr=1e-4", "loss.adversary.critic.r1=1.0"),
    "wae_gan": ("variant=wae_gan", *NARROW, "loss.adversary.critic.spectral_norm=true", "module.clip_norm=1.0"),
    "factor_vae": ("variant=factor_vae", *NARROW),
    "vae_gan": (
        *("variant=vae_gan", *NARROW, "critic@loss.adversary.critic=conv"),
        "loss.adversary.critic.encoder.channels=[4,4]",
    ),
    "vqgan": (
        *("variant=vqgan", "encoder.channels=[4,4]", "encoder.blocks=1", "decoder.channels=[4,4]", "decoder.blocks=1"),
        *("bottleneck.dim=4", "bottleneck.codes=8", "loss.perceptual.features.layers=[stage1]"),
        *("loss.adversary.critic.encoder.channels=[4,4]", "loss.adversary.critic.lecam=0.1", "callbacks=ema"),
        *("callbacks.progress.enable=false", "module.accumulate=2"),
    ),
    "frozen_encoder": (
        *("variant=frozen_encoder", "encoder.network.layers=[stem]", "encoder.network.size=16", "bottleneck.noise=0.5"),
        *("decoder.channels=[4,4]", "decoder.blocks=1"),
    ),
    "titok": ("variant=titok", *TOKENS, "encoder.latents=3", "bottleneck.codes=8", "bottleneck.dim=4"),
    "kl_vae": (
        *("variant=kl_vae", "encoder=conv", "encoder.flatten=false", "decoder=conv", *CONVOLUTIONS),
        *("loss.perceptual.features.layers=[stem]", "loss.adversary.critic.encoder.channels=[4,4]"),
    ),
    "denoising": ("variant=denoising", *NARROW, "likelihood=gaussian", "likelihood.scope=value"),
    "masking": ("variant=undercomplete", "loss=masked", "corruption=masking", *NARROW, "trainer.precision=bf16-mixed"),
    "masked": ("variant=masked", *TOKENS, "encoder.patch=2"),
    "masked_normalised": (
        *("variant=masked", *TOKENS, "likelihood=gaussian", "loss.reconstruction.patch=4"),
        *("encoder.positions=learnt", "trainer.precision=bf16-mixed"),
    ),
    "vit_vae": ("variant=vae", "encoder=vit", "decoder=vit", *TOKENS, "encoder.pool=mean", "scheduler=warmup_cosine"),
    "unet": ("encoder=unet", "decoder=unet", *CONVOLUTIONS, "encoder.attention=true", "decoder.attention=true"),
    "torchvision": ("encoder=torchvision", "encoder.name=shufflenet_v2_x0_5", "decoder=conv", CONVOLUTIONS[1]),
    "contractive": ("variant=contractive", *NARROW, "callbacks=early_stopping", "callbacks.progress.enable=false"),
    "capacity": ("variant=vae", "loss=capacity", *NARROW, "callbacks=default", "module.clip_norm=1.0"),
    "linear_warm_up": (*NARROW, "+schedule@loss.kl.weight=linear", "loss.kl.weight.steps=2", "scheduler=constant"),
    "cyclical": (
        *NARROW,
        "+schedule@loss.kl.weight=cyclical",
        "module.accumulate=2",
        "optimizer=rmsprop",
        "scheduler=fifth_decades",
    ),
    "terms": (
        *("+term@loss.l1=l1", "+term@loss.contraction=contraction", "+term@loss.vicinity=vicinity"),
        *(*NARROW, "corruption=gaussian"),
    ),
    "binarised": (*NARROW, "datamodule.binarise=dynamic", "likelihood=bernoulli", "corruption=none"),
    "conv": ("encoder=conv", "decoder=conv", *CONVOLUTIONS, "likelihood=gaussian_optimal", "scheduler=plateau"),
    "resnet": (
        *("encoder=resnet", "decoder=resnet", *CONVOLUTIONS, "encoder.blocks=1", "decoder.blocks=1"),
        "scheduler=one_cycle",
    ),
    "sequential": ("variant=sequential", *SERIES, *HIDDEN, "decoder=lstm_ar"),
    "sequential_vae": ("variant=sequential_vae", *SERIES, *HIDDEN, "decoder=lstm", "input=covariates"),
    "temporal": (
        *("variant=sequential_vae", *SERIES, "encoder=tcn", "encoder.channels=[4]", "decoder=transformer_ar"),
        *("decoder.width=4", "decoder.heads=1", "decoder.scheduled_sampling=0.5", "module.alternate=[2,1]"),
        *("module.alternate_in=steps", "module.alternate_until=0.5"),
    ),
    "attentive": (
        *("variant=undercomplete", *SERIES, "encoder=transformer", "encoder.width=4", "encoder.heads=1"),
        *("decoder=tcn_ar", "decoder.channels=[4]", "encoder.checkpointing=true", "decoder.checkpointing=true"),
    ),
    "anomaly": (
        *("variant=undercomplete", *NARROW, "datamodule=digits", "datamodule.source.train_labels=[1]"),
        *("+task@tasks.anomaly=anomaly", "trainer.limit_test_batches=null"),
    ),
    "likelihood": (*NARROW, "+task@tasks.nll=likelihood", "tasks.nll.samples=3", "tasks.nll.max_examples=5"),
    "generation": (*NARROW, "+task@tasks.generation=generation", "tasks.generation.samples=40"),
    "synthetic": (
        *("variant=undercomplete", "density=by_class", "density.iterations=5", *NARROW, "datamodule=digits"),
        *("+task@tasks.synthetic=synthetic", "tasks.synthetic.max_rows=60", "tasks.synthetic.classics=false"),
        "trainer.limit_test_batches=null",
    ),
    "reduction": (
        *(*NARROW, "+task@tasks.reduction=reduction", "tasks.reduction.umap_rows=null"),
        *("tasks.reduction.kernel_rows=50", "tasks.reduction.map_rows=50"),
    ),
    "probe": (
        *(*NARROW, "+task@tasks.probe=probe", "tasks.probe.sizes=[10]", "tasks.probe.steps=2"),
        *("tasks.probe.epochs=1", "tasks.probe.draws=1"),
    ),
    "interpretation": (*NARROW, "+task@tasks.interpretation=interpretation", "tasks.interpretation.examples=5"),
    "arrays": (
        "datamodule=arrays",
        "datamodule.source.path=table.npz",
        *NARROW,
        "datamodule.source.standardise=standard",
    ),
    "table": (
        *("datamodule=table", "datamodule.source.path=table.csv", *NARROW, "datamodule.source.label.column=kind"),
        *("datamodule.source.label.normal=[ok]", "datamodule.source.label.train=[ok]", "+task@tasks.anomaly=anomaly"),
        *("tasks.anomaly.normal_labels=[0]", "trainer.limit_test_batches=null", "variant=undercomplete"),
    ),
    "image_folder": (
        *("datamodule=image_folder", "datamodule.source.path=photos", "datamodule.source.size=12"),
        *("encoder=conv", "decoder=conv", *CONVOLUTIONS, "callbacks=default", "callbacks.progress.enable=false"),
    ),
    "image_shards": (
        *("datamodule=image_shards", "datamodule.source.path=photos.tar", "datamodule.source.size=12", *NARROW),
        "datamodule.source.memory_limit_mb=0",
    ),
    "huggingface": (
        *("datamodule=huggingface", "datamodule.source.path=photos.parquet", "datamodule.source.size=12", *NARROW),
        *("datamodule.source.memory_limit_mb=0", "data_dir=."),
    ),
    "augmented": (
        *("datamodule=image_folder", "datamodule.source.path=photos", "datamodule.source.size=12", *NARROW),
        *("augmentation@datamodule.augment=pictures", "datamodule.augment.hue=0.1", "datamodule.augment.contrast=0.2"),
    ),
    "frozen": (
        *("datamodule=image_folder", "datamodule.source.path=photos", "datamodule.source.size=12", *NARROW),
        *("feature_map@datamodule.features=frozen", "datamodule.features.network.size=32", "corruption=gaussian"),
        *("callbacks=probe", "callbacks.progress.enable=false"),
    ),
    "photographs": (
        *("datamodule=photographs", "datamodule.source.kodak=false", "datamodule.source.size=16", "data_dir=."),
        *("datamodule.source.side=24", "datamodule.source.step=8", "encoder=conv", "encoder.flatten=false"),
        *("variant=undercomplete", "decoder=conv", *CONVOLUTIONS, "bottleneck.dim=4"),
        *("+task@tasks.style=style", "tasks.style.features.layers=[stem,stage1]", "tasks.style.max_examples=3"),
    ),
    "counts": (
        *("datamodule=counts", "datamodule.source.path=counts.csv", "datamodule.source.label.key=kind", *NARROW),
        *("likelihood=gaussian", "callbacks=default", "callbacks.progress.enable=false"),
    ),
    "interactions": (
        *("datamodule=interactions", "datamodule.source.path=ratings.csv", "datamodule.source.min_rating=3", *NARROW),
        "likelihood=gaussian",
    ),
    "documents": (
        *("datamodule=documents", "datamodule.source.path=letters", "datamodule.source.words.min_df=1", *NARROW),
        "likelihood=gaussian",
    ),
    "text_vae": ("variant=text_vae", *TEXT),
    "text_ae": ("variant=text_ae", *TEXT, "corruption=word_dropout"),
    "vmf_text_vae": ("variant=vmf_text_vae", *TEXT, "bottleneck.dim=4", "datamodule.source.tokens.level=bytes"),
    "sound": (
        *("datamodule=audio", "datamodule.source.path=clips", "datamodule.source.window=256", *NARROW),
        *("variant=undercomplete", "model=masking", "input=spectrum", "input.width=32", "input.hop=16"),
        *("corruption=sound", "loss=signal_to_noise", "+term@loss.spectra=spectral", "loss.spectra.widths=[32]"),
    ),
    "volumes": (
        *("datamodule=volumes", "datamodule.source.path=scans", "datamodule.source.slices.plane=sagittal"),
        *CONVOLUTIONS,
    ),
    "frames": (
        *("datamodule=video", "datamodule.source.path=film.npz", "datamodule.source.clips.frames=4"),
        *("encoder=frames", "encoder.frame.channels=[4]", "encoder.time.hidden=6"),
        *("decoder=frames", "decoder.frame.channels=[4]", "decoder.time.hidden=6"),
        *("callbacks=default", "callbacks.progress.enable=false"),
    ),
    "codec": (
        *("datamodule=audio", "datamodule.source.path=clips", "datamodule.source.window=256", "variant=residual_vq"),
        *("encoder=lapped", "decoder=lapped", "encoder.hop=16", "decoder.hop=16", "encoder.width=8"),
        *("decoder.width=8", "bottleneck.codes=4", "bottleneck.dim=16", "bottleneck.identity=true", "loss=vq_sound"),
        *(
            "+term@loss.spectral=spectral",
            "loss.spectral.widths=[32]",
            "bottleneck.dropout=0.5",
            "+task@tasks.codec=codec",
        ),
        *("tasks.codec.max_examples=4", "trainer.limit_test_batches=null"),
    ),
    "dsprites": (
        *("datamodule=dsprites", "data_dir=.", "datamodule.source.file=sprites.npz", *NARROW),
        *("+task@tasks.factors=disentanglement", "tasks.factors.metrics=[mig,sap,modularity]"),
        *("callbacks=default", "callbacks.progress.enable=false", "datamodule.source.max_examples=300"),
    ),
}
RUNS |= {
    name: (f"variant={name}", *NARROW)
    for name in (
        *("beta_vae", "capacity_vae", "sigma_vae", "free_bits_vae", "iwae", "miwae_bound", "ciwae", "piwae"),
        *("dip_vae_i", "dip_vae_ii", "info_vae", "wae_mmd", "rae_l2", "rae_gp", "mixture_vae", "categorical_vae"),
        "msssim_vae",
        *("joint_vae", "flow_posterior_vae", "flow_prior_vae", "hyperspherical_vae", "ladder_vae", "hamiltonian_vae"),
    )
}
CODES = (*CONVOLUTIONS, "encoder=conv", "encoder.flatten=false", "decoder=conv")
QUANTISED = ("vq_vae", "vq_vae_gradient", "residual_vq", "product_vq", "fsq", "lfq", "gumbel_vq")
RUNS |= {name: (f"variant={name}", *CODES) for name in QUANTISED}
RUNS["vq_vae_2"] = ("variant=vq_vae_2", *CONVOLUTIONS)
RUNS["entropy"] = ("bottleneck=entropy", *NARROW)
RUNS["scale_hyperprior"] = ("variant=scale_hyperprior", *CONVOLUTIONS, "bottleneck.hidden=4", "bottleneck.side=2")
RUNS["bundled"] = ("datamodule=bundled", "input=missing_indicator", "datamodule.source.share=0.3", *NARROW)
RUNS["shares"] = (*NARROW, "+schedule@loss.kl.weight=linear", "loss.kl.weight.steps=0.5")
SMALL_PARTS = ("encoder.default.widths=[8]", "decoder.default.widths=[8]")
JUDGED_PARTS = ("tasks.parts.max_examples=30", "tasks.parts.nll_samples=2", "tasks.parts.nll_examples=4")
RUNS |= {
    "mvae": ("variant=mvae", "datamodule=halves", *SMALL_PARTS),
    "mmvae": (
        *("variant=mmvae", "datamodule=halves", *SMALL_PARTS, "+task@tasks.parts=multimodal", *JUDGED_PARTS),
        *("trainer.limit_test_batches=null", "loss.bound.samples=2", "+encoder@encoder.each.left=mlp"),
    ),
    "mopoe": (
        *("variant=mopoe", "datamodule=multimodal", *SMALL_PARTS, "+likelihood@likelihood.each.a=laplace"),
        *(f"+datamodule.source.parts.{part}={{_target_:narrows.data.Arrays,path:table.npz}}" for part in "ab"),
    ),
}
RUNS["rotation_trick"] = ("variant=vq_vae", *NARROW, "bottleneck.rotate=true", "module.accumulate=2")
RUNS["two_stage_vae"] = ("variant=two_stage_vae", *NARROW, "density.epochs=1", "density.widths=[8]")
RUNS |= {
    name: (f"variant={variant}", *NARROW, f"density={name.removeprefix('density_')}", *options)
    for name, variant, *options in (
        ("density_gaussian", "wae_mmd"),
        ("density_mixture", "rae_l2", "density.components=2"),
        ("density_flow", "topk", "density.epochs=1", "density.widths=[8]"),
        ("density_vamp", "conditional_vae", "density.epochs=1", "density.pseudo_inputs=4"),
        ("density_autoregressive", "residual_vq", "density.epochs=1", "density.width=8"),
    )
}
CLUSTERED = ("callbacks=start_at_word_clusters", "callbacks.progress.enable=false", "bottleneck.dim=4")
RUNS |= {
    name: (f"variant={name}", COUNTS, *options)
    for name, options in (
        ("mult_vae", NARROW),
        ("mult_dae", ()),
        ("rec_vae", ("encoder.widths=[8]",)),
        ("nb_vae", (*NARROW, "likelihood.dispersion=class", "model=conditional")),
        ("zinb_vae", NARROW),
        ("nvdm", ("encoder.widths=[8]",)),
        ("vmf_topics", ("encoder.widths=[8]",)),
        ("prodlda", ("encoder.widths=[8]",)),
        ("etm", ("encoder.widths=[8]", "decoder.width=5", "likelihood=poisson", *CLUSTERED)),
    )
}
RUNS["conditional_vae"] = ("variant=conditional_vae", "encoder=conv", "decoder=conv", *CONVOLUTIONS)
RUNS["vamp_vae"] = ("variant=vamp_vae", *NARROW, "model.pseudo_inputs=10")
PARTS_OF_KL = ("+term@loss.information=mutual_information", "+term@loss.dimensionwise=dimensionwise_kl")
RUNS["beta_tcvae"] = ("variant=beta_tcvae", *NARROW, *PARTS_OF_KL)
# Their tasks are what they are about; elsewhere two steps are.
WITH_TASKS = {
    "dsprites",
    "linear",
    "anomaly",
    "likelihood",
    "denoising",
    "masked",
    "arrays",
    "table",
    "capacity",
    "sequential",
}
WITH_TASKS |= {*QUANTISED, "vq_vae_2", "mmvae"}
WITH_TASKS |= {"conditional_vae", "vamp_vae", "mixture_vae", "categorical_vae", "joint_vae"}
# Made of another run's parts, with other numbers: goldens and laws train these on every call.
SAME_PARTS = {"beta_vae", "capacity_vae", "free_bits_vae", "dip_vae_ii", "miwae_bound", "ciwae", "piwae"}
WITH_TASKS |= {"flow_posterior_vae", "hyperspherical_vae", "ladder_vae", "hamiltonian_vae"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with somebody's own data."""
    folder: Path = tmp_path_factory.mktemp("workplace")
    random = np.random.default_rng(0)
    np.savez(folder / "table.npz", x=random.normal(size=(60, 7)))
    colours, kinds = random.choice(["red", "green", "?"], 60), random.choice(["ok", "ok", "broken"], 60)
    rows = [f"{x:.3f},{c},{k}" for x, c, k in zip(random.normal(size=60), colours, kinds, strict=True)]
    (folder / "table.csv").write_text("\n".join(["width,colour,kind", *rows]))
    words = [f"w{place}" for place in range(50)]
    lines = [",".join(map(str, [*row, kind])) for row, kind in zip(random.poisson(0.5, (60, 50)), kinds, strict=True)]
    (folder / "counts.csv").write_text("\n".join([",".join([*words, "kind"]), *lines]))
    pairs = sorted({(user, item) for user, item in random.integers(0, [60, 40], (1200, 2)).tolist()})
    lines = [f"u{user},film {item},{random.integers(1, 6)}" for user, item in pairs]
    (folder / "ratings.csv").write_text("\n".join(["userId,movieId,rating", *lines]))
    write_clips(folder / "clips", 5)
    for number in range(5):
        (folder / "scans").mkdir(exist_ok=True)
        np.save(folder / "scans" / f"{number}.npy", random.random((8, 9, 10)))
    np.savez(folder / "film.npz", x=random.integers(0, 256, (200, 8, 8), dtype=np.uint8))
    for number in range(40):
        place = folder / "letters" / f"kind{number % 2}" / f"{number}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(" ".join(random.choice(words, 30)))
    (folder / "photos").mkdir()
    classes = random.integers(0, [3, 6, 40, 32, 32], (400, 5))
    images = random.integers(0, 2, (400, 64, 64), dtype=np.uint8)
    np.savez(folder / "sprites.npz", imgs=images, latents_classes=classes)
    for i in range(24):
        Image.fromarray(random.integers(0, 256, (16, 14, 3), dtype=np.uint8)).save(folder / "photos" / f"{i}.png")
    with tarfile.open(folder / "photos.tar", "w") as tar:
        tar.add(folder / "photos", "photos")
    pictures = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted((folder / "photos").iterdir())]
    pq.write_table(pa.table({"image": pictures}), folder / "photos.parquet")
    return folder


CHOSEN: dict[str, dict[str, Any]] = {}
"""By name of a run that was fitted: its choices, as its manifest has them."""


def fit(cwd: Path, name: str, *arguments: str) -> dict[str, Any]:
    """The final figures of a run that must complete."""
    outputs = cwd / "runs" / str(abs(hash(arguments)))
    done = run_in_process(*TINY, *arguments, f"output_dir={outputs}", cwd=cwd)
    assert done.code == 0, done.err
    run = only_run(outputs)
    record = manifest(run)
    assert record["status"] == "completed"
    CHOSEN[name] = record["choices"]
    figures: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    assert np.isfinite([figures["val/loss"], figures["test/loss"]]).all()
    return figures


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SAME_PARTS else []) for name in RUNS]
)
def test_every_choice_fits_two_steps(name: str, workplace: Path) -> None:
    figures = fit(workplace, name, *RUNS[name], *(() if name in WITH_TASKS else NO_TASKS))
    if name == "anomaly":
        assert 0 <= figures["test/anomaly/auroc"] <= 1
    if name == "photographs":
        assert {"test/style/gram_distance", "test/style/histogram/content_mse"} <= set(figures)
    if name == "likelihood":
        assert math.isfinite(figures["test/nll"])
    if name == "dsprites":
        assert {"test/mig", "test/mig/shape", "test/ica/mig", "test/pca/sap"} <= set(figures)


def _choices(*arguments: str) -> dict[str, Any]:
    config = composed(*TINY, *arguments, return_hydra_config=True)
    return dict(config.hydra.runtime.choices)


def test_every_choice_is_among_the_fitted() -> None:
    used: dict[str, set[str]] = {group: set() for group in GROUPS}
    for name, arguments in RUNS.items():
        for key, choice in (CHOSEN.get(name) or _choices(*arguments)).items():
            used.setdefault(key.split("@")[0], set()).add(str(choice))
    for group in sorted({*GROUPS} - {"sweep"}):  # read by -m alone: tests/sweeps
        excused = set(EXPERIMENTS) if group == "experiment" else NOT_FITTED.get(group, set())
        assert set(choices(group)) - used[group] == excused, f"never fitted, or a stale excuse, in {group}"


# ── encoders with decoders ──────────────────────────────────────────────────────────────────────────────

OPTIONS = {
    "mlp": "widths=[16]",
    "conv": "channels=[4,4]",
    "resnet": "channels=[4,4]",
    "lstm": "hidden=6",
    "lstm_ar": "hidden=6",
    "gru": "hidden=6",
    "gru_ar": "hidden=6",
    "lapped": "hop=4",  # its frames are what two doublings start from
    "tcn": "channels=[4,4]",
    "tcn_ar": "channels=[4,4]",
    "transformer": "width=8",
    "transformer_ar": "width=8",
    "unet": "channels=[4,4]",
    "vit": "patch=4",  # its 2 x 2 latents are what two doublings start from
    "torchvision": "name=shufflenet_v2_x0_5",
    "features": "network.size=16",
}
OF_IMAGES = ("mlp", "conv", "resnet", "unet", "vit")
READERS = ("torchvision", "features")
IMAGE_PAIRS = [(e, d) for e in (*OF_IMAGES, *READERS) for d in OF_IMAGES]
# Series are for all others; these are the pairs that images do not have.
RECURRENT, TEMPORAL = ("lstm", "gru"), ("tcn", "transformer")
OF_SERIES = ("lapped", *(name + half for name in (*RECURRENT, *TEMPORAL) for half in ("", "_ar")))
SERIES_PAIRS = [(e, d) for e in choices("encoder") for d in choices("decoder") if e in OF_SERIES or d in OF_SERIES]
SERIES_PAIRS = [(e, d) for e, d in SERIES_PAIRS if e not in READERS]
# Two read images alone, others write series alone; topics are of counts, which an MLP reads.
IMPOSSIBLE = {(e, d) for e in READERS for d in choices("decoder") if d in OF_SERIES}
IMPOSSIBLE |= {(e, d) for e in choices("encoder") for d in choices("decoder") if "topics" in d}
# Frames are of video alone: its run is above.
IMPOSSIBLE |= {(e, d) for e in choices("encoder") for d in choices("decoder") if "frames" in (e, d)}
# Those of parts go together alone, on data that have some: the runs of mvae, mmvae and mopoe.
IMPOSSIBLE |= {(e, d) for e in choices("encoder") for d in choices("decoder") if "parts" in (e, d)}
SERIES_PAIRS = [pair for pair in SERIES_PAIRS if pair not in IMPOSSIBLE]
PAIRS = IMAGE_PAIRS + SERIES_PAIRS


def is_alike(encoder: str, decoder: str) -> bool:
    """Whether other pairs show as much: all encoders of sequences give a vector, and all their decoders flatten what
    they read."""
    if encoder in OF_SERIES:
        return decoder not in ("mlp", encoder, f"{encoder}_ar")
    return decoder in OF_SERIES and encoder != ("vit" if decoder.endswith("_ar") else "conv")


def test_all_pairs_are_there() -> None:
    every = {(encoder, decoder) for encoder in choices("encoder") for decoder in choices("decoder")}
    assert set(PAIRS) | IMPOSSIBLE == every


@functools.cache
def plain(data: tuple[str, ...]) -> Any:
    """Composed once: what differs between two pairs is two files."""
    return composed(*TINY, *data)


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [pytest.param(*pair, marks=[pytest.mark.slow] if is_alike(*pair) else [], id="-".join(pair)) for pair in PAIRS],
)
def test_every_encoder_with_every_decoder(encoder: str, decoder: str) -> None:
    config = plain(SERIES if (encoder, decoder) in SERIES_PAIRS else ()).copy()
    for stage, choice in (("encoder", encoder), ("decoder", decoder)):
        config[stage] = OmegaConf.load(config_dir() / stage / f"{choice}.yaml")
        config[stage].merge_with_dotlist([OPTIONS[choice]])
    config = decided(config)
    datamodule = instantiate(config.datamodule)
    datamodule.setup()
    network = build_model(config, datamodule.spec)
    objective = Objective({name: instantiate(term) for name, term in config.loss.items()})
    optimizer = instantiate(config.optimizer)(network.parameters())
    before = [parameter.clone() for parameter in network.parameters()]
    for examples in islice(datamodule.train_dataloader(), 2):
        total = objective(network(examples), network).total
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.isfinite(total)
    assert all(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


# ── experiments ─────────────────────────────────────────────────────────────────────────────────────────


# The published file of sprites is not at hand everywhere: these are rows of it.
SPRITES = "datamodule.source.file=dsprites_grid46080.npz"
# What an experiment needs beside its name to be tried in seconds.
SMALL = {
    "ptb": ("datamodule.source.path=${data_dir}/ptb/valid.txt.gz", "decoder.hidden=16", "decoder.embedding=16"),
    "audio_codec_fsdd": ("bottleneck.codes=16", "encoder.width=8", "decoder.width=8"),
    "beta_tcvae_dsprites": (SPRITES,),
    "summary_bbc": ("bottleneck.dim=16",),  # 27 million weights
    "rae_mnist": ("encoder.channels=[4,4,4,4]", "decoder.channels=[4,4,4]", "density=gaussian"),
    # The training file takes seconds to read.
    "nsl_kdd": ("datamodule.source.path=${data_dir}/nsl_kdd/KDDTest-21.txt.gz", "datamodule.source.test.path=null"),
    "synthetic_adult": (
        *("datamodule.source.path=${data_dir}/adult/adult.test.gz", "datamodule.source.format.skip_rows=1"),
        *("datamodule.source.test.path=null", "datamodule.source.test.skip_rows=null", "density.components=1"),
    ),
    "topics_20ng": ("decoder.width=8",),
    "tables": ("datamodule.source.path=${data_dir}/adbench/40_vowels.npz",),
    "vamp_binarized_mnist": ("model.pseudo_inputs=10",),
    "vqgan_cifar10": (
        *("datamodule=arrays", "datamodule.source.path=${data_dir}/cifar10/cifar10_lossless_first4000.npz"),
        "datamodule.source.channels_last=true",
        *("encoder.channels=[4,4]", "decoder.channels=[4,4]"),
    ),
    "kl_vae_faces": ("encoder.channels=[4,4,4]", "decoder.channels=[4,4,4]"),
    "moving_digits": ("datamodule.source.train=80", "datamodule.source.test=10"),
    "zoo/codes": ("variant=fsq", "bottleneck.levels=[3]", "datamodule=digits", "density.epochs=1", "density.width=8"),
    "zoo/sprites": ("variant=vae", SPRITES),
}


@functools.cache
def experiment(name: str) -> Any:
    """Composed once, for what is asked of all and for its fit."""
    return composed(f"experiment={name}", *(["datamodule.source.path=x"] if name == "tables" else []))


def says_its_own_networks(config: Any) -> bool:
    """What was published, or measured here, is no matter of how many rows there are."""
    if config.datamodule.source._target_.endswith(("Counts", "Documents", "Interactions")):
        return True  # of which no perceptron starts linear
    depends = {f"{stage}.{option}" for stage in ("encoder", "decoder") for option in ("dropout", "shortcut")}
    return not any(config[key.split(".")[0]].widths for key in depends.intersection(open_keys(config)))


def test_an_experiment_says_its_own_networks() -> None:
    assert [name for name in EXPERIMENTS if not says_its_own_networks(experiment(name))] == []
    assert not says_its_own_networks(composed()), "it would be noticed"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in EXPERIMENTS]
)
def test_an_experiment_fits_two_steps_of_its_data(name: str, real_data: Path, tmp_path: Path) -> None:
    # Pictures and tasks are half of the time, and other runs here have them.
    without = [f"~tasks.{task}" for task in experiment(name).tasks] + ["~callbacks.pictures"]
    kept = [argument for argument in TINY if not argument.startswith("callbacks=")]
    place = [f"data_dir={real_data}", "callbacks.progress.enable=false"]
    done = run_in_process(f"experiment={name}", *kept, *without, *place, *SMALL.get(name, ()), cwd=tmp_path)
    assert done.code == 0, done.err
    assert manifest(only_run(tmp_path / "outputs" / name))["status"] == "completed"
