#!/usr/bin/env bash
# Pillow 12.0.0, grey pictures of 16 bits, as medical and depth data are kept:
# - a PNG with a transparent value (tRNS) opens as I;16, and convert("RGBA") clips every value above 255 to white;
# - a PGM whose largest value is 4095 (12 bits) opens with its values scaled to 65535.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pillow==12.0.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import PIL
from PIL import Image

print("Pillow", PIL.__version__)
values = np.array([[0, 200, 1000, 30000]], np.uint16)
Image.fromarray(values).save("a.png", transparency=0)
with Image.open("a.png") as image:
    mode, stored, converted = image.mode, np.asarray(image).tolist(), np.asarray(image.convert("RGBA"))[..., 0].tolist()
print(f"PNG with tRNS: mode {mode}, values {stored}, after convert('RGBA') {converted}")
assert (mode, stored, converted) == ("I;16", values.tolist(), [[0, 200, 255, 255]])

twelve = np.array([[0, 1, 2048, 4095]], ">u2")
with open("a.pgm", "wb") as file:
    file.write(b"P5 4 1 4095\n" + twelve.tobytes())
with Image.open("a.pgm") as image:
    found = np.asarray(image).astype(int).tolist()
print(f"PGM of maxval 4095: stored {twelve.astype(int).tolist()}, read {found}")
assert found[0][0] == 0 and found[0][3] == 65535 and found[0][1] in (15, 16, 17)
PY
