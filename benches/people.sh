#!/usr/bin/env bash
# What a model knows of people without having seen any, and what it learns of a few of their clips, as tables in Markdown. The
# protocol is fixed here and nowhere looks at the people it is judged by: PEOPLE is a folder per class of `*_sPERSON_tTAKE_*` videos
# (UTD-MHAD's names), people 1, 3, 5, 7 may be learned, 2, 4, 6, 8 are for the test. `tune` runs with its defaults.
# ROWS="none tuned scratch" chooses rows, CLIPS="80 20 8 3" how many clips are learned (8 and 3: a class), SEEDS seeds.
set -euo pipefail
PEOPLE=${PEOPLE:-../shared/data/gestures}
MODEL=${MODEL:-models/mannequin}
OUT=${OUT:-target/people}
BIN=${BIN:-target/release}
SEEDS=${SEEDS:-1 2 3}
mkdir -p "$OUT"
[ -d "$PEOPLE" ] || { echo "people: $PEOPLE is not there; PEOPLE=DIR names videos of people" >&2; exit 1; }
actions=$(cd "$PEOPLE" && ls -d -- */ | tr -d / | paste -sd,)

log=/dev/null
trap 'echo "people: stopped; the end of $log says why:" >&2; tail -n 3 "$log" >&2' ERR

# The share of right answers in metrics.json of folder $1.
top1() { sed -n 's/.*"top1": *\([0-9.]*\).*/\1/p' "$1/metrics.json" | head -1; }

# Lines CLASS/FILE train|test: people 2, 4, 6, 8 to test, of the others the clips whose person and take match $1.
split() {
  (cd "$PEOPLE" && ls -- */*) | awk -v learn="$1" '
    match($0, /_s[0-9]+_t[0-9]+/) {
      who = substr($0, RSTART, RLENGTH)
      if (who ~ /^_s[2468]_/) print $0, "test"
      else if (who ~ learn) print $0, "train"
    }'
}

# One row: what it is, and the top-1 of each seed.
row() {
  local what=$1
  shift
  echo "| $what | $(printf '%s\n' "$@" | awk '{ sum += $1; all = all (NR > 1 ? ", " : "") $1 } END { printf "%.3f (%s)", sum / NR, all }') |"
}

echo "| learned | top-1 |"
echo "|---|---|"
for what in ${ROWS:-none tuned scratch}; do
  case $what in
  none)
    for labels in "--labels $actions" ""; do
      log="$OUT/none.txt"
      # shellcheck disable=SC2086
      "$BIN/train-export" --quiet evaluate --model "$MODEL" --data "$PEOPLE" --part all $labels --out "$OUT/none" > "$log" 2>&1
      row "nothing, $([ -n "$labels" ] && echo "answers among their classes" || echo "all answers allowed")" "$(top1 "$OUT/none")"
    done ;;
  tuned | scratch)
    for clips in ${CLIPS:-80 20 8 3}; do
      case $clips in
      80) learn='.' said='all 80 clips of four people' ;;
      20) learn='_t1$' said='20 clips: one of each class and person' ;;
      8) learn='_t[12]$' said='8 clips a class: two of each person' ;;
      3) learn='_s[135]_t1$' said='3 clips a class: one of each of three people' ;;
      *) echo "people: CLIPS are 80, 20, 8 and 3" >&2; exit 1 ;;
      esac
      [ "$what" = tuned ] || [ "$clips" = 80 ] || continue
      split "$learn" > "$OUT/split-$clips.txt"
      found=()
      for seed in $SEEDS; do
        dir="$OUT/$what-$clips-$seed" log="$OUT/$what-$clips-$seed.txt"
        rm -rf "$dir" "$dir.run"
        data=(--data "$PEOPLE" --split "$OUT/split-$clips.txt")
        if [ "$what" = tuned ]; then
          "$BIN/train-export" --quiet tune --model "$MODEL" "${data[@]}" --seed "$seed" --out "$dir" > "$log" 2>&1
        else
          "$BIN/train-export" --quiet train "${data[@]}" --nothing nothing --mode stream --frame-rate 6 --steps 600 --batch 12 --seed "$seed" --out "$dir.run" > "$log" 2>&1
          "$BIN/train-export" --quiet export --checkpoint "$dir.run" --out "$dir" --name people --hop 1 >> "$log" 2>&1
        fi
        "$BIN/train-export" --quiet evaluate --model "$dir" "${data[@]}" --part test --labels "$actions" --out "$dir.run" >> "$log" 2>&1
        found+=("$(top1 "$dir.run")")
      done
      row "$([ "$what" = tuned ] && echo "$said" || echo "$said, without the mannequin")" "${found[@]}"
    done ;;
  *) echo "people: ROWS are none, tuned and scratch" >&2; exit 1 ;;
  esac
done
