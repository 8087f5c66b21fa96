"""The words of other frameworks and the words of narrows for them.

A word that narrows does not know is answered by the one that does what it means elsewhere, before any that is merely
spelt alike.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from narrows.errors import nearest

REPLACED = {
    "gradient_clip_val": "module.clip_norm= clips, the model and each critic by itself",
    "gradient_clip_algorithm": "module.clip_norm= clips by the norm",
    "accumulate_grad_batches": "module.accumulate= is the number of batches per optimiser step",
    "logger": "logger= chooses the loggers: logger=[csv,tensorboard]",
    "callbacks": "callbacks= chooses the callbacks: callbacks=[default,early_stopping]",
    "default_root_dir": "output_dir= is where run directories are made, and name= what one is called",
    "enable_checkpointing": "checkpoints are always written, as callbacks.checkpoint says; callbacks=none does nothing "
    "else",
    "enable_progress_bar": "callbacks.progress.enable=false shows no progress bar",
    "reload_dataloaders_every_n_epochs": "every epoch has new batches; datamodule.batch_size= is their size",
    "plugins": "trainer.precision= and trainer.strategy= choose what plugins are for",
    "barebones": "callbacks=none logger=csv leave out what costs time",
    "enable_autolog_hparams": "logger= chooses the loggers, which get what was asked for",
    "model_registry": "checkpoints stay in the run directory; logger=mlflow or logger=wandb take the figures elsewhere",
}
"""Arguments of Lightning's Trainer that narrows gives it itself, and what stands for each."""

LATENT = "bottleneck.dim= is the size of the latent"
DATA = "datamodule= chooses the data: datamodule=mnist"
OWN_DATA = (
    "data_dir= is where data sets lie; files of your own are datamodule=image_folder, arrays, table or series with "
    "datamodule.source.path="
)
RATE = "optimizer.lr= is the learning rate"
BATCH = "datamodule.batch_size= is the number of examples in a batch"
EPOCHS = "trainer.max_epochs= is the number of epochs"
STEPS = "trainer.max_steps= is the number of optimiser steps"
RESUME = "resume=RUN goes on with a run from its last checkpoint, and narrows evaluate RUN judges one"
DEVICES = "trainer=gpu, trainer=cpu or trainer=ddp choose the devices, trainer.devices= how many"
WIDTHS = "encoder.widths=[512,256] and decoder.widths=[256,512] are the layers of encoder=mlp"
BETA = "variant=beta_vae is the beta-VAE, and loss.kl.weight= its beta"
TEST = "narrows train trains, then tests; narrows evaluate RUN tests a run again"
LOSS = "loss= chooses the terms, and likelihood= the reconstruction: gaussian is the squared error, bernoulli the BCE"
WARM_UP = "+schedule@loss.kl.weight=linear warms up the weight of the KL term"
SHAPE = "the shape of the examples is read from the data, narrows train datamodule=mnist; of pictures "
SHAPE += "datamodule.source.size= and datamodule.source.channels= can be set"
WORKERS = "datamodule.loading.num_workers= is the number of processes that read"
STOPPING = "callbacks=[default,early_stopping] stops early, after callbacks.early_stopping.patience= validations"
OUTPUT = "output_dir= is where run directories are made"
NAME = "name= is what the run directory is called, tags= and notes= say more"
CODES = "bottleneck.codes= is the number of vectors of bottleneck=vq"
WANDB = "logger=wandb records there, with the options logger.wandb.*"

ANSWERS = {
    DATA: "data dataset datasets dataset_name data_module dm data_name",
    OWN_DATA: "data_path data_root root dataset_path dataset_dir datadir path train_path",
    LATENT: "latent_dim latent_dims latent_size latent z_dim zdim nz n_latent latents n_latents encoding_dim code_size "
    "bottleneck_dim bottleneck_size hidden_size_latent dim_latent embedding_dim",
    RATE: "lr learning_rate base_lr learning_rate_init max_lr",
    BATCH: "batch_size bs batchsize train_batch_size per_device_train_batch_size",
    "datamodule.loading.eval_batch_size= is the batch size of evaluation": "val_batch_size test_batch_size "
    "per_device_eval_batch_size",
    EPOCHS: "max_epochs epochs epoch num_epochs n_epochs nepochs max_epoch num_train_epochs",
    STEPS: "max_steps steps num_steps iterations n_iter max_iter niter train_steps",
    RESUME: "ckpt_path ckpt checkpoint_path resume_from_checkpoint resume_from load_from_checkpoint weights pretrained",
    "narrows train -m sweep=optuna searches, over the ranges in sweep.params": "hparams_search hparam_search hpo "
    "optuna n_trials tune",
    TEST: "train test train_only test_only do_train do_eval do_test predict evaluate",
    DEVICES: "gpus gpu num_gpus n_gpus devices device cuda use_cuda use_gpu accelerator no_cuda tpu_cores",
    "trainer.precision= is the precision: trainer.precision=bf16-mixed": "precision amp fp16 bf16 mixed_precision",
    WORKERS: "num_workers workers n_workers n_jobs dataloader_num_workers",
    WIDTHS: "hidden_dims hidden_dim hidden_sizes hidden_size hidden_layers hidden layers num_layers layer_sizes units "
    "n_hidden encoder_layers decoder_layers",
    BETA: "beta kl_weight kld_weight kl_coef lambda_kl",
    LOSS: "loss_fn loss_function criterion reconstruction_loss recon_loss objective",
    "variant= chooses the kind of autoencoder: variant=beta_vae": "method algorithm vae_type model_type model_name "
    "method_name kind autoencoder",
    "encoder= and decoder= choose the networks: encoder=conv decoder=conv": "arch architecture backbone network net",
    "optimizer= chooses the optimiser: optimizer=adamw": "optim opt optimiser",
    "scheduler= chooses the course of the learning rate: scheduler=cosine": "lr_scheduler sched lr_schedule "
    "learning_rate_scheduler",
    "optimizer.weight_decay= is the weight decay": "weight_decay wd l2",
    WARM_UP: "warmup warmup_epochs warmup_steps warmup_ratio kl_warmup kl_annealing annealing anneal",
    STOPPING: "patience early_stop early_stopping earlystopping",
    REPLACED["gradient_clip_val"]: "gradient_clip_val gradient_clip grad_clip clip_grad clip_norm max_grad_norm "
    "gradient_clipping clip",
    REPLACED["accumulate_grad_batches"]: "accumulate_grad_batches gradient_accumulation_steps accumulation_steps "
    "grad_accum accumulate",
    OUTPUT: "log_dir logdir save_dir output out_dir outdir results_dir root_dir default_root_dir work_dir ckpt_dir",
    NAME: "exp_name run_name experiment_name task_name run exp",
    WANDB: "wandb use_wandb project wandb_project entity",
    "seed= is the seed of everything": "seed_everything random_seed random_state manual_seed rng_seed",
    SHAPE: "input_dim input_shape input_size in_channels num_channels image_size img_size n_features input_channels "
    "resize",
    CODES: "num_embeddings codebook_size n_embed num_codes n_codes",
    "augmentation@datamodule.augment=pictures flips and shifts training pictures, targets and all": "augment "
    "augmentation augmentations data_augmentation transform transforms random_flip random_crop color_jitter",
    "encoder.checkpointing=true computes activations again to save memory, and so does the decoder's": "use_checkpoint "
    "grad_checkpoint gradient_checkpointing activation_checkpointing checkpointing",
    "datamodule.validation= is the share that is held out for validation": "val_split val_size valid_size "
    "validation_split val_fraction validation_fraction",
    "module.compile=true runs the model through torch.compile": "compile torch_compile",
    "narrows train -m runs a sweep: narrows train -m seed=0,1,2": "multirun grid grid_search",
    "optimizer.betas= are Adam's": "betas beta1 beta2 b1 b2",
    "corruption= corrupts the input: corruption=gaussian corruption.sigma=0.3": "noise noise_std noise_level "
    "noise_factor denoise",
}
"""By answer, the words that ask for it."""
WORDS = {word: answer for answer, words in ANSWERS.items() for word in words.split()}
NAMED = re.compile(r"(?<![\w.@+])\+?[a-z_@]+(?:\.[a-z_@]+)*=")
"""The keys and groups that an answer names."""


def hint(word: str, known: Collection[str], place: str = "") -> str:
    """What a word that does not exist should be: the word for what it means elsewhere, a key of that name that stands
    elsewhere, or the nearest spelling.

    Args:
        word: a key or a group, without its place.
        known: the words that stand in that place.
        place: the dotted key of what was to hold it; empty for the config itself.
    """
    if place == "trainer" and word in REPLACED:
        return f"narrows does that itself: {REPLACED[word]}"
    names = [name for name in dict.fromkeys(known) if place != "trainer" or name not in REPLACED]
    here = [name for name in names if "." not in name]
    if place and difflib.get_close_matches(word, here, n=1, cutoff=0.9):
        return nearest(word, here)
    if word in WORDS:
        return WORDS[word]
    deeper = [name for name in names if name.rpartition(".")[2] == word and name != word]
    if deeper:
        return f"do you mean {' or '.join(deeper[:3])}?"
    # Three letters are like too many of the short words to say what was meant.
    long = [other for other in WORDS if len(other) > 3]
    alike = difflib.get_close_matches(word, [*here, *long], n=1, cutoff=0.8)
    return WORDS[alike[0]] if alike and alike[0] not in here else nearest(word, here)
