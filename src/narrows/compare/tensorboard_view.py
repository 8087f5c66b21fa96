"""A folder in which TensorBoard sees chosen runs under short names, with the keys in which they differ as HParams.

Every run is a folder of links to its event files, which are not touched, and one small event file of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from narrows.compare.higher_is_better import is_headline
from narrows.compare.run_records import Record
from narrows.compare.short_names import short_names
from narrows.compare.tensorboard_groups import tag_of
from narrows.compare.two_runs import MISSING
from narrows.compare.varied_keys import differing_columns

EVENTS = "events.out.tfevents"
OURS = f"{EVENTS}.0.narrows"
"""Sorted before the run's own files: TensorBoard keeps the first HParams summary that it reads."""


def make_view(folder: Path, records: Sequence[Record]) -> dict[str, Record]:
    """Fill an empty folder with one folder for each run that has events; returns the runs by name."""
    shown = [record for record in records if any(record.path.glob(f"{EVENTS}.*"))]
    columns = differing_columns(shown) if len(shown) > 1 else {}
    named = dict(zip(short_names(shown, columns), shown, strict=True))
    metrics = [name for name, _ in Counter(n for r in shown for n in r.metrics if is_headline(n)).most_common()]
    experiment = _experiment(columns, metrics)
    for place, (name, record) in enumerate(named.items()):
        (folder / name).mkdir()
        for file in record.path.glob(f"{EVENTS}.*"):
            (folder / name / file.name).symlink_to(file.resolve())
        values = {key: column[place] for key, column in columns.items() if column[place] not in (MISSING, None)}
        _write(folder / name / OURS, [experiment, _start(name, values), *_ending(record)])
    return named


def _experiment(columns: Mapping[str, Sequence[Any]], metrics: Sequence[str]) -> Summary:
    """The columns of the HParams table: the keys in which the runs differ, and their figures."""
    infos = []
    for key, values in columns.items():
        kinds = {_kind(value) for value in values if value not in (MISSING, None)}
        infos.append(api_pb2.HParamInfo(name=key, type=kinds.pop() if len(kinds) == 1 else api_pb2.DATA_TYPE_STRING))
    columns_of = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag_of(metric)), display_name=metric) for metric in metrics
    ]
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=columns_of)
    return _summary(metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment))


def _kind(value: Any) -> int:
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_FLOAT64 if isinstance(value, (int, float)) else api_pb2.DATA_TYPE_STRING


def _start(name: str, values: Mapping[str, Any]) -> Summary:
    start = plugin_data_pb2.SessionStartInfo(group_name=name)
    for key, value in values.items():
        kind = _kind(value)
        if kind == api_pb2.DATA_TYPE_BOOL:
            start.hparams[key].bool_value = value
        elif kind == api_pb2.DATA_TYPE_FLOAT64:
            start.hparams[key].number_value = value
        else:
            start.hparams[key].string_value = str(value)
    return _summary(metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start))


def _ending(record: Record) -> list[Summary]:
    states = {"completed": api_pb2.STATUS_SUCCESS, "running": api_pb2.STATUS_RUNNING}
    if record.status == "running":
        return []
    end = plugin_data_pb2.SessionEndInfo(status=states.get(record.status, api_pb2.STATUS_FAILURE))
    return [_summary(metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end))]


def _summary(tag: str, content: Any) -> Summary:
    made = Summary()
    value = made.value.add(tag=tag, metadata=metadata.create_summary_metadata(content))
    value.tensor.CopyFrom(metadata.NULL_TENSOR)
    return made


def _write(path: Path, summaries: Sequence[Summary]) -> None:
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(file_version="brain.Event:2").SerializeToString())
        for summary in summaries:
            writer.write(Event(summary=summary).SerializeToString())
