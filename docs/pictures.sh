#!/usr/bin/env bash
# Draws overlay.png and wild.png with the shipped model: five seconds into the mannequin of seed 1, and into those of seeds
# 1 to 12 in the wild, whatever is said of them. BIN is the program.
set -euo pipefail
BIN=${BIN:-target/release/kinora}
OUT=${OUT:-docs}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The last picture of $2 frames of the source $1.
draw() {
  "$BIN" --quiet --model models/mannequin --source "$1" --no-realtime --frames "$2" --display "png:$work" --events "$work/events"
  printf '%s/%06d.png' "$work" "$(($2 - 1))"
}

# Pictures $1, laid out by $2, as $3; 256 colours take a third of the bytes.
save() {
  ffmpeg -v error -y -i "$1" -vf "$2,split[all],palettegen[p];[all][p]paletteuse=dither=none" -frames:v 1 "$3"
}

save "$(draw synthetic:1 148)" null "$OUT/overlay.png"
for seed in {1..12}; do
  mv "$(draw "synthetic:$seed?world=wild&size=320x240&fps=10" 51)" "$work/of-$(printf '%02d' "$seed").png"
done
save "$work/of-%02d.png" tile=4x3 "$OUT/wild.png"
