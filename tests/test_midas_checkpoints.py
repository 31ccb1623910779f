"""MiDaS checkpoints: what convert makes of one predicts what MiDaS's own network, built on timm, predicts."""

import json
from functools import partial

import numpy as np
import pytest
import skimage.data

from flows.__main__ import run
from storage.errors import ShardError
from tasks.annotators import open_annotator
from tasks.annotators.midas import Estimator, Options
from tasks.midas_checkpoints import configuration, convert_midas

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")
from safetensors.torch import load_file, save_file  # noqa: E402

nn = torch.nn

WIDE, FUSED, NECK = 128, 16, (8, 16, 24, 32)
SIDE = 64


class Readout(nn.Module):
    """Adds what the class token knows to every patch."""

    def __init__(self):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * WIDE, WIDE), nn.GELU())

    def forward(self, tokens):
        readout = tokens[:, :1].expand(-1, tokens.shape[1] - 1, -1)
        return self.project(torch.cat([tokens[:, 1:], readout], dim=-1))


class Unit(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(FUSED, FUSED, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return x + self.conv2(torch.relu(self.conv1(torch.relu(x))))


class Fusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.resConfUnit1, self.resConfUnit2, self.out_conv = Unit(), Unit(), nn.Conv2d(FUSED, FUSED, 1)

    def forward(self, x, skip=None):
        x = self.resConfUnit2(x if skip is None else x + self.resConfUnit1(skip))
        return self.out_conv(nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))


def reassemble(channels, resize):
    patches = nn.Unflatten(2, (SIDE // 16, SIDE // 16))
    first = [Readout(), nn.Identity(), nn.Identity(), nn.Conv2d(WIDE, channels, 1), *([resize] if resize else [])]
    block = nn.Sequential(*first)
    block.to_map = lambda tokens: patches(block[0](tokens).transpose(1, 2))
    return block


class Midas(nn.Module):
    """The network of MiDaS as its papers and the names in its checkpoints describe it; forward in the plainest way."""

    def __init__(self, backbone):
        super().__init__()
        self.pretrained, self.scratch = nn.Module(), nn.Module()
        self.pretrained.model = backbone
        self.is_hybrid = hasattr(backbone.patch_embed, "backbone")
        first, second, third, fourth = NECK
        resizes = (
            nn.ConvTranspose2d(first, first, 4, stride=4),
            nn.ConvTranspose2d(second, second, 2, stride=2),
            None,
            nn.Conv2d(fourth, fourth, 3, stride=2, padding=1),
        )
        in_channels = [128, 256, third, fourth] if self.is_hybrid else NECK
        for index, (channels, resize) in enumerate(zip(NECK, resizes, strict=True), start=1):
            block = nn.Sequential(*(nn.Identity() for _ in range(3)))
            if not self.is_hybrid or index > 2:
                block = reassemble(channels, resize)
            setattr(self.pretrained, f"act_postprocess{index}", block)
            setattr(
                self.scratch, f"layer{index}_rn", nn.Conv2d(in_channels[index - 1], FUSED, 3, padding=1, bias=False)
            )
            setattr(self.scratch, f"refinenet{index}", Fusion())
        self.scratch.output_conv = nn.Sequential(
            nn.Conv2d(FUSED, FUSED // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(FUSED // 2, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 1, 1),
            nn.ReLU(),
        )

    def forward(self, pixels):
        maps = []
        for index, tokens in enumerate(self._features(pixels), start=1):
            block = getattr(self.pretrained, f"act_postprocess{index}")
            if tokens.dim() == 3:
                tokens = block[3:](block.to_map(tokens))
            maps.append(getattr(self.scratch, f"layer{index}_rn")(tokens))
        path = self.scratch.refinenet4(maps[3])
        for index in (3, 2, 1):
            path = getattr(self.scratch, f"refinenet{index}")(path, maps[index - 1])
        return self.scratch.output_conv(path)[:, 0]

    def _features(self, pixels):
        model, found = self.pretrained.model, []
        if self.is_hybrid:
            inner = model.patch_embed.backbone
            x = inner.stem(pixels)
            for stage in inner.stages:
                x = stage(x)
                found.append(x)
            x = model.patch_embed.proj(found.pop()).flatten(2).transpose(1, 2)
        else:
            x = model.patch_embed(pixels)
        x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + model.pos_embed if model.pos_embed is not None else x
        for index, block in enumerate(model.blocks):
            x = block(x)
            if index in ((2, 3) if self.is_hybrid else (0, 1, 2, 3)):
                found.append(x)
        return found


def vit():
    return timm.models.vision_transformer.VisionTransformer(
        img_size=SIDE, embed_dim=WIDE, depth=4, num_heads=2, num_classes=7
    )


def beit():
    return timm.models.beit.Beit(
        img_size=SIDE,
        embed_dim=WIDE,
        depth=4,
        num_heads=2,
        num_classes=7,
        init_values=0.5,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
    )


def hybrid():
    from timm.layers import StdConv2dSame
    from timm.models.resnetv2 import ResNetV2
    from timm.models.vision_transformer_hybrid import HybridEmbed

    layers = {"layers": (1, 1, 1), "channels": (128, 256, 512), "num_classes": 0, "global_pool": ""}
    inner = ResNetV2(**layers, preact=False, stem_type="same", conv_layer=partial(StdConv2dSame, eps=1e-8))
    return timm.models.vision_transformer.VisionTransformer(
        img_size=SIDE,
        embed_dim=WIDE,
        depth=4,
        num_heads=2,
        num_classes=7,
        embed_layer=lambda **options: HybridEmbed(inner, img_size=SIDE, embed_dim=options["embed_dim"]),
    )


@pytest.fixture(scope="module", params=[vit, hybrid, beit], ids=lambda make: make.__name__)
def network(request):
    torch.manual_seed(0)
    model = Midas(request.param()).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "backbone" not in name:
            nn.init.normal_(parameter, std=0.08)
        if name.startswith("scratch.output_conv") and name.endswith("bias"):
            parameter.data += 0.5
    return model


@pytest.fixture(scope="module")
def converted(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("midas")
    if network.is_hybrid:  # one comes as safetensors
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "x.safetensors")
        convert_midas(folder / "x.safetensors", folder / "dpt")
    else:
        torch.save(network.state_dict(), folder / "x.pt")
        convert_midas(folder / "x.pt", folder / "dpt")
    return folder / "dpt"


def test_a_converted_checkpoint_predicts_what_midas_does(network, converted):
    pixels = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 3, SIDE, SIDE)).astype(np.float32))
    model = Estimator("cpu", str(converted), Options())._model
    with torch.inference_mode():
        expected, found = network(pixels), model(pixel_values=pixels).predicted_depth
    assert expected.min() >= 0 < expected.std()
    assert float((expected - found).abs().max()) <= 1e-4 * float(expected.max())


def test_a_converted_checkpoint_annotates(converted):
    depth = open_annotator("midas", weights=str(converted)).annotate(skimage.data.astronaut()[:90, :120])
    assert depth.shape == (90, 120)
    assert 0 <= depth.min() < depth.max() <= 1


def test_images_are_prepared_square_at_the_size_of_the_position_embedding(converted):
    processor = transformers.AutoImageProcessor.from_pretrained(converted)
    pixels = processor(images=skimage.data.astronaut()[:90], return_tensors="pt")["pixel_values"]
    assert tuple(pixels.shape) == (1, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    ("name", "depth", "layers", "neck"),
    [
        ("vit_large_patch16_384", 24, [5, 11, 17, 23], [256, 512, 1024, 1024]),
        ("beit_large_patch16_512", 24, ["stage6", "stage12", "stage18", "stage24"], [256, 512, 1024, 1024]),
        ("beit_base_patch16_384", 12, ["stage3", "stage6", "stage9", "stage12"], [96, 192, 384, 768]),
        ("vit_base_r50_s16_384", 12, [2, 5, 8, 11], [256, 512, 768, 768]),
    ],
)
def test_published_sizes_are_read_off_the_shapes(name, depth, layers, neck, tmp_path):
    with torch.device("meta"):
        state = timm.create_model(name, pretrained=False).state_dict()
    shapes = {f"pretrained.model.{key}": tuple(value.shape) for key, value in state.items()}
    shapes |= {f"scratch.layer{index}_rn.weight": (256, width, 3, 3) for index, width in enumerate(neck, start=1)}
    shapes["pretrained.act_postprocess4.0.project.0.weight"] = (1, 1)
    config = configuration(tmp_path, shapes)
    backbone = config.get("backbone_config", {}) if "beit" in name else config
    assert backbone["num_hidden_layers"] == depth
    assert backbone["num_attention_heads"] == {24: 16, 12: 12}[depth]
    assert backbone["image_size"] == int(name[-3:])
    assert layers in (backbone.get("out_features"), backbone.get("backbone_out_indices"))
    assert config["neck_hidden_sizes"] == neck
    if "r50" in name:
        assert config["backbone_config"]["depths"] == [3, 4, 9]
        assert config["backbone_config"]["hidden_sizes"] == [256, 512, 1024, 2048]
        assert config["backbone_featmap_shape"] == [1, 1024, 24, 24]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    file = tmp_path_factory.mktemp("small") / "dpt.safetensors"
    save_file({name: value.contiguous() for name, value in Midas(vit()).state_dict().items()}, file)
    return file


def changed(source, target, change):
    state = load_file(source)
    change(state)
    save_file(state, target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("pretrained.model.cls_token"), "expected tensors such as pretrained.model.cls_token"),
        (lambda state: state.update(surplus=torch.zeros(1)), "holds surplus, which no DPT"),
        (lambda state: state.pop("scratch.output_conv.0.bias"), "expected but not found: head.head.0.bias"),
        (lambda state: state.update({"pretrained.model.norm.weight": torch.zeros(3)}), "shape: dpt.layernorm.weight"),
        (lambda state: [state.pop(name) for name in [*state] if name.startswith("scratch")], "is no DPT of MiDaS 3"),
    ],
)
def test_what_is_no_dpt_of_midas_names_file_and_keys_and_leaves_nothing(change, message, small, tmp_path):
    changed(small, tmp_path / "x.safetensors", change)
    with pytest.raises(ShardError) as caught:
        convert_midas(tmp_path / "x.safetensors", tmp_path / "dpt")
    assert str(tmp_path / "x.safetensors") in str(caught.value)
    assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_the_command_converts_and_refuses_a_target_that_exists(small, tmp_path, capsys):
    assert run(["convert", str(small), str(tmp_path / "dpt"), "--to", "dpt", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parameters"] == sum(
        value.numel() for name, value in Midas(vit()).state_dict().items() if "model.head" not in name
    )
    assert run(["convert", str(small), str(tmp_path / "dpt"), "--to", "dpt"]) == 2
    assert "exists; name another place" in capsys.readouterr().err
