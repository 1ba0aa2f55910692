"""What a model can do, known before anything of it is loaded.

Three sources: the frozen table below for what signatures do not say (which sibling classes of one family load
from the same directory), the components' configurations, and the installed diffusers' own signatures.
Diffusers' AutoPipeline mappings are no source: they miss Fill, LTX-2 and Klein's inpainting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fluxctx.domain import Size, Workflow
from fluxctx.engine.modeldir import ModelDirectory
from fluxctx.engine.signatures import Signature, Signatures
from fluxctx.errors import ModelRefused

T2I, I2I, INPAINT, EDIT = Workflow.TEXT_TO_IMAGE, Workflow.IMAGE_TO_IMAGE, Workflow.INPAINT, Workflow.EDIT

GuidanceParameter = Literal["true_cfg_scale", "guidance_scale", "none"]

# model_index.json's class -> the class that does each workflow from the same directory.
FAMILIES: Mapping[str, Mapping[Workflow, str]] = {
    "FluxPipeline": {T2I: "FluxPipeline", I2I: "FluxImg2ImgPipeline", INPAINT: "FluxInpaintPipeline"},
    "FluxKontextPipeline": {
        T2I: "FluxKontextPipeline",
        EDIT: "FluxKontextPipeline",
        INPAINT: "FluxKontextInpaintPipeline",
    },
    "FluxFillPipeline": {INPAINT: "FluxFillPipeline"},
    "Flux2Pipeline": {T2I: "Flux2Pipeline", EDIT: "Flux2Pipeline"},
    "Flux2KleinPipeline": {
        T2I: "Flux2KleinPipeline",
        EDIT: "Flux2KleinPipeline",
        INPAINT: "Flux2KleinInpaintPipeline",
    },
    "QwenImagePipeline": {
        T2I: "QwenImagePipeline",
        I2I: "QwenImageImg2ImgPipeline",
        INPAINT: "QwenImageInpaintPipeline",
    },
    "QwenImageEditPipeline": {EDIT: "QwenImageEditPipeline", INPAINT: "QwenImageEditInpaintPipeline"},
    "QwenImageEditPlusPipeline": {EDIT: "QwenImageEditPlusPipeline"},
    "ZImagePipeline": {T2I: "ZImagePipeline", I2I: "ZImageImg2ImgPipeline", INPAINT: "ZImageInpaintPipeline"},
    "StableDiffusionPipeline": {
        T2I: "StableDiffusionPipeline",
        I2I: "StableDiffusionImg2ImgPipeline",
        INPAINT: "StableDiffusionInpaintPipeline",
    },
    "StableDiffusionXLPipeline": {
        T2I: "StableDiffusionXLPipeline",
        I2I: "StableDiffusionXLImg2ImgPipeline",
        INPAINT: "StableDiffusionXLInpaintPipeline",
    },
    "StableDiffusion3Pipeline": {
        T2I: "StableDiffusion3Pipeline",
        I2I: "StableDiffusion3Img2ImgPipeline",
        INPAINT: "StableDiffusion3InpaintPipeline",
    },
}
# Pipelines that take a list of reference pictures in one request.
MANY_REFERENCES = frozenset({"Flux2Pipeline", "Flux2KleinPipeline", "QwenImageEditPlusPipeline"})
DEFAULT_SAMPLE_SIZE = 128  # latent rows and columns; every transformer family of diffusers uses it


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one directory can do and what its makers' code takes as usual.

    `pipelines` maps each workflow to the class that does it; `size_multiple` in pixels.
    """

    pipelines: Mapping[Workflow, str]
    guidance: GuidanceParameter
    default_guidance: float
    default_steps: int
    default_size: Size
    size_multiple: int
    max_prompt_tokens: int | None


def capabilities(directory: ModelDirectory, signatures: Signatures) -> Capabilities:
    """Derive what an installed directory can do; raises ModelRefused if this diffusers cannot run it."""
    own = signatures.find(directory.pipeline)
    if own is None:
        raise ModelRefused(
            f"the installed diffusers has no {directory.pipeline}",
            hint="a newer diffusers may have it; fluxctx runs pipelines of the installed one only",
        )
    pipelines = {
        workflow: name
        for workflow, name in FAMILIES.get(directory.pipeline, _unlisted(directory.pipeline, own)).items()
        if (signature := signatures.find(name)) is not None and _components_suffice(directory, signature)
    }
    if not pipelines:
        raise ModelRefused(f"{directory.pipeline} does nothing that fluxctx offers")
    guidance = guidance_parameter(own, directory.configs)
    distilled = is_distilled(directory)
    side = latent_side(directory.configs) * vae_factor(directory.configs)
    return Capabilities(
        pipelines=pipelines,
        guidance=guidance,
        default_guidance=1.0 if distilled else float(own.call.get(guidance) or 1.0),
        default_steps=4 if distilled else int(own.call.get("num_inference_steps") or 28),
        default_size=Size(width_px=side, height_px=side),
        size_multiple=vae_factor(directory.configs) * (1 if "unet" in directory.components else 2),
        max_prompt_tokens=own.call.get("max_sequence_length"),
    )


def guidance_parameter(signature: Signature, configs: Mapping[str, Mapping[str, Any]]) -> GuidanceParameter:
    """Say which argument steers towards the prompt.

    Where a transformer embeds guidance (FLUX.1 dev) it is `guidance_scale`; where it does not but the
    pipeline knows a true classifier-free scale (Qwen-Image, schnell), `guidance_scale` would do nothing.
    """
    transformer = configs.get("transformer", {})
    if "true_cfg_scale" in signature.call and not transformer.get("guidance_embeds", False):
        return "true_cfg_scale"
    return "guidance_scale" if "guidance_scale" in signature.call else "none"


def is_distilled(directory: ModelDirectory) -> bool:
    """Whether the weights were made for a few steps without guidance (schnell, Klein's distilled form)."""
    if directory.index.get("is_distilled"):
        return True
    schnell = directory.configs.get("transformer", {}).get("guidance_embeds") is False
    return directory.pipeline == "FluxPipeline" and schnell


def vae_factor(configs: Mapping[str, Mapping[str, Any]]) -> int:
    """Pixels of one latent, along a side; 8 where the autoencoder's configuration does not say."""
    vae = configs.get("vae", {})
    for key in ("block_out_channels", "dim_mult"):
        levels = vae.get(key)
        if isinstance(levels, list) and 1 <= len(levels) <= 8:
            return int(2 ** (len(levels) - 1))
    return 8


def latent_side(configs: Mapping[str, Mapping[str, Any]]) -> int:
    """Rows of latents of the size the model was made for."""
    for component in ("unet", "transformer"):
        side = configs.get(component, {}).get("sample_size")
        if isinstance(side, int) and 1 <= side <= 1024:
            return side
    return DEFAULT_SAMPLE_SIZE


def _unlisted(pipeline: str, signature: Signature) -> Mapping[Workflow, str]:
    """A class that the table does not know can at least be asked for a picture by its own signature."""
    call = signature.call
    if "prompt" in call and "num_frames" not in call and "generator" in call and "output_type" in call:
        return {T2I: pipeline} if "image" not in call else {}
    return {}


def _components_suffice(directory: ModelDirectory, signature: Signature) -> bool:
    """Whether the directory brings every component that the class cannot do without."""
    optional = {*signature.optional, "safety_checker", "feature_extractor", "image_encoder"}
    flags = {"requires_safety_checker", "force_zeros_for_empty_prompt", "add_watermarker", "is_distilled"}
    needed = set(signature.components) - optional - flags - set(directory.index)
    return not needed
