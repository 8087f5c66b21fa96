"""The labels of figures in every table. Imports no torch, because `narrows compare` uses them."""

from __future__ import annotations

import re
from collections.abc import Iterable

ROWS = {
    "test/elbo": "ELBO (nats)",
    "test/reconstruction": "reconstruction, -log p(x|z) (nats)",
    "test/latent/kl": "KL(q(z|x) || p(z)) (nats)",
    "test/nll": "-log p(x), importance sampled (nats)",
    "density/log_prob_val": "fitted density: log p(z), validation (nats)",
    "density/log_prob_bound_val": "fitted density: bound on log p(z), validation (nats)",
    "test/mse": "MSE per value",
    "test/bce": "BCE per value (nats)",
    "test/psnr": "PSNR (dB)",
    "test/variance_unexplained": "variance unexplained",
    "test/drawn/variance_unexplained": "variance unexplained at a draw of z",
    "test/teacher_forced/mse": "teacher forced: MSE per value",
    "test/teacher_forced/variance_unexplained": "teacher forced: variance unexplained",
    "test/psnr_per_frame": "PSNR, mean over frames (dB)",
    "test/ssim": "SSIM",
    "test/ms_ssim": "MS-SSIM",
    "test/perceptual_efficientnet_lite0": "perceptual distance, EfficientNet-Lite0",
    "test/rfid_efficientnet_lite0": "reconstructions: Fréchet distance, EfficientNet-Lite0",
    "test/nll_at_point": "-log p(x|z) at the point (nats)",
    "test/bits_per_dim": "bits per dimension of x given z",
    "test/density_bits_per_dim": "bits per dimension of x given z, density",
    "test/other_labels/mse": "labels not trained on: MSE per value",
    "test/other_labels/psnr": "labels not trained on: PSNR (dB)",
    "test/other_labels/variance_unexplained": "labels not trained on: variance unexplained",
    "test/corrupted/psnr": "corrupted input: PSNR (dB)",
    "test/denoised/mse": "denoised: MSE per value",
    "test/denoised/bce": "denoised: BCE per value (nats)",
    "test/denoised/psnr": "denoised: PSNR (dB)",
    "test/hidden/mse": "hidden values: MSE per value",
    "test/hidden/psnr": "hidden values: PSNR (dB)",
    # task generation
    "test/fid": "samples: Fréchet distance",
    "test/rfid": "reconstructions: Fréchet distance",
    "test/kid": "samples: kernel distance",
    "test/precision": "samples: precision",
    "test/recall": "samples: recall",
    "test/memorisation": "samples: distance to training rows, of test rows 1",
    # task latent
    "test/active_units": "active units",
    "test/latent/mutual_information": "mutual information of x and z (nats)",
    "test/l0": "L0, latents that are not zero",
    "test/dead_fraction": "dead latents, fraction",
    "test/codebook_usage": "codes used, fraction",
    "test/perplexity": "perplexity of the codes",
    # task anomaly
    "test/anomaly/vus_pr": "anomaly: VUS-PR of time steps",
    "test/anomaly/event_f1": "anomaly: event F1 at the threshold",
    "test/anomaly/event_recall": "anomaly: share of events found",
    "test/anomaly/delay": "anomaly: delay of the first alarm (time steps)",
    "test/anomaly/auroc": "anomaly AUROC",
    "test/anomaly/average_precision": "anomaly: average precision",
    "test/anomaly/threshold": "anomaly: threshold, from validation normals",
    "test/anomaly/false_alarm_rate": "anomaly: false alarms at the threshold",
    "test/anomaly/recall": "anomaly: recall at the threshold",
    "test/anomaly/precision": "anomaly: precision at the threshold",
    "test/anomaly/f1": "anomaly: F1 at the threshold",
    "test/anomaly/frame_auroc": "anomaly: AUROC of frames",
    "test/anomaly/frame_average_precision": "anomaly: average precision of frames",
    "test/anomaly/pixel_auroc": "anomaly: AUROC of pixels",
    "test/anomaly/aupro": "anomaly: AUPRO, overlap of regions",
    "test/anomaly/pixel_average_precision": "anomaly: average precision of pixels",
    "test/anomaly/best_dice": "anomaly: best Dice over thresholds of pixels",
    # task disentanglement
    "test/mig": "MIG, mutual information gap",
    "test/sap": "SAP, separated attribute predictability",
    "test/modularity": "modularity",
    "test/explicitness": "explicitness (AUROC)",
    "test/factor_vae": "FactorVAE score",
    "test/beta_vae": "BetaVAE score",
    "test/dci_forest_disentanglement": "DCI disentanglement (random forest)",
    "test/dci_forest_completeness": "DCI completeness (random forest)",
    "test/dci_forest_informativeness": "DCI informativeness (random forest)",
    "test/dci_boosting_disentanglement": "DCI disentanglement (gradient boosting)",
    "test/dci_boosting_completeness": "DCI completeness (gradient boosting)",
    "test/dci_boosting_informativeness": "DCI informativeness (gradient boosting)",
    # task reduction
    "test/reduction/knn": "5-nearest-neighbour accuracy",
    "test/reduction/probe": "linear probe accuracy",
    "test/reduction/trustworthiness": "trustworthiness (5 neighbours)",
    "test/reduction/continuity": "continuity (5 neighbours)",
    "test/reduction/explained_variance": "variance explained",
    "test/reduction/mse": "MSE per value",
    # task denoising
    "test/denoising/si_sdr": "denoising, mean over noises: SI-SDR (dB)",
    "test/denoising/stoi": "denoising, mean over noises: STOI",
    "test/denoising/*/si_sdr": "denoising {}: SI-SDR (dB)",
    "test/denoising/*/stoi": "denoising {}: STOI",
    "test/denoising/*/psnr": "denoising {}: PSNR (dB)",
    "test/denoising/*/ssim": "denoising {}: SSIM",
    "test/denoising/*/lead": "denoising {}: lead on the best classic (dB)",
    # task imputation
    "test/imputation/*/rmse": "imputation {}: RMSE",
    "test/imputation/*/nrmse": "imputation {}: RMSE in standard deviations",
    "test/imputation/*/mae": "imputation {}: MAE",
    "test/imputation/*/accuracy": "imputation {}: accuracy",
    "test/imputation/*/multiple/rmse": "imputation {}: RMSE of the mean of the draws",
    "test/imputation/*/coverage": "imputation {}: coverage of 90% intervals",
    # task compression
    "test/compression/bpp": "compressed file: bits per pixel",
    "test/compression/entropy_bpp": "compressed: bits per pixel, ideal coder",
    "test/compression/side_bpp": "compressed: bits per pixel, side information",
    "test/compression/bytes_per_example": "compressed file: bytes per example",
    "test/compression/psnr": "compressed: PSNR (dB)",
    "test/compression/psnr_per_frame": "compressed: PSNR, mean over frames (dB)",
    "test/compression/ssim": "compressed: SSIM",
    "test/compression/ms_ssim": "compressed: MS-SSIM",
    "test/compression/decoder_bytes": "compressed: decoder (bytes)",
    "test/compression/decoder_macs_per_pixel": "compressed: decoder (multiply-adds per pixel)",
    # task codec
    "test/codec/si_sdr": "codec: SI-SDR (dB)",
    "test/codec/kbit_per_s": "codec: kbit/s of the file",
    "test/codec/mel_distance": "codec: distance of mel levels (dB)",
    "test/codec/stoi": "codec: STOI",
    "test/codec/lead": "codec: lead on the best codec of as few bytes (dB)",
    "test/codec/decoder_bytes": "codec: decoder (bytes)",
    "test/codec/decoder_macs_per_sample": "codec: decoder (multiply-adds per sample)",
    # task probe
    "test/probe/*_labels/probe": "accuracy with {} labels: linear probe",
    "test/probe/*_labels/pooled_probe": "accuracy with {} labels: linear probe, over time",
    "test/probe/*_labels/finetuned": "accuracy with {} labels: fine-tuned network",
    "test/probe/*_labels/augmented": "accuracy with {} labels: forest, samples added",
    # task interpretation
    "test/interpretation/effective_latents": "latents in use, effective number",
    "test/interpretation/top_1_share": "share of the output's variation: top latent",
    "test/interpretation/top_3_share": "share of the output's variation: top 3 latents",
    "test/interpretation/active_units": "active units",
    "test/interpretation/arithmetic": "arithmetic: shifted to another class, has it",
    # task recommendation
    "test/recommendation/ndcg_100": "recommendation: NDCG@100",
    "test/recommendation/recall_20": "recommendation: recall@20",
    "test/recommendation/recall_50": "recommendation: recall@50",
    "test/recommendation/lead_on_ease": "recommendation: NDCG@100, lead on EASE",
    # task topics
    "test/topics/npmi": "topics: NPMI in test documents",
    "test/topics/diversity": "topics: diversity",
    "test/topics/perplexity": "documents: perplexity per word",
    "test/topics/document_perplexity": "documents: perplexity, each of equal weight",
    "test/topics/completion_perplexity": "documents: perplexity of one half, given the other",
    "test/topics/document_completion_perplexity": "documents: the same, each of equal weight",
    # task clusters
    "test/clusters/ari": "clusters: ARI of k-means",
    "test/clusters/nmi": "clusters: NMI of k-means",
    "test/clusters/silhouette": "clusters: silhouette of known types",
    "test/clusters/communities/ari": "clusters: ARI of communities",
    "test/clusters/communities/nmi": "clusters: NMI of communities",
    "test/clusters/nll": "counts: -log p(x), bound (nats)",
    "test/clusters/nll_at_point": "counts: -log p(x|z) at the point (nats)",
    # task summary
    "test/summary/rouge_1": "summary: ROUGE-1",
    "test/summary/rouge_2": "summary: ROUGE-2",
    "test/summary/rouge_l": "summary: ROUGE-L",
    "test/summary/rest_nll": "summary: nats per word of the rest, given it",
    # task music
    "test/music/nll_per_frame": "music: -log p(x) per frame (nats)",
    "test/music/f1": "music: F1 of notes, running free",
    "test/music/f1_teacher_forced": "music: F1 of notes, teacher-forced",
    "test/music/pitch_class_overlap": "music samples: overlap of pitch classes",
    "test/music/note_length_overlap": "music samples: overlap of note lengths",
    # task molecules
    "test/molecules/validity": "molecules: valid samples",
    "test/molecules/uniqueness": "molecules: unique of the valid",
    "test/molecules/novelty": "molecules: new of the unique",
    "test/molecules/diversity": "molecules: internal diversity",
    "test/molecules/fcd": "molecules: Fréchet ChemNet distance",
    "test/molecules/reconstruction": "molecules: rebuilt exactly, running free",
    "test/molecules/reconstruction_teacher_forced": "molecules: rebuilt exactly, teacher-forced",
    "test/molecules/nll": "molecules: -log p(x) per molecule (nats)",
    # task language
    "test/language/nll": "text: -log p(x), bound (nats)",
    "test/language/nats_per_token": "text: nats per token, end marks counted",
    "test/language/perplexity": "text: perplexity per token",
    "test/language/bits_per_character": "text: bits per character",
    "test/language/token_accuracy": "text told again: accuracy of tokens",
    "test/language/exact_match": "text told again: exact",
    "test/language/bleu": "text told again: BLEU",
    # task synthetic
    "test/synthetic/tstr": "trained on samples: test accuracy",
    "test/synthetic/trtr": "trained on real rows: test accuracy",
    "test/synthetic/tstr_balanced": "trained on samples: balanced accuracy",
    "test/synthetic/trtr_balanced": "trained on real rows: balanced accuracy",
    "test/synthetic/detection_auc": "samples told from test rows: AUROC, best 0.5",
    "test/synthetic/closer_to_train": "samples nearer to training than to test rows, best 0.5",
    "test/synthetic/closest": "samples: distance to training rows, of test rows 1",
    "test/synthetic/marginals": "samples: mean distance of a column's distribution",
    "test/synthetic/associations": "samples: mean difference of two columns' dependence",
    # task style
    "test/style/gram_distance": "style: Gram distance, in EfficientNet-Lite0",
    "test/style/content_mse": "style: content error, in EfficientNet-Lite0",
    "test/style/artfid": "style: ArtFID's product, in EfficientNet-Lite0",
    "test/style/*/gram_distance": "style {}: Gram distance",
    "test/style/*/content_mse": "style {}: content error",
    "test/style/*/lead": "style {}: lead in Gram distance",
    # task multimodal
    "test/multimodal/coherence": "parts from parts: coherence of labels",
    "test/multimodal/*/accuracy": "{}: accuracy of the classifier on real examples",
    "test/multimodal/*/coherence": "{}: coherence of labels",
    "test/multimodal/*/spread": "{}: variance within a label, of real examples 1",
    "test/multimodal/*/nll": "{}: -log p, bound (nats)",
    # task transfer
    "test/transfer/*/mse": "transfer, {}: MSE per value",
    "test/transfer/*/psnr": "transfer, {}: PSNR (dB)",
    "test/transfer/*/variance_unexplained": "transfer, {}: variance unexplained",
    "test/transfer/*/auroc": "transfer, {}: AUROC against the own data",
}
"""The figures that have a row in tables, with their labels. A `*` matches one part of a name, which `{}` repeats."""

CLASSICS = {
    "pca": "PCA",
    "pca_90": "PCA, 90%",
    "frame_pca": "PCA of frames",
    "previous_frame": "previous frame",
    "equalised": "equalised, bright",
    "equalised_extremes": "equalised, bright or dark",
    "z_score": "z-score of voxels",
    "ica": "ICA",
    "mixture": "pixel mixture",
    "train": "training rows",
    "ridge": "ridge",
    "mahalanobis": "Mahalanobis",
    "mean": "mean",
    "jpeg": "JPEG",
    "webp": "WebP",
    "jpeg2000": "JPEG 2000",
    "h264": "H.264",
    "h264_mosaic": "H.264, side by side",
    "png": "PNG",
    "opus": "Opus",
    "mp3": "MP3",
    "mu_law": "mu-law",
    "adpcm": "ADPCM",
    "mdct": "MDCT",
    "noisy": "noisy input",
    "median": "median",
    "gaussian_filter": "Gaussian filter",
    "tv": "total variation",
    "wavelet": "wavelet",
    "nlm": "non-local means",
    "spectral_subtraction": "spectral subtraction",
    "wiener": "Wiener, decision-directed",
    "wiener_blind": "Wiener, told nothing",
    "spectral_gate": "spectral gate",
    "mel": "log-mel means",
    "mfcc": "MFCC means",
    "iterative": "iterative",
    "forest": "forest",
    "biharmonic": "biharmonic",
    "random_projection": "random projection",
    "kernel_pca": "kernel PCA",
    "umap": "UMAP",
    "raw": "raw values",
    "scratch": "same encoder from scratch",
    "linear": "linear interpolation",
    "last_value": "last value",
    "seasonal": "seasonal",
    "rolling_z": "rolling z-score",
    "seasonal_naive": "seasonal naive",
    "matrix_profile": "matrix profile",
    "knn": "k-NN",
    "lof": "LOF",
    "isolation_forest": "isolation forest",
    "ocsvm": "one-class SVM",
    "ecod": "ECOD",
    "feature_pca": "PCA of positions",
    "padim": "PaDiM",
    "patchcore": "PatchCore",
    "popularity": "popularity",
    "item_knn": "item k-NN",
    "pure_svd": "PureSVD",
    "ease": "EASE",
    "als": "implicit ALS",
    "lead": "lead",
    "random": "random",
    "centroid": "tf-idf centroid",
    "text_rank": "TextRank",
    "lsa": "LSA",
    "unigram": "unigram",
    "lda": "LDA",
    "lda_online": "online LDA",
    "nmf": "NMF",
    "pca_10": "PCA-10",
    "pca_50": "PCA-50",
    "poisson": "Poisson",
    "nb": "NB",
    "poisson_pca": "Poisson with PCA means",
    "nb_pca": "NB with PCA means",
    "marginals": "marginals",
    "markov_1": "Markov, order 1",
    "markov_2": "Markov, order 2",
    "logistic": "logistic, frame before",
    "ngram": "n-gram",
    "kneser_ney": "Kneser-Ney",
    "jitter": "noise",
    "shifts": "shifts",
    "copula": "Gaussian copula",
    "smote": "SMOTE",
    "bootstrap": "bootstrap with noise",
    "histogram": "histogram matching",
    "reinhard": "colour transfer",
    "fourier": "Fourier amplitudes",
    "content": "content as it is",
    "no_latent": "same decoder, no latent",
    "cca": "CCA",
}
"""Classic methods, measured on the same split, with their labels."""

SILENT = {"test/loss", "test/l0_fraction", "test/kid_std"}
STDERR = "_stderr"
"""`<figure>_stderr` is the standard error of `<figure>` and is shown behind it."""
MODEL = "model"
"""The method of a run's own figures, beside `CLASSICS`."""


def figure_name(figure: str, method: str = MODEL, heading: str = "", condition: str = "") -> str:
    """The full name of a test figure: `test/<heading>/<condition>/<method>/<figure>`, without what is empty, and
    without the method where it is the model."""
    parts = ("test", heading, condition, "" if method == MODEL else method, figure)
    return "/".join(part for part in parts if part)


def of_classic(name: str, method: str) -> str:
    """The full name of a classic's value of the model's figure `name`: `test/pca/psnr` for `test/psnr`."""
    above, _, figure = name.removeprefix("test/").rpartition("/")
    return figure_name(figure, method, above)


def is_silent(figure: str) -> bool:
    """Whether a figure gets no row of its own."""
    return figure in SILENT or figure.endswith(STDERR)


def named(figures: Iterable[str]) -> dict[str, str]:
    """The labels of those figures that have one, in the order of `ROWS`."""
    present = list(figures)
    found: dict[str, str] = {}
    for pattern, label in ROWS.items():
        if "*" not in pattern:
            found |= {pattern: label} if pattern in present else {}
            continue
        shape = re.compile(re.escape(pattern).replace(r"\*", "([^/]+)"))
        for figure in present:
            match = shape.fullmatch(figure)
            if match is not None and not CLASSICS.keys() & set(match.groups()):
                found[figure] = label.format(*match.groups())
    return found
