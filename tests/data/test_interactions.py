"""Users and items: read from every file alike, held out by users or by items, and refused where they are none."""

# mypy: disable-error-code="arg-type, union-attr"

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from narrows.data import (
    DataModule,
    Format,
    HeldOutInteractions,
    InteractionColumns,
    InteractionFile,
    Interactions,
    ItemTitles,
)
from narrows.errors import UserError

USERS, ITEMS = 60, 25


def ratings(seed: int = 0, users: int = USERS) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    found = [(f"u{user}", item, int(random.integers(1, 6))) for user in range(users) for item in range(ITEMS)]
    return pd.DataFrame([row for row in found if random.random() < 0.5], columns=["userId", "item_id", "Rating"])


def matrix(frame: pd.DataFrame, least: int = 0, users: int = USERS) -> Any:
    found = np.zeros((users, ITEMS), np.float32)
    for user, item, rating in frame.to_numpy():
        found[int(user[1:]), item] = rating >= least
    return found


def loaded(source: Interactions, **options: Any) -> DataModule:
    data = DataModule(source, validation=options.pop("validation", "auto"), **options)
    data.setup()
    return data


def dense(store: Any) -> Any:
    return store.matrix.toarray()


def table(path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    frame.to_csv(path, index=False)
    return {}


def parquet(path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    frame.to_parquet(path)
    return {}


def bare(path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    frame.assign(time=5).to_csv(path, index=False, header=False, sep="\t")
    return {"form": InteractionFile(text=Format(separator="tab", header=False))}


def renamed(path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    frame.set_axis(["who", "what", "how"], axis=1)[["how", "what", "who"]].to_csv(path, index=False)
    return {"form": InteractionFile(columns=InteractionColumns("who", 1, rating=0))}


def timed(path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    # An earlier rating of the same films that does not count, below the one that does.
    late, early = frame.assign(when="2001-02-03"), frame.assign(Rating=6 - frame.Rating, when="2000-12-31")
    pd.concat([late, early], ignore_index=True).rename(columns={"when": "date"}).to_csv(path, index=False)
    return {}


@pytest.mark.parametrize("write", [table, parquet, bare, renamed, timed])
def test_every_kind_of_file_holds_the_same_interactions(write: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / ("x.parquet" if write is parquet else "x.csv")
    options = write(path, ratings())
    contents = Interactions(str(path), min_rating=3, **options).load()
    assert contents.kind == "interactions"
    rows = [int(name[1:]) for name in contents.train.names]
    assert np.array_equal(dense(contents.train.x), matrix(ratings(), 3)[rows])
    assert contents.feature_names == list(map(str, range(ITEMS)))


def test_lists_of_items(tmp_path: Path) -> None:
    frame = ratings()
    lines = [" ".join([user, *map(str, of.item_id)]) for user, of in frame.groupby("userId", sort=False)]
    (tmp_path / "x.txt").write_text("\n".join([*lines, "lonely"]))
    contents = Interactions(str(tmp_path / "x.txt"), form=InteractionFile("lists")).load()
    assert np.array_equal(dense(contents.train.x), matrix(frame))
    assert contents.train.names == [f"u{user}" for user in range(USERS)]


def test_users_with_few_items_and_items_that_nobody_has_are_left_out(tmp_path: Path) -> None:
    frame = pd.concat([ratings(), pd.DataFrame({"userId": ["new"] * 3, "item_id": [1, 2, 99], "Rating": 5})])
    table(tmp_path / "x.csv", frame)
    contents = Interactions(str(tmp_path / "x.csv"), min_rating=4).load()
    wanted = matrix(ratings(), 4)
    kept = np.flatnonzero(wanted.sum(1) >= 5)
    assert [int(name[1:]) for name in contents.train.names] == kept.tolist()
    assert len(contents.feature_names) == int((wanted[kept].sum(0) > 0).sum())
    assert f"{USERS + 1 - len(kept)} users with fewer than 5 items left out" in contents.reading[0]
    assert not any("every rating counts alike" in line for line in contents.reading)
    every = Interactions(str(tmp_path / "x.csv")).load()
    assert set(np.unique(dense(every.train.x))) == {0, 1}
    assert "every rating counts alike" in every.reading[1]
    valued = Interactions(str(tmp_path / "x.csv"), weights=True).load()
    assert set(np.unique(dense(valued.train.x))) == {0, 1, 2, 3, 4, 5}


def test_no_user_is_trained_and_tested_on_and_a_part_of_the_others_items_goes_in(tmp_path: Path) -> None:
    table(tmp_path / "x.csv", ratings())
    test = HeldOutInteractions(fraction=12, fold_in=0.7)
    parts = [loaded(Interactions(str(tmp_path / "x.csv"), test=test), validation=9, split_seed=seed) for seed in (0, 1)]
    data = parts[0]
    names = {name: set(data.part(name).names) for name in ("train", "validation", "test")}
    assert [len(found) for found in names.values()] == [USERS - 21, 9, 12]
    assert len(set.union(*names.values())) == USERS
    assert names["test"] != set(parts[1].part("test").names)
    for name in ("validation", "test"):
        part = data.part(name)
        x, target = dense(part.x), dense(part.target)
        assert np.array_equal(x + target, matrix(ratings())[[int(user[1:]) for user in part.names]])
        assert np.array_equal(x.sum(1), np.round(0.7 * (x + target).sum(1)))
    assert data.part("train").target is None


def test_other_users_are_tested_on_by_the_items_that_are_known(tmp_path: Path) -> None:
    table(tmp_path / "x.csv", ratings())
    other = ratings(1, 20)
    other.loc[other.item_id == 3, "item_id"] = 77
    table(tmp_path / "y.csv", other)
    held = HeldOutInteractions(path=str(tmp_path / "y.csv"))
    data = loaded(Interactions(str(tmp_path / "x.csv"), test=held))
    part, wanted = data.part("test"), matrix(ratings(1, 20), users=20)
    wanted[:, 3] = 0
    assert np.array_equal(dense(part.x) + dense(part.target), wanted[[int(name[1:]) for name in part.names]])
    assert "1 items of y.csv are not in the training file and left out" in data.reading
    other["item_id"] += 1000
    table(tmp_path / "y.csv", other)
    with pytest.raises(UserError, match=r"no item of .*y\.csv \(1000, .* is one of the training file \(0, 1"):
        Interactions(str(tmp_path / "x.csv"), test=held).load()


def test_of_the_same_users_other_items_are_judged(tmp_path: Path) -> None:
    table(tmp_path / "x.csv", ratings())
    held = HeldOutInteractions("interactions", fraction=0.2, validation=0.25)
    data = loaded(Interactions(str(tmp_path / "x.csv"), test=held))
    train, validation, test = (data.part(name) for name in ("train", "validation", "test"))
    assert train.names == validation.names == test.names == [f"u{user}" for user in range(USERS)]
    assert np.array_equal(dense(train.x), dense(validation.x))
    assert np.array_equal(dense(train.x) + dense(validation.target), dense(test.x))
    assert np.array_equal(dense(test.x) + dense(test.target), matrix(ratings()))
    assert dense(test.target).sum() == pytest.approx(0.2 * len(ratings()), rel=0.05)
    other = HeldOutInteractions("interactions", fraction=0.2, validation=0.25, seed=1)
    again = loaded(Interactions(str(tmp_path / "x.csv"), test=other))
    assert not np.array_equal(dense(again.part("test").target), dense(test.target))
    with pytest.raises(UserError, match="cannot be pooled: set validation=official"):
        loaded(Interactions(str(tmp_path / "x.csv"), test=held), folds=3)


def test_a_file_of_other_items_of_the_same_users(tmp_path: Path) -> None:
    frame = ratings()
    table(tmp_path / "x.csv", frame[frame.item_id % 5 > 0])
    extra = pd.DataFrame({"userId": ["stranger", "u0"], "item_id": [1, 1], "Rating": 5})
    table(tmp_path / "y.csv", pd.concat([frame[frame.item_id % 4 == 0], extra]))
    held = HeldOutInteractions("interactions", path=str(tmp_path / "y.csv"))
    data = loaded(Interactions(str(tmp_path / "x.csv"), test=held))
    part, columns = data.part("test"), [int(name) for name in data.spec.feature_names]
    assert 0 not in columns  # nobody is trained on it
    rows, whole = [int(name[1:]) for name in part.names], matrix(frame)[:, columns]
    assert np.array_equal(dense(part.x), whole[rows])
    assert not (dense(part.x) * dense(part.target)).any()
    assert "1 users to test on are not among those trained on and left out" in data.reading


def test_items_are_called_by_their_titles(tmp_path: Path) -> None:
    table(tmp_path / "x.csv", ratings())
    lines = [f"{item}|{'Twin' if item < 2 else f'Film {item}'}" for item in range(ITEMS - 1)]
    (tmp_path / "titles").write_text("\n".join(lines))
    titles = ItemTitles(str(tmp_path / "titles"), text=Format(separator="bar", header=False))
    found = Interactions(str(tmp_path / "x.csv"), titles=titles).load().feature_names
    assert found[:3] == ["Twin [0]", "Twin [1]", "Film 2"]
    assert found[-1] == str(ITEMS - 1)
    (tmp_path / "titles").write_text("x|y\nz|y")
    with pytest.raises(UserError, match="holds no title of the items, such as 0"):
        Interactions(str(tmp_path / "x.csv"), titles=titles).load()


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("a,b\n1,2\n", {}, "has no column whose name says that it holds users .* set source.form.columns.user"),
        ("user,thing\n1,2\n", {}, "holds items .* set source.form.columns.item"),
        ("user,item\n1,2\n", {"min_rating": 3}, "has no column of ratings, which source.min_rating needs"),
        ("user,item\n1,2\n", {"weights": True}, "has no column of ratings, which source.weights needs"),
        ("user,item,rating\n1,2,good\n", {}, "line 2 of .* holds 'good' in 'rating', where a rating is due: a number$"),
        ("user,item,time\n1,2,soon\n", {}, "holds 'soon' in 'time', where a time is due: a number, or a date such as"),
        ("user,item\n1,2\n,3\n", {}, "line 3 of .* has no user in 'user'"),
        ("user,item\n1,2\n1,3,4\n", {}, "line 3 of .* has 3 cells in place of 2"),
        ("user,item\n1,2\n", {}, "no user of .* has source.min_items=5 items: lower it"),
        ("user,item,rating\n1,2,3\n", {"min_rating": 9}, "is at least source.min_rating=9: they go from 3 to 3"),
        ("user,item,rating\n1,2,-3\n1,3,4\n", {"weights": True, "min_items": 2}, "holds -3 in row 0 at feature '2'"),
        ("user,item\n1,2\n", {"form": InteractionFile(columns=InteractionColumns("usr"))}, "did you mean 'user'"),
        ("user,item\n1,2\n", {"form": InteractionFile(columns=InteractionColumns(5))}, "but .* has 2 columns"),
        ("1 2\n\n3 4", {"form": InteractionFile("lists")}, "holds an empty line, where a user"),
        ("user,item\n", {}, "holds no rows"),
    ],
)
def test_what_holds_no_interactions_is_refused(
    text: str, options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=sentence) as found:
        loaded(Interactions(str(tmp_path / "x.csv"), **options))
    assert "\n" not in str(found.value)


def test_options_that_hold_nothing_out_are_refused() -> None:
    with pytest.raises(UserError, match=r"source\.min_items=1 must be at least 2"):
        Interactions("x", min_items=1)
    with pytest.raises(UserError, match=r"unknown test\.split='items'"):
        HeldOutInteractions("items")
    with pytest.raises(UserError, match=r"test\.fold_in=1\.0 is no fraction"):
        HeldOutInteractions(fold_in=1.0)
    with pytest.raises(UserError, match=r"unknown form\.layout='list'"):
        InteractionFile("list")


def test_movielens_is_read_by_its_yamls(real_data: Path) -> None:
    from command import composed

    from narrows.config.hydra_versions import instantiate

    place = f"data_dir={real_data}"
    data = instantiate(composed("datamodule=movielens", "datamodule.source.test.fraction=150", place).datamodule)
    data.setup()
    assert data.reading[0].startswith("interactions: 55,361 of 938 users with 1,447 items")
    assert (len(data.part("test")), data.spec.feature_names[0]) == (150, "Toy Story (1995)")
    data = instantiate(composed("datamodule=movielens_1m", place).datamodule)
    data.setup()
    sizes = [len(data.part(name)) for name in ("train", "test")]
    assert (sizes[0], data.spec.shape, data.part("test").target.matrix.nnz) == (6022, (3043,), 99_455)
