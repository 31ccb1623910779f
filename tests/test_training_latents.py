"""Images become tokens and come back; the autoencoder of Flux is read under all its names."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: install the `test` extra")

from safetensors.torch import save_file

from storage.errors import ShardError
from training.encoders.latents import FLUX_VAE, PixelLatents, diffusers_name, load_flux

SMALL = FLUX_VAE | {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4}
SMALL |= {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}


@pytest.fixture(scope="module")
def vae():
    model = diffusers.AutoencoderKL(**SMALL).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.2, generator=generator)
    return model


def original_names(levels):
    """List the names of the original autoencoder, as its own module tree spells them."""
    resnet = [f"{layer}.{leaf}" for layer in ("norm1", "conv1", "norm2", "conv2") for leaf in ("weight", "bias")]
    modules = []
    for half, stack, layers, sampler in (("encoder", "down", 2, "downsample"), ("decoder", "up", 3, "upsample")):
        modules += [f"{half}.{name}" for name in ("conv_in", "norm_out", "conv_out")]
        modules += [f"{half}.mid.attn_1.{name}" for name in ("norm", "q", "k", "v", "proj_out")]
        blocks = [f"{half}.mid.block_{number}" for number in (1, 2)]
        blocks += [f"{half}.{stack}.{level}.block.{layer}" for level in range(levels) for layer in range(layers)]
        modules += [f"{block}.{inner.rpartition('.')[0]}" for block in blocks for inner in resnet[::2]]
        with_sampler = range(levels - 1) if half == "encoder" else range(1, levels)
        modules += [f"{half}.{stack}.{level}.{sampler}.conv" for level in with_sampler]
    return [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")]


def as_original(vae, prefix=""):
    """Return the weights under their original names, attention as 1x1 convolutions."""
    state = vae.state_dict()
    shortcuts = ["encoder.down.1.block.0.nin_shortcut", "decoder.up.0.block.0.nin_shortcut"]
    names = original_names(2) + [f"{name}.{leaf}" for name in shortcuts for leaf in ("weight", "bias")]
    found = {name: state[diffusers_name(name, 2)] for name in names}
    assert len(found) == len(state)
    is_attention = [name for name in found if ".attn_1." in name and ".norm." not in name and name.endswith("weight")]
    found |= {name: found[name][..., None, None].clone() for name in is_attention}
    return {prefix + name: tensor for name, tensor in found.items()}


def test_original_names_become_those_that_diffusers_gives_them(vae):
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    golden = convert_ldm_vae_checkpoint(as_original(vae), dict(vae.config))
    state = vae.state_dict()
    assert golden.keys() == state.keys()
    assert all(torch.equal(golden[name].squeeze(), state[name].squeeze()) for name in state)


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "inner_model."])
def test_autoencoder_is_read_under_its_original_names(tmp_path, vae, prefix):
    (tmp_path / "vae").mkdir()
    save_file(as_original(vae, prefix), tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    check_latents(load_flux(tmp_path, SMALL), vae)


@torch.no_grad()
def test_autoencoder_is_read_as_diffusers_writes_it(tmp_path, vae):
    vae.save_pretrained(tmp_path)
    check_latents(load_flux(tmp_path, SMALL), vae)


def check_latents(latents, vae):
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokens = latents.encode(image)
    assert latents.multiple == 4
    assert tokens.shape == (1, 4 * 6, 16)
    mode = vae.encode(image).latent_dist.mode()
    torch.testing.assert_close(tokens[0, 1, :4], (mode[0, 0, :2, 2:4].flatten() - 0.1159) * 0.3611)
    torch.testing.assert_close(latents.decode(tokens, height=16), vae.decode(mode).sample, atol=1e-4, rtol=1e-4)


def test_another_autoencoder_is_refused(tmp_path, vae):
    state = as_original(vae)
    state["encoder.conv_in.weight"] = torch.zeros(8, 4, 3, 3)
    save_file(state, tmp_path / "wrong.safetensors")
    with pytest.raises(ShardError, match=r"encoder.conv_in.weight is \(8, 4, 3, 3\), expected \(8, 3, 3, 3\)"):
        load_flux(tmp_path / "wrong.safetensors", SMALL)
    del state["encoder.conv_in.weight"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(ShardError, match=r"1 names differ, such as encoder.conv_in.weight"):
        load_flux(tmp_path / "less.safetensors", SMALL)


def test_pixels_come_back_as_they_were():
    image = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    latents = PixelLatents(4)
    tokens = latents.encode(image)
    assert tokens.shape == (2, 15, 48)
    assert torch.equal(latents.decode(tokens, height=12), image)
