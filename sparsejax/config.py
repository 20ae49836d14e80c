"""The configuration of a run: dataclasses whose fields are those of YAML files and the flags.

A value comes from the defaults below, then from the file of `--config`, then from flags
(`command_line`); the later wins. YAML and flags go through the same conversion (`config_values`)
and the same checks (`config_checks`), and every mistake is a one-line `UserError`. Nothing here
imports an array library, so `--help` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

# The comments on the fields are the text of --help.


@dataclass(frozen=True)
class DataConfig:
    """Sentences to train and evaluate on. With neither dir nor hub: the embedded corpus."""

    dir: str | None = None  # Local directory with <lang>/{train,dev,test}; wins over hub
    hub: str | None = None  # Hugging Face dataset (or a local copy): one config per language
    languages: tuple[str, ...] = ()  # Codes to train on; unset: all that the source has
    eval_languages: tuple[str, ...] = ()  # Codes to evaluate on; unset: those trained on
    train_sentences: int | None = None  # Per language at most; none: all
    eval_sentences: int | None = None  # Per language and split at most; none: all
    subsample: int | None = None  # Seed of a random choice of those sentences; none: the first ones
    alpha: float = 1.0  # Languages are seen as their size ** alpha; 1: every sentence once
    language_table: str | None = None  # YAML file with family, script, ... of your own languages
    length: int = 64  # Pieces per packed row, special tokens included
    cache: str | None = None  # Tokenised data; none: $SPARSEJAX_CACHE or ~/.cache/sparsejax
    processes: int | None = None  # That tokenise; none: one per processor


@dataclass(frozen=True)
class ModelConfig:
    """The encoder. With neither path nor hub: a small BERT from random initialisation."""

    path: str | None = None  # Local Hugging Face model directory; wins over hub
    hub: str | None = None  # Hugging Face model id
    layers: int = 2  # From scratch: layers
    width: int = 64  # From scratch: hidden width, a multiple of heads
    heads: int = 4  # From scratch: attention heads
    intermediate: int = 128  # From scratch: feed-forward width
    vocabulary: int = 8000  # From scratch: pieces learned from the training sentences
    dropout: float = 0.1  # From scratch: dropout rate
    dtype: Literal["float32", "bfloat16"] = "float32"  # Of the computation; parameters are float32


Method = Literal[
    "none", "magnitude", "latent_magnitude", "movement", "soft_movement", "random", "fixed"
]


@dataclass(frozen=True)
class PruneConfig:
    """Pruning during fine-tuning, on a cubic schedule."""

    method: Method = "magnitude"  # none: a dense model; fixed: the masks of a pruned one are kept
    sparsity: float = 0.9  # Final fraction of zeros in the targets; soft_movement finds its own
    begin: float = 0.1  # Fraction of the training steps at which the schedule starts
    end: float = 0.9  # Fraction of the training steps at which the final sparsity is reached
    interval: int = 10  # Steps between mask updates; the last scheduled step always updates
    embeddings: bool = False  # Also prune the word embedding matrix
    scope: Literal["tensor", "global"] = "tensor"  # Rank within each target or among all of them
    pattern: str = "weights"  # What goes as one: weights, N:M as 2:4, RxC as 32x32, heads, neurons
    score_learning_rate: float = 1e-2  # Movement: peak learning rate of the scores
    threshold: float = 0.1  # Soft movement: final threshold on the sigmoid of the scores
    penalty: float = 400.0  # Soft movement: final weight of the mean sigmoid in the loss
    masks: str | None = None  # masks.safetensors of the pruned model that training starts from


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation."""

    epochs: int = 8  # Passes over the training sentences
    batch_size: int = 32  # Sentences per step, on average, in rows that are full
    learning_rate: float = 2e-3  # Peak learning rate of AdamW; about 5e-5 suits pretrained models
    warmup: float = 0.1  # Fraction of the steps over which the learning rate rises from 0
    decay: Literal["linear", "constant"] = "linear"  # Learning rate after the warmup
    weight_decay: float = 0.01  # Weight decay of AdamW
    clip_norm: float = 1.0  # Global norm at which gradients are clipped
    log_every: int = 10  # Steps between rows of metrics.jsonl
    nonfinite: Literal["stop", "skip"] = "stop"  # A step whose loss or gradient is not finite
    wandb: str | None = None  # Project on Weights & Biases that the metrics go to as well


@dataclass(frozen=True)
class CheckpointConfig:
    """What is kept of a run while it trains, so that it can go on after anything."""

    every: int = 1000  # Steps between checkpoints; there is always one at the end
    keep: int = 2  # The newest ones that are kept; 0: one, and none when the run is finished
    best: bool = False  # Score each on the dev split; the best at full sparsity is the model


@dataclass(frozen=True)
class ParallelConfig:
    """Devices and processes. One process uses all devices that it sees."""

    # HOST:PORT of process 0; auto: what SLURM, MPI or GKE say; cluster: what JAX finds; none: alone
    coordinator: str | None = "auto"
    processes: int | None = None  # With HOST:PORT: how many there are
    process: int | None = None  # With HOST:PORT: which one this is, from 0
    fsdp: int = 1  # Devices that share one copy of parameters and optimizer state
    cpu_devices: int | None = None  # Emulated ones of the CPU, to try a run out


@dataclass(frozen=True)
class Config:
    """One run; the defaults are the embedded quickstart."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    seed: int = 0  # Seed of initialisation, data order and dropout
    output: str | None = None  # Run directory; none: runs/<date>-<time>
    overwrite: bool = False  # Replace the run that is already in output
    resume: Literal["never", "auto"] = "never"  # Auto: go on with the run that is in output


Kind = Literal["language", "script", "family", "unseen", "noise"]


@dataclass(frozen=True)
class EvaluateDataConfig:
    """Sentences to evaluate on. What is not set is as it was in the run, whatever its default."""

    dir: str | None = None  # Local directory with <lang>/{train,dev,test}; wins over hub
    hub: str | None = None  # Hugging Face dataset (or a local copy): one config per language
    eval_languages: tuple[str, ...] = ()  # Codes of the languages
    eval_sentences: int | None = None  # Per language at most; unset: as in the run, none: all
    subsample: int | None = None  # Seed of a random choice of those sentences; none: the first ones
    language_table: str | None = None  # YAML file with family, script, ... of your own languages
    cache: str | None = None  # Directory of the tokenised data
    processes: int | None = None  # That tokenise


@dataclass(frozen=True)
class EvaluateConfig:
    """One evaluation of a saved run."""

    data: EvaluateDataConfig = field(default_factory=EvaluateDataConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    split: Literal["train", "dev", "test"] = "test"  # Which sentences
    perturb: tuple[Kind, ...] = ()  # Also with every entity replaced, in each of these ways
    seed: int = 0  # Seed of the replacements
    write: str | None = None  # Directory for the replaced sentences, as TSV and side by side
    against: str | None = None  # Another run: the sentences on which the two differ


@dataclass(frozen=True)
class SlurmConfig:
    """The jobs of --executor slurm: each is a worker, on one node, that does run after run."""

    workers: int = 4  # How many
    partition: str | None = None  # None: SLURM's default
    account: str | None = None  # That pays for them
    minutes: int = 240  # After which a job is requeued, if there is more to do
    gpus: int = 1  # Of each worker; 0: none
    cpus: int = 8  # Of each worker
    memory: int | None = None  # GB of each worker; none: SLURM's default
    setup: tuple[str, ...] = ()  # Shell commands before it starts, such as "module load cuda"


@dataclass(frozen=True)
class SweepConfig:
    """How a grid is worked through; data, model and so on are for all of its runs."""

    output: str | None = None  # Directory of the grid; none: runs/<name of the file>
    dry_run: bool = False  # List the runs, with an estimate of time, and do none
    executor: Literal["local", "slurm"] = "local"  # This process, or a job array of workers
    accept_changes: bool = False  # Go on with a grid whose file has changed since it was started
    retry: bool = False  # Begin again runs that failed
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
