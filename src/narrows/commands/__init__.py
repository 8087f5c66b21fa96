"""Commands of `narrows`: one module each, with a parser and a call."""

COMMANDS = {
    "train": "train an autoencoder; -m sweeps",
    "compare": "config keys in which runs differ, beside their figures; --html writes a report",
    "tensorboard": "TensorBoard on chosen runs, with what they differ in as HParams",
    "diff": "what differs between two runs",
    "reproduce": "run a run again from its own record, and judge every figure",
    "evaluate": "judge finished runs by a task, beside the classic answer",
    "embed": "latents of new pictures, arrays, rows, series, texts or counts",
    "reconstruct": "new data as a run's model rebuilds them, in their own form and units",
    "score": "append anomaly scores and reconstructions to new rows of a table",
    "recommend": "the items that new users are likely to want, by a run of users and items",
    "summarise": "print the sentences that say most of new texts, by a run of documents",
    "sample": "draw from a run's prior, or from a density fitted to its latents",
    "compress": "pictures or arrays to one small file, by a run's model",
    "style": "a picture in the style of another, by a run's features and its decoder",
    "decompress": "what compress wrote, back to pictures or arrays",
    "pack": "a trained run in one file that every command takes for a run, with a model card",
    "export": "a trained model as ONNX, torch.export or safetensors, compared with the model",
    "completion": 'print the tab completion of a shell: eval "$(narrows completion bash)"',
}
