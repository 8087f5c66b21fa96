"""Task recommendation: how well a model ranks the items that were held out of its users, beside the classics."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from narrows.compare.figure_names import CLASSICS, MODEL
from narrows.errors import nearest, require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.recommenders import FITS, fit_recommenders
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures.ranking_figures import (
    RECALL,
    Matrix,
    Scorer,
    best_items,
    figure_names,
    fold_in,
    lead,
    rank,
    with_judged,
)
from narrows.tasks.measures.sparse_splits import SparseSplit, read_sparse, reconstructions, unfit_for_rows
from narrows.tasks.measures.standard_errors import with_error
from narrows.types import DataSpec

log = logging.getLogger(__name__)

CURVE = (1, 5, 10, 20, 50, 100)
"""The numbers of places in the picture."""


class Recommendation(Task):
    """NDCG@100 (with truncated ideal) and recall@20 and @50 (over min(k, n)) of the held-out items of test users, whom
    the model has never seen, in a full ranking without what they have seen ("strong generalisation"); see
    `tasks.measures.ranking_figures`, also for items of equal score.

    A test user's input is the fold-in, its target what is judged; users of whom nothing is held out are left out, and
    counted (`test/recommendation/users`). The model's scores are its reconstruction at the noise-free latent.

    Beside it stand the classics of `tasks.classics.recommenders`, fitted on the training users: popularity, item k-NN,
    PureSVD, EASE and implicit ALS, each with the setting whose NDCG@100 is highest on validation users. Where these
    have no target, 20% of each one's items are held out by `measures.ranking_figures.fold_in`. Standard errors are over
    users; `lead_on_<classic>` is the mean of the paired differences in NDCG@100, with its own.

    Draws `recommendation_ndcg`, NDCG@k by k, and writes `recommendations`, what the model would recommend to some
    users.

    Args:
        classics: which of them: popularity, item_knn, pure_svd, ease, als.
        shown: users in the text.

    Raises:
        UserError: an unknown classic, or test users without a target.
    """

    name = "recommendation"
    figures = declared(figure_names(), heading="recommendation")

    def __init__(
        self,
        *,
        classics: Sequence[str] = ("popularity", "item_knn", "pure_svd", "ease", "als"),
        shown: int = 5,
    ) -> None:
        for name in classics:
            require(name in FITS, f"task recommendation: no classic '{name}': {nearest(name, FITS)}")
        require_at_least(0, "task recommendation:", shown=shown)
        self.classics, self.shown = list(classics), shown

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        return unfit_for_rows(spec, model, ("interactions",))

    def run(self, context: TaskContext) -> FigureTable:
        test = read_sparse(context, "test")
        require(
            test.held is not None,
            "task recommendation: the test users have no held-out items to be judged by; hold some out as their target",
        )
        assert test.held is not None
        users = {name: self._judge(scores, test) for name, scores in self._methods(context).items()}
        found = FigureTable(self.name)
        judged = len(users[MODEL]["ndcg_100"])
        require(judged > 0, "task recommendation: no test user has an item that was held out")
        left_out = test.x.shape[0] - judged
        found.add({"users": judged, "users_left_out": left_out})
        if left_out:
            log.info("task recommendation: %d of %d test users have no held-out item", left_out, test.x.shape[0])
        for name, figures in users.items():
            for figure in figure_names():
                found.add(with_error(figure, figures[figure]), name)
            if name != MODEL:
                found.add(lead(users[MODEL]["ndcg_100"], figures["ndcg_100"], f"lead_on_{name}"))
        self._draw(context, users)
        self._write(context, test)
        return found

    def _methods(self, context: TaskContext) -> dict[str, Scorer]:
        train, held = read_sparse(context, "train"), read_sparse(context, "validation")
        seen, judged = (held.x, held.held) if held.held is not None else fold_in(held.x, context.seed)
        fitted = fit_recommenders(train.x, seen, judged, self.classics, derive(context.seed, "recommenders") % 2**32)
        return {MODEL: lambda rows: reconstructions(context, rows)} | {n: c.scores for n, c in fitted.items()}

    def _judge(self, scores: Scorer, test: SparseSplit) -> dict[str, Matrix]:
        assert test.held is not None
        return rank(scores, test.x, test.held, CURVE, RECALL)

    def _draw(self, context: TaskContext, users: Mapping[str, Mapping[str, Matrix]]) -> None:
        if context.directory is None:
            return
        from narrows.drawing.embeddings_and_error_bars import Curve, curves

        lines = []
        for name, figures in users.items():
            columns = [with_error("ndcg", figures[f"ndcg_{k}"]) for k in CURVE]
            values, errors = ([column[key] for column in columns] for key in ("ndcg", "ndcg_stderr"))
            label = "this run" if name == MODEL else CLASSICS[name]
            lines.append(Curve(label, CURVE, values, errors, ours=name == MODEL))
        title = f"NDCG@k of {len(users[MODEL]['ndcg_1'])} test users by k"
        note = "mean and standard error over users"
        context.show("recommendation_ndcg", curves(lines, title, ("places k", "NDCG@k"), note=note))

    def _write(self, context: TaskContext, test: SparseSplit) -> None:
        if not self.shown:
            return
        names = context.spec.feature_names or [f"item {item}" for item in range(context.spec.shape[0])]
        assert test.held is not None
        rows = ["| user | has seen | is recommended (held out in bold) |", "|---|---|---|"]
        for user in with_judged(test.held)[: self.shown].tolist():
            best, _ = next(best_items(lambda part: reconstructions(context, part), test.x[[user]], 10))
            held = set(test.held[user].indices[test.held[user].data > 0].tolist())
            seen = [names[item] for item in test.x[user].indices[:10]]
            told = [f"**{names[item]}**" if item in held else names[item] for item in best.tolist()]
            rows.append(f"| {user} | {_cell(seen)} | {_cell(told)} |")
        context.write("recommendations", "\n".join(rows))


def _cell(names: Sequence[str]) -> str:
    return "; ".join(names).replace("|", "/")
