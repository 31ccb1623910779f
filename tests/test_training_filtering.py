"""The filters of the small restorer: bands add up, shrinkage keeps edges, curves reach from end to end."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import numpy as np
import pytest
from scipy.ndimage import convolve1d

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from training.network import filtering
from training.network.filtering import BANDS, CELLS, CURVES, GATES, SCALES, SEEN
from training.network.glance import LIGHT, glance

PATCH = 8
EVERYWHERE, STRONG, THRESHOLD = range(3)
ITSELF, TOGETHER, APART, CLEARED = 1, 3, 6, 7  # functions of the tone


def picture(rows=24, columns=40, seed=0):
    """Return an image within -1 and 1, (1, 3, H, W)."""
    return torch.rand(1, 3, rows, columns, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def coded(image):
    return ((image[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def gates(image, detail=None, tone=None):
    """Return the same gates for every token: `detail` by kind, for all bands, `tone` by function, for all channels."""
    cells, curves = torch.zeros(CELLS**2, 3, BANDS), torch.zeros(CURVES, 3)
    for kind, value in (detail or {}).items():
        cells[:, kind] = value
    for function, value in (tone or {}).items():
        curves[function] = value
    tokens = image.shape[2] // PATCH * (image.shape[3] // PATCH)
    return torch.cat([cells.flatten(), curves.flatten()]).expand(1, tokens, GATES)


def filtered(image, strength=(1.0, 1.0), **said):
    measured = filtering.measured(image, torch.from_numpy(glance(coded(image)))[None], PATCH)
    return filtering.filtered(measured, gates(image, **said), torch.tensor([strength]), PATCH)


def smooth(image):
    """Return each channel smoothed by 1, 2, 1 at distances 1, 2 and 4, one line after the other."""
    found = image.numpy().astype(np.float64)
    for scale in range(SCALES):
        kernel = np.zeros(2 * 2**scale + 1)
        kernel[[0, 2**scale, -1]] = 0.25, 0.5, 0.25
        for axis in (3, 2):
            found = convolve1d(found, kernel, axis=axis, mode="nearest")
    return found


def test_gates_of_zero_leave_every_bit():
    image = picture()
    assert torch.equal(filtered(image), image)


def test_without_its_bands_an_image_is_smooth():
    image = picture()
    np.testing.assert_allclose(filtered(image, detail={EVERYWHERE: -1.0}), smooth(image), atol=1e-5)


def test_bands_count_twice_when_asked_to():
    image = picture()
    expected = 2 * image.numpy() - smooth(image)
    np.testing.assert_allclose(filtered(image, detail={EVERYWHERE: 1.0}), expected, atol=1e-5)


@pytest.mark.parametrize(("threshold", "shrunk"), [(-30.0, True), (30.0, False)])
def test_a_band_is_strong_above_its_threshold(threshold, shrunk):
    image = picture()
    found = filtered(image, detail={STRONG: -1.0, THRESHOLD: threshold})
    np.testing.assert_allclose(found, smooth(image) if shrunk else image, atol=1e-5)


def test_shrinkage_takes_noise_and_keeps_edges():
    noise = 0.02 * torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    step = torch.full((1, 3, 48, 48), -0.5)
    step[..., 24:] = 0.5
    found = filtered(step + noise, detail={EVERYWHERE: -1.0, STRONG: 1.0, THRESHOLD: 1.0})
    assert (found - step)[..., :12].std() < noise[..., :12].std() / 3
    assert (found[..., 24] - found[..., 23]).mean() > 0.9
    blurred = smooth(step + noise)
    assert (blurred[..., 24] - blurred[..., 23]).mean() < 0.5


def test_a_grey_image_has_no_colour():
    grey = picture()[:, :1].expand(-1, 3, -1, -1)
    by_scale = filtering.bands(grey).unflatten(1, (SCALES, -1))
    assert by_scale[:, :, 3:].abs().max() < 1e-6
    assert by_scale[:, :, :3].abs().amax(dim=(0, 2, 3, 4)).min() > 0.05


def test_the_tone_itself_is_a_gain():
    image = picture()
    torch.testing.assert_close(filtered(image, tone={ITSELF: 0.5}), 1.5 * image)


@pytest.mark.parametrize("function", [TOGETHER, APART])
def test_a_stretched_tone_reaches_from_end_to_end(function):
    image = 0.1 * picture(64, 64) - 0.7
    found = filtered(image, tone={ITSELF: -1.0, function: 1.0})
    assert found.quantile(0.01) == pytest.approx(-1, abs=0.03)
    assert found.quantile(0.99) == pytest.approx(1, abs=0.03)


def hazy(transmission, air=0.9, seed=0):
    """Return a scene in which some pixels of every neighbourhood are black, and the same through even haze."""
    scene = picture(64, 64, seed)
    scene[:, :, ::4, ::4] = -1
    scene[:, :, :8, :8] = air  # the sky, which the glance takes for the air
    return scene, air + (scene - air) * transmission


def test_clearing_takes_nine_tenths_of_even_haze():
    """With a black pixel in every neighbourhood the dark channel is 1 - t, and J is known from Koschmieder's law."""
    scene, degraded = hazy(transmission=0.5, air=0.9)
    found = filtered(degraded, tone={CLEARED: 1.0})[..., 16:, 16:]
    air = torch.from_numpy(glance(coded(degraded))[: 3 * LIGHT].reshape(3, LIGHT)[:, -1]).reshape(1, 3, 1, 1) / 2
    darkest = (degraded[..., 16:, 16:].amin() + 1) / (air + 1)
    expected = air + (degraded[..., 16:, 16:] - air) / (1 - 0.9 * darkest)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert (found - scene[..., 16:, 16:]).abs().mean() < (degraded - scene)[..., 16:, 16:].abs().mean() / 4


def test_what_holds_no_haze_is_not_cleared():
    scene, _ = hazy(transmission=1.0)
    torch.testing.assert_close(filtered(scene, tone={CLEARED: 1.0})[..., 24:, 24:], scene[..., 24:, 24:])


def test_strength_is_what_gates_count():
    image = picture()
    said = {"detail": {EVERYWHERE: -1.0}, "tone": {ITSELF: 0.5}}
    assert torch.equal(filtered(image, strength=(0.0, 0.0), **said), image)
    np.testing.assert_allclose(filtered(image, strength=(1.0, 0.0), **said), smooth(image), atol=1e-5)
    torch.testing.assert_close(filtered(image, strength=(0.0, 1.0), **said), 1.5 * image)


def test_a_cell_is_filtered_by_its_own_gates():
    image = picture(32, 32)
    measured = filtering.measured(image, torch.from_numpy(glance(coded(image)))[None], PATCH)
    said = gates(image).clone()
    said[0, 5, 0:BANDS] = -1.0  # the token of row 1 and column 1, its upper left cell
    changed = (filtering.filtered(measured, said, torch.ones(1, 2), PATCH) != image).any(dim=1)[0]
    rows, columns = torch.nonzero(changed, as_tuple=True)
    reach = (rows.min().item(), rows.max().item(), columns.min().item(), columns.max().item())
    assert reach == (6, 13, 6, 13)  # the cell is 8 to 11; interpolation reaches to the middles of its neighbours


def test_a_token_sees_the_numbers_of_its_cells():
    image = picture(16, 24)
    measured = filtering.measured(image, torch.from_numpy(glance(coded(image)))[None], PATCH)
    found = filtering.seen(measured, PATCH)
    assert found.shape == (1, 6, SEEN)
    by_cell = found[0, 4].reshape(BANDS + 8, CELLS, CELLS)  # the token of row 1 and column 1
    torch.testing.assert_close(by_cell[BANDS : BANDS + 3, 1, 0], image[0, :, 12:16, 8:12].mean(dim=(1, 2)))
    torch.testing.assert_close(by_cell[0, 1, 0], measured.energies_BNHW[0, 0, 12:16, 8:12].mean())
    shares = (image[0] + 1) / (measured.high[0] + 1)
    torch.testing.assert_close(by_cell[-2, 1, 0], 2 * shares[:, 12:16, 8:12].amin() - 1)
    torch.testing.assert_close(by_cell[-1, 1, 0], 2 * shares[:, :, :24].amin() - 1)  # 28 pixels around


def test_light_stays_precise_in_mixed_precision():
    image, said = picture(), {"detail": {EVERYWHERE: -0.5}, "tone": {TOGETHER: 0.2}}
    with torch.autocast("cpu", torch.bfloat16):
        mixed = filtered(image, **said)
    assert torch.equal(mixed, filtered(image, **said))
