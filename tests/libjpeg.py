"""JPEG through its bytes, as two builds of libjpeg-turbo write and read them: what our own has to equal."""

import io

import cv2
import numpy as np
from PIL import Image as Pillow

from degradations.coding.codecs import Subsampling, tables
from storage.records import Image

PILLOWS: dict[Subsampling, int] = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
OPENCVS: dict[Subsampling, int] = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}


def of_opencv(image: Image, *, quality: int, subsampling: Subsampling) -> Image:
    """Return `image` as OpenCV writes and reads it."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, OPENCVS[subsampling]]
    _, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR_RGB), np.uint8)


def of_pillow(image: Image, *, quality: int, subsampling: Subsampling, tilt: float = 0.0, table_seed: int = 0) -> Image:
    """Return `image` as Pillow writes and reads it, with makers' tables unless `tilt` and `table_seed` are 0."""
    made = [table.ravel().tolist() for table in tables(quality, tilt=tilt, table_seed=table_seed)]
    given: dict[str, object] = {"qtables": made} if tilt or table_seed else {"quality": quality}
    stream = io.BytesIO()
    Pillow.fromarray(image).save(stream, "JPEG", subsampling=PILLOWS[subsampling], **given)
    with Pillow.open(stream) as decoded:
        return np.array(decoded.convert("RGB"), np.uint8)
