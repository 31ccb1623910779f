"""Skeleton: joints of people are read as the library reads them, and a moved person is dropped."""

import numpy as np
import pytest
import torch
from skimage import data

from filters import load
from filters._contract import Sample
from filters._poses import Pose, open_crop, open_look, open_people, open_poses, whole
from filters.skeleton import displacement
from storage.errors import SettingsError, ShardError
from storage.torchvision import prepare_torchvision

prepare_torchvision()

from transformers import (  # noqa: E402  torchvision must be prepared first
    RTDetrForObjectDetection,
    RTDetrImageProcessor,
    VitPoseForPoseEstimation,
    VitPoseImageProcessor,
)

from tests import tiny_vitpose  # noqa: E402

IMAGE = data.astronaut()[:300, 60:420].copy()
BOXES = [(10.0, 5.0, 180.0, 280.0), (100.5, 40.0, 60.0, 200.0)]


@pytest.fixture(scope="module")
def poses(tmp_path_factory):
    return str(tiny_vitpose.save_poses(tmp_path_factory.mktemp("vitpose")))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return str(tiny_vitpose.save_detector(tmp_path_factory.mktemp("detector")))


def skeleton(poses, **options):
    return load("skeleton")(weights=poses, min_joint=0.0, **options)


def scores_of(filter_, clean, degraded):
    return filter_.open("cpu")([Sample(key="a", clean=clean, degraded=degraded)])[0]


def pose(points, scores=None):
    points = np.asarray(points, np.float32)
    return Pose(points=points, scores=np.full(len(points), 0.9, np.float32) if scores is None else np.asarray(scores))


@pytest.mark.parametrize("experts", [1, 2])
def test_joints_are_those_of_the_library(tmp_path, experts):
    folder = tiny_vitpose.save_poses(tmp_path, experts=experts)
    processor, model = VitPoseImageProcessor.from_pretrained(folder), VitPoseForPoseEstimation.from_pretrained(folder)
    pixels = processor(images=[IMAGE], boxes=[BOXES], return_tensors="pt")["pixel_values"]
    index = {"dataset_index": torch.zeros(2, dtype=torch.long)} if experts > 1 else {}
    with torch.inference_mode():
        expected = processor.post_process_pose_estimation(model(pixels, **index), boxes=[BOXES])[0]
    crops = open_crop(str(folder))(IMAGE, BOXES)
    assert np.abs(crops - pixels.numpy()).max() <= 1e-4
    found = open_poses(str(folder), device="cpu", dtype="float32")(crops, BOXES)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours.points[:, ::-1] - theirs["keypoints"].numpy()).max() <= 1e-4
        assert np.abs(ours.scores - theirs["scores"].numpy()).max() <= 1e-4


def test_people_are_those_of_the_library_by_falling_probability(detector):
    processor = RTDetrImageProcessor.from_pretrained(detector)
    model = RTDetrForObjectDetection.from_pretrained(detector).eval()
    with torch.inference_mode():
        outputs = model(**processor(images=IMAGE, return_tensors="pt"))
    expected = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[IMAGE.shape[:2]])[0]
    people = sorted(expected["scores"][expected["labels"] == 0].tolist(), reverse=True)
    found = open_people(detector, threshold=0.0, most=99, device="cpu", dtype="float32")(open_look(detector)(IMAGE))
    assert 0 < len(found) <= len(people)
    best = expected["boxes"][expected["scores"].tolist().index(people[0])].clamp(min=0).tolist()
    width, height = min(best[2], IMAGE.shape[1]) - best[0], min(best[3], IMAGE.shape[0]) - best[1]
    assert found[0] == pytest.approx((best[0], best[1], width, height), abs=1e-4)


def test_at_most_so_many_people_are_looked_at(detector):
    find = open_people(detector, threshold=0.0, most=2, device="cpu", dtype="float32")
    assert len(find(open_look(detector)(IMAGE))) == 2


def test_without_a_detector_the_image_is_one_person(poses):
    assert whole(IMAGE) == [(0.0, 0.0, 360.0, 300.0)]
    assert scores_of(skeleton(poses), IMAGE, IMAGE)["people"] == 1


def test_equal_images_have_no_shift(poses):
    assert scores_of(skeleton(poses), IMAGE, IMAGE) == {"people": 1.0, "shift": 0.0, "shift_px": 0.0}


def test_detected_people_are_measured(poses, detector):
    one = skeleton(poses, detector=detector, min_person=0.0, people=3)
    scores = scores_of(one, IMAGE, IMAGE[:, ::-1].copy())
    assert scores["people"] == 3
    assert scores["shift"] > 0
    assert one.judge(scores).reason == "skeleton_shifted"


def test_displacement_is_the_median_over_joints_seen_in_both():
    clean = pose([[10, 10]] * 6 + [[50, 50]] * 3, [0.9] * 6 + [0.1] * 3)
    moved = pose([[13, 14]] * 6 + [[90, 90]] * 3)
    assert displacement(clean, moved, least=0.3) == pytest.approx(5)


def test_few_joints_are_no_evidence():
    assert displacement(pose([[0, 0]] * 4), pose([[9, 9]] * 4), least=0.3) == 0


@pytest.mark.parametrize(("shift", "reason"), [(0.0, ""), (0.029, ""), (0.031, "skeleton_shifted")])
def test_shift_is_judged_by_the_height_of_the_person(shift, reason):
    judge = load("skeleton")(weights="x").judge
    assert judge({"people": 1.0, "shift": shift, "shift_px": 9.0}).reason == reason


def test_detector_without_people_is_refused(tmp_path):
    folder = tiny_vitpose.save_detector(tmp_path, labels=("cat", "dog"))
    with pytest.raises(SettingsError, match="no label 'person'"):
        open_people(str(folder), threshold=0.5, most=8, device="cpu", dtype="float32")


def test_checkpoint_without_its_processor_is_refused(tmp_path):
    folder = tiny_vitpose.save_poses(tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(SettingsError, match="files of its processor"):
        open_poses(str(folder), device="cpu", dtype="float32")


def test_checkpoint_of_another_model_is_refused(detector):
    with pytest.raises((SettingsError, ShardError)):
        open_poses(detector, device="cpu", dtype="float32")


def test_skeleton_is_off_until_it_is_named():
    assert load("skeleton").needs_weights
