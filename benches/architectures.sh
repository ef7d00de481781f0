#!/usr/bin/env bash
# What each architecture costs on this machine, on one thread, as a table in Markdown: parameters, multiply-accumulates, the
# median of a window and of a streamed frame, and the memory of a window in int8. Random weights, 400 classes (trailers: 6): speed does
# not depend on what is learned. The bundles are made in $OUT and kept; NETS chooses nets by name (a pattern of grep -E).
set -euo pipefail
OUT=${OUT:-target/architectures}
BIN=${BIN:-target/release}
mkdir -p "$OUT"

# Name, clip, the same as a stream (- if there is none), decisions to measure.
nets="
r2plus1d-edge      16 112 r2plus1d-edge                                   30
r2plus1d-tutorial  10 224 r2plus1d-tutorial(causal=true)                  10
r2plus1d-18        16 112 r2plus1d-18(causal=true,temporal_stride=false)  10
r2plus1d-34        16 112 r2plus1d-34(causal=true,temporal_stride=false)  10
r3d-18             16 112 r3d-18(causal=true,temporal_stride=false)       10
resnet3d-18        16 112 resnet3d-18(causal=true,temporal_stride=false)  10
resnet3d-34        16 112 resnet3d-34(causal=true,temporal_stride=false)  10
resnet3d-50        16 112 resnet3d-50(causal=true,temporal_stride=false)  10
resnet3d-101(causal=true) 16 112 resnet3d-101(causal=true,temporal_stride=false) 10
resnet3d-152(causal=true) 16 112 resnet3d-152(causal=true,temporal_stride=false) 10
i3d-rgb            16 224 -                                               3
i3d-flow           16 224 -                                               3
convlstm-edge      16  96 convlstm-edge                                   30
convlstm-trailer   16 200 convlstm-trailer                                10
lstm-trailer       16 200 lstm-trailer                                    10
"

# Folder for an architecture, which is exported if it is not there: frames, size, architecture.
bundle() {
  local dir="$OUT/$3-$1x$2" classes=400
  case $3 in *trailer*) classes=6 ;; esac
  # Some random weights of a hundred layers make more of rounding than an export accepts: then others.
  for seed in 1 2 3; do
    [ -e "$dir/manifest.toml" ] || "$BIN/train-export" --quiet export --untrained $seed --arch "$3" --frames "$1" --size "$2" \
      --colour "$colour" --classes $classes --frame-rate 30 --hop 1 --int8 --out "$dir" > "$OUT/export.log" 2>&1 || true
  done
  [ -e "$dir/manifest.toml" ] || { cat "$OUT/export.log" >&2; return 1; }
  echo "$dir"
}

# The median of a decision and the memory of a run of `kinora bench`; - where an engine refuses.
bench() {
  local dir=$1
  shift
  { "$BIN/kinora" bench --model "$dir" "$@" 2>&1 || true; } | awk '
    BEGIN { decision = memory = "-" }
    /^per decision/ { decision = $3 }
    /^resident memory/ { memory = $3 }
    END { print decision, memory }'
}

echo "| net | clip | parameters | GMAC | window int8, ms | window f32, ms | tract f32, ms | streamed int8, ms | streamed f32, ms | memory, MiB |"
echo "|---|---|---|---|---|---|---|---|---|---|"
while read -r name frames size stream decisions; do
  [ -n "$name" ] && grep -qE -- "${NETS:-.}" <<< "$name" || continue
  colour=rgb
  [ "$name" = i3d-flow ] && colour=flow
  dir=$(bundle "$frames" "$size" "$name")
  totals=$("$BIN/train-export" show --arch "$name" --frames "$frames" --size "$size" --colour $colour \
    --classes "$(wc -l < "$dir/labels.txt")" | awk '/^total/ { printf "%.2f M | %.3f", $2 / 1e6, $3 / 1e9 }')
  one="--hop 1 --threads 1 --frames $decisions --engine"
  read -r int8 memory < <(bench "$dir" $one native --mode window)
  read -r f32 _ < <(bench "$dir" $one native --mode window --precision f32)
  read -r tract _ < <(bench "$dir" $one tract --mode window --precision f32)
  streamed8=- streamed32=-
  if [ "$stream" != - ]; then
    dir=$(bundle "$frames" "$size" "$stream")
    read -r streamed8 _ < <(bench "$dir" $one native --mode stream)
    read -r streamed32 _ < <(bench "$dir" $one native --mode stream --precision f32)
  fi
  echo "| $name | ${frames}x${size}x${size} | $totals | $int8 | $f32 | $tract | $streamed8 | $streamed32 | $memory |"
done <<< "$nets"
