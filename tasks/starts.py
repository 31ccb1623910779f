"""What a training starts from: the model with its weights, and the frozen encoders before it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from storage.errors import SettingsError


class ModelOptions(BaseModel, frozen=True, extra="forbid"):
    """Which model, and what of it is trained.

    preset: a model from scratch; weights: a checkpoint instead, a file or a bundle's root. encoders: the bundle with
    the text encoder, processor and vae, that of `weights` unless said; prefix: the file with the text before the image
    that the weights were trained with. shape: changes to the preset, such as single_blocks.
    train: all weights, or low-rank adapters of `rank` and `alpha`. frozen: share of the single-stream blocks, from the
    first, that are not. checkpointed: blocks that are computed again in the backward pass. compute: what the model
    computes in; "mixed" multiplies matrices in bf16, which CPUs with AMX do several times faster, and keeps the rest.
    """

    preset: Literal["", "tiny"] = ""
    weights: str = ""
    encoders: str = ""
    prefix: str = ""
    reference_ids: Literal["", "v1.0", "v1.1", "realrestorer"] = ""
    shape: dict[str, Any] = {}
    train: Literal["full", "lora"] = "full"
    rank: Annotated[int, Field(ge=1)] = 64
    alpha: Annotated[int, Field(ge=1)] = 64
    frozen: Annotated[float, Field(ge=0, le=1)] = 0.0
    checkpointed: Annotated[int, Field(ge=0)] = 0
    compiled: bool = False
    compute: Literal["fp32", "bf16", "mixed"] = "fp32"

    @model_validator(mode="after")
    def _one_start(self) -> "ModelOptions":
        if bool(self.preset) == bool(self.weights):
            raise ValueError("name one of preset and weights")
        if self.shape and not self.preset:
            raise ValueError("shape changes a preset; weights have a shape of their own")
        return self


def params_of(options: ModelOptions) -> Any:
    """Return the params of the model that would be trained, without reading its weights."""
    from training.network import params
    from training.weights import checkpoints

    if options.weights:
        with checkpoints.opened(Path(options.weights), reference_ids=options.reference_ids or None) as checkpoint:
            return checkpoint.params
    shape = {name: tuple(value) if isinstance(value, list) else value for name, value in options.shape.items()}
    try:
        return params.replaced(params.tiny(), shape)
    except ValueError as error:
        raise SettingsError(f"model.shape: {error}") from error


def open_start(options: ModelOptions, *, seed: int, dtype: Any, device: str) -> Any:
    """Return the restorer (`training.restoring.tiles.Restorer`) that a training starts from, on its device.

    dtype: of the weights. Raises SettingsError or ShardError, one sentence, when something is missing or broken.
    """
    from training.encoders.latents import PixelLatents
    from training.encoders.prompts import GlancingPrompts
    from training.loop.sharding import freeze_first
    from training.network.model import build, initialise
    from training.restoring.tiles import Restorer
    from training.weights import checkpoints
    from training.weights.lora import adapt

    params = params_of(options)
    if options.weights:
        model = checkpoints.load(
            Path(options.weights), reference_ids=options.reference_ids or None, dtype=dtype, device=device
        )
    else:
        model = build(params, "cpu")
        initialise(model, seed)  # on the CPU: the same weights on every device
        model = model.to(device=device, dtype=dtype)
    freeze_first(model, options.frozen)
    if options.train == "lora":
        adapt(model, rank=options.rank, alpha=options.alpha, seed=seed)
    if params.connector is None:
        return Restorer(model=model, latents=PixelLatents(params.patch), prompts=GlancingPrompts())
    latents, prompts = _encoders(options, device)
    return Restorer(model=model, latents=latents, prompts=prompts)


def _encoders(options: ModelOptions, device: str) -> tuple[Any, Any]:
    from training.encoders.latents import load_flux
    from training.encoders.qwen import load_qwen

    root = Path(options.encoders or options.weights)
    if not (root / "text_encoder").is_dir():
        raise SettingsError(
            f"model.encoders: {root} holds no text_encoder; name a bundle with text_encoder, processor and vae"
        )
    if not options.prefix:
        raise SettingsError("model.prefix is missing: name the file with the text the weights were trained with")
    try:
        prefix = Path(options.prefix).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"model.prefix: {options.prefix} cannot be read: {error.strerror}") from error
    return load_flux(root, device=device), load_qwen(root, prefix, device=device)
