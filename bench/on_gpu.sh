#!/usr/bin/env bash
# Everything that wants a GPU, in parts of at most ten minutes each.
#
#   bench/on_gpu.sh PART SHARED OUT
#
# PART   speed       fine-tuning of mBERT's shapes in bfloat16 against PyTorch, pruning included
#        grid        evaluation, small runs, and with what `speed` left in OUT the paper's grid
#        pruning     masks and updates by themselves, and the parts of a step
#        throughput  the quickstart, and tokens per second by rows per step, in both precisions
#        tests       the test suite
# SHARED what the benchmarks take as --shared: data/panx, data/mbert-vocab.txt, models/e5-small-39
# OUT    a directory for the JSON files and logs
#
# The trainings that are compared are compiled at the same time, before any of them is timed: XLA
# chooses among kernels by timing them meanwhile, and may choose worse than it would alone.
#
# What has not ended after MINUTES (9) is stopped, and what was measured until then stays. ALLOW_CPU=1
# tries it out without a GPU; SECONDS_EACH, SENTENCES, ROWS, EPOCHS, MODEL=e5-small and
# DTYPE=float32 make it short.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

die() {
  echo "on_gpu.sh: $*" >&2
  exit 1
}

[[ $# -eq 3 && $1 =~ ^(speed|grid|pruning|throughput|tests)$ ]] ||
  die "usage: bench/on_gpu.sh speed|grid|pruning|throughput|tests SHARED OUT"
[[ -n ${ON_GPU_STARTED:-} ]] ||
  exec env ON_GPU_STARTED=1 timeout --signal TERM --kill-after 15 "${MINUTES:-9}m" \
    bash "$here/bench/on_gpu.sh" "$1" "$(realpath -m "$2")" "$(realpath -m "$3")"
cd "$here"

part=$1 shared=$2 out=$3
python=${PYTHON:-python3}
[[ -d $shared/data/panx ]] || die "$shared/data/panx is not there"
backend=$("$python" -c 'import jax; print(jax.default_backend())') || die "$python has no JAX"
[[ $backend == gpu || ${ALLOW_CPU:-} == 1 ]] || die "JAX sees no GPU, only $backend"
mkdir -p "$out"
export SPARSEJAX_SHARED=$shared
seconds=${SECONDS_EACH:-2} dtype=${DTYPE:-bfloat16}

# One that fails does not keep the others from being measured.
failed=
measure() {
  local name=$1
  shift
  echo "== $name"
  "$python" "$@" 2>&1 | tee "$out/$name.log" || failed="$failed $name"
}

training=(--shared "$shared" --model "${MODEL:-mbert}" --dtype "$dtype"
  --sentences "${SENTENCES:-2000}" --seconds "$seconds")

case $part in
  speed)
    programs=$(mktemp -d)
    trap 'rm -rf "$programs"' EXIT
    export JAX_COMPILATION_CACHE_DIR=$programs
    # All word embeddings, for the grid has runs of all languages, and such that prune them.
    measure train bench/train_speed.py "${training[@]}" --all-rows --batches 32 256 \
      --out "$out/train.json"
    measure profile bench/profile_step.py --shared "$shared" --model "${MODEL:-mbert}" \
      --dtype "$dtype" --batch 256 --all-rows ${SENTENCES:+--sentences "$SENTENCES"} \
      --out "$out/profile.json"
    # Random sentences that are padded to the longest would not fit on the device.
    measure train_2048 bench/train_speed.py "${training[@]}" --batches 2048 \
      --all-rows --sides "pytorch, best" "sparsejax dense" --out "$out/train_2048.json"
    ;;
  grid)
    [[ -f $out/train.json ]] || die "$out/train.json is not there: the part speed makes it"
    measure evaluate bench/evaluate_all.py --shared "$shared" --model "${MODEL:-mbert}" \
      --dtype "$dtype" --repeats 1 ${SENTENCES:+--sentences "$SENTENCES"} --out "$out/evaluate.json"
    measure small_runs bench/small_runs.py --shared "$shared" --model "${MODEL:-mbert}" \
      --languages yo --sparsities 0.5 --seeds 3 --epochs 1 --out "$out/small_runs.json"
    measure grid bench/grid_estimate.py --shared "$shared" --training "$out/train.json" \
      --evaluation "$out/evaluate.json" --small-runs "$out/small_runs.json" \
      ${SENTENCES:+--sentences "$SENTENCES"} --out "$out/grid.json"
    ;;
  pruning)
    measure prune_speed bench/prune_speed.py --out "$out/prune_speed.json"
    measure step_parts bench/step_parts.py --shared "$shared" --model "${MODEL:-mbert}" \
      --dtype "$dtype" ${SENTENCES:+--sentences "$SENTENCES"} --out "$out/step_parts.json"
    ;;
  throughput)
    read -r -a rows <<<"${ROWS:-8 32 128 512 1024}"
    for dtype in bfloat16 float32; do
      measure "quickstart-$dtype" -m sparsejax.train --model.dtype "$dtype" \
        --output "$out/quickstart-$dtype" --overwrite ${EPOCHS:+--train.epochs "$EPOCHS"}
      for method in none magnitude movement; do
        measure "throughput-$dtype-$method" bench/throughput.py --rows "${rows[@]}" \
          --seconds "$seconds" --repeats 1 --out "$out/throughput-$dtype-$method.json" -- \
          --config configs/panx.yaml --data.dir "$shared/data/panx" \
          --data.languages en de ru ar sw --data.train_sentences 5000 \
          --model.path "$shared/models/e5-small-39" --model.dtype "$dtype" --prune.method "$method"
      done
    done
    ;;
  tests)
    # Several processes share the GPU: none may take all of its memory.
    export XLA_PYTHON_CLIENT_PREALLOCATE=false
    measure tests -m pytest -n 8
    ;;
esac
[[ -z $failed ]] || die "failed:$failed; see the logs in $out"
