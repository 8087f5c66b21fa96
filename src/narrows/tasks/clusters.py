"""Task clusters: whether the latents of counts, such as genes in cells, form groups that agree with known types."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_matrix, vstack
from sklearn.manifold import TSNE
from torch import Tensor

from narrows.compare.figure_names import MODEL
from narrows.errors import require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.count_models import Components, fit_counts, fit_nmf, fit_pca
from narrows.tasks.figure_table import FigureTable
from narrows.tasks.measures.cluster_agreement import Labels, Matrix, agreement, communities, k_means, silhouette
from narrows.tasks.measures.embeddings import told_the_label
from narrows.tasks.measures.sparse_splits import codes, read_sparse
from narrows.tasks.measures.standard_errors import with_error
from narrows.types import Batch, DataSpec, VariationalLatent, log_prob_of, row_sums

log = logging.getLogger(__name__)

SIZES = (10, 50)
"""Numbers of principal components; NMF has the first."""
SPLITS = ("train", "validation", "test")
COMMUNITIES = "communities"


class Clusters(Task):
    """Judges `embed` of counts by known types, which training did not read, and the counts' likelihood.

    - `test/clusters/ari` and `.../nmi`: agreement with the types of k-means with as many clusters as there are types,
      and below `test/clusters/communities/`, of communities of the graph of nearest neighbours, whose number is found;
      `.../silhouette`, how much nearer latents are to their own type than to the next (see
      `tasks.measures.cluster_agreement`). Only where the data have labels.
    - `.../nll_at_point`: `-log p(x | z)` of test rows at the noise-free latent, given each row's library size, and of
      variational models `.../nll`, the bound, which adds `KL(q(z|x) || p(z))`, at a draw of z. Only of likelihoods that
      are probabilities of counts.

    Beside it stand, fitted on the training rows, principal components (10 and 50) and NMF (10) of log-normalised counts
    (`.../pca_50/ari`), and of the likelihoods (`tasks.classics.count_models`): `nb` and `poisson`, whose means are
    frequencies alone, and `nb_pca` and `poisson_pca`, whose means PCA rebuilds. As with `nll_at_point`, those pay
    nothing for the components of the row that they rebuild.

    Draws `clusters_map`, rows in two dimensions, coloured by type.

    Args:
        every_row: whether the rows of all splits are clustered, not the test rows alone: as papers do, who have one set
            of cells. Likelihoods are always of test rows.
        map_rows: rows in the picture.

    Raises:
        UserError: too few rows.
    """

    name = "clusters"
    figures = ()

    def __init__(self, *, every_row: bool = False, map_rows: int = 2000) -> None:
        require_at_least(3, "task clusters:", map_rows=map_rows)
        self.every_row, self.map_rows = every_row, map_rows

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.kind != "counts":
            return f"it judges data of kind counts, not {spec.kind}"
        return "the labels are factors, not classes" if spec.factor_sizes is not None else None

    def run(self, context: TaskContext) -> FigureTable:
        train = read_sparse(context, "train").x
        require(min(train.shape) > 2, f"task clusters: {train.shape[0]} rows of {train.shape[1]} are too few")
        seed = derive(context.seed, "components") % 2**32
        components = {f"pca_{number}": fit_pca(train, number, seed) for number in SIZES}
        found = FigureTable(self.name)
        self._cluster(context, components | {"nmf": fit_nmf(train, SIZES[0], seed)}, found)
        self._likelihoods(context, train, components, found)
        return found

    def _cluster(self, context: TaskContext, components: Mapping[str, Components], found: FigureTable) -> None:
        splits = [read_sparse(context, name) for name in (SPLITS if self.every_row else ("test",))]
        rows = vstack([split.x for split in splits], format="csr")
        told = told_the_label(context.model)
        if context.spec.num_classes is None or told is not None:
            log.info("task clusters leaves out ARI, NMI and silhouette: %s", told or "the data have no labels")
            return
        types = np.concatenate([split.label for split in splits if split.label is not None])
        seen = {MODEL: codes(context, rows)} | {name: reduction.encode(rows) for name, reduction in components.items()}
        number = len(np.unique(types))
        for name, points in seen.items():
            seed = context.seed
            found.add(agreement(k_means(points, number, seed), types, seed), name)
            found.add({"silhouette": silhouette(points, types, seed)}, name)
            divided = communities(points, seed)
            told_apart = agreement(divided, types, seed) | {"number": len(np.unique(divided))}
            found.add(told_apart, name, COMMUNITIES)
        self._draw(context, {"latents": seen[MODEL], "PCA-50": seen["pca_50"]}, types)

    def _likelihoods(
        self, context: TaskContext, train: csr_matrix, components: dict[str, Components], found: FigureTable
    ) -> None:
        test, held = read_sparse(context, "test").x, read_sparse(context, "validation").x
        figures = _nats(context)
        if figures is None:
            reason = f"{type(context.model.likelihood).__name__} is no probability of counts"
            log.info("task clusters leaves out likelihoods: %s", reason)
            return
        found.add(figures)
        for name, nll in fit_counts(train, held, components).items():
            nats = with_error("nll_at_point", nll(test))
            # Where nothing is read of a row but its library size, nothing is to be paid for besides.
            found.add(nats | ({} if name.endswith("_pca") else with_error("nll", nll(test))), name)

    def _draw(self, context: TaskContext, points: Mapping[str, Matrix], types: Labels) -> None:
        if context.directory is None:
            return
        from narrows.drawing.embeddings_and_error_bars import maps

        source = np.random.default_rng(derive(context.seed, "clusters map"))
        chosen = source.permutation(len(types))[: self.map_rows]
        state = derive(context.seed, "clusters t-SNE") % 2**32
        panels = dict(_flat(name, values[chosen], state) for name, values in points.items())
        title = f"{len(chosen)} rows in two dimensions, by known type"
        context.show("clusters_map", maps(panels, types[chosen], title, context.spec.class_names))


def _flat(name: str, points: Matrix, state: int) -> tuple[str, Matrix]:
    """Points `[N, D]` in two dimensions, and what they are: as they are if they have no more or are all alike, else
    their t-SNE."""
    if points.shape[1] <= 2 or np.ptp(points, axis=0).max() == 0:
        return name, np.pad(points[:, :2], ((0, 0), (0, max(0, 2 - points.shape[1]))))
    near = TSNE(perplexity=min(30, (len(points) - 1) / 3), random_state=state)
    return f"{name}: t-SNE", near.fit_transform(points)


def _nats(context: TaskContext) -> dict[str, float] | None:
    """`nll_at_point`, and of a variational model `nll`, of test rows; None if the likelihood is none of counts."""
    model, point, bound = context.model, [], []
    for batch in context.batches("test"):
        if model.likelihood.bits_name(batch.truth) != "bits_per_dim":
            return None
        latent = model.encode(batch)
        point.append(_cost(model, latent.point, batch))
        if isinstance(latent, VariationalLatent):
            bound.append(_cost(model, latent.z, batch) + row_sums(latent.divergence()).double().cpu().numpy())
    found = with_error("nll_at_point", np.concatenate(point))
    return found | (with_error("nll", np.concatenate(bound)) if bound else {})


def _cost(model: Autoencoder, z: Tensor, batch: Batch) -> Matrix:
    return -row_sums(log_prob_of(model.decode(z, batch.given), batch.truth, batch.judged)).double().cpu().numpy()
