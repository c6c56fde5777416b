#!/bin/sh
# Makes the pictures of gallery.md from the embedded digits, offline, in minutes: make gallery
# Needs chromium for the picture of the report.
set -eu
docs=$(cd "$(dirname "$0")" && pwd)
run=${1:-runs/gallery}

cvtrain fit configs/digits.yaml --run-dir "$run"
cvtrain visualize "$run" --cam
cvtrain visualize "$run" --activations --layer conv2
cvtrain visualize "$run" --filters --style distill --layer conv2
cvtrain visualize "$run" --depth
cvtrain report "$run"

chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1100,1330 \
    --screenshot="$run/report.png" "file://$(realpath "$run")/report.html" 2>/dev/null
python "$docs/shrink.py" "$run" "$docs/pictures"
