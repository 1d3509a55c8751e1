"""Exported GeoTIFFs in QGIS itself: the style beside each loads, and draws the quicklook's colours."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from known_cube import known_cube, values
from matplotlib import colormaps
from PIL import Image

from spacex.cube.export import export
from spacex.cube.layer_style import STOPS
from spacex.display import to_rgb

PYTHON = next((name for name in ("/usr/bin/python3", shutil.which("python3")) if name and Path(name).exists()), "")
SCRIPT = """
import sys
from qgis.core import QgsApplication, QgsMapRendererSequentialJob, QgsMapSettings, QgsRasterLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor
application = QgsApplication([], False)
application.initQgis()
for file in sys.argv[1:]:
    layer = QgsRasterLayer(file, "layer")
    message, loaded = layer.loadNamedStyle(file[:-4] + ".qml")
    assert layer.isValid() and loaded, (file, message)
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(layer.width(), layer.height()))
    settings.setBackgroundColor(QColor("white"))
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    assert job.renderedImage().save(file[:-4] + ".png")
    print("drawn", file, flush=True)
"""


def has_qgis():
    return bool(PYTHON) and not subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True).returncode


@pytest.mark.skipif(not has_qgis(), reason="no QGIS on this machine (Debian: qgis, python3-qgis)")
def test_qgis_draws_what_the_quicklook_does(tmp_path):
    files = export(known_cube(str(tmp_path / "c.zarr")).uri, str(tmp_path), times=["2021-07-01"])
    environment = {"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    run = subprocess.run([PYTHON, "-c", SCRIPT, *files], capture_output=True, text=True, env=environment, timeout=300)
    # it may crash when it ends, after all is drawn
    assert run.stdout.count("drawn") == len(files), run.stderr
    drawn = {Path(file).name.split("_")[0]: np.asarray(Image.open(file[:-4] + ".png").convert("RGB")) for file in files}
    maps, _ = values(1)
    there = np.isfinite(maps["naturalness"])
    shown = colormaps["cividis"](np.linspace(0, 1, STOPS))[:, :3] * 255
    for band in range(3):
        expected = np.interp(maps["naturalness"][there], np.linspace(0, 1, STOPS), shown[:, band])
        assert np.abs(drawn["naturalness"][there][:, band] - expected).max() <= 4
    assert (drawn["naturalness"][~there] == 255).all()
    with rasterio.open(next(file for file in files if "composite" in file)) as file:
        picture = file.read(masked=True).astype(float) * np.array(file.scales)[:, None, None]
        expected = to_rgb(picture.filled(np.nan), list(file.descriptions))
    assert np.abs(drawn["composite"] - 255 * expected).mean() <= 2
