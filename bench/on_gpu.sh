#!/usr/bin/env bash
# Everything that wants a GPU, on a machine that has one, within ten minutes a part.
#
#   bench/on_gpu.sh DATA MODEL OUT        the quickstart and the throughput, in float32 and bfloat16
#   bench/on_gpu.sh --tests OUT           the test suite
#
# DATA and MODEL are what --data.dir and --model.path take; OUT is a directory for the JSON files and
# logs. ALLOW_CPU=1 tries it out without a GPU, with ROWS="1 2" or the like.
set -euo pipefail
cd "$(dirname "$0")/.."

die() {
  echo "on_gpu.sh: $*" >&2
  exit 1
}

python=${PYTHON:-python3}
backend=$("$python" -c 'import jax; print(jax.default_backend())') || die "$python has no JAX"
[[ $backend == gpu || ${ALLOW_CPU:-} == 1 ]] || die "JAX sees no GPU, only $backend"
if [[ ${1:-} == --tests ]]; then
  [[ $# -eq 2 ]] || die "usage: bench/on_gpu.sh --tests OUT"
  mkdir -p "$2"
  # Several processes share the GPU: none may take all of its memory.
  XLA_PYTHON_CLIENT_PREALLOCATE=false "$python" -m pytest -n 8 2>&1 | tee "$2/tests.log"
  exit
fi
[[ $# -eq 3 ]] || die "usage: bench/on_gpu.sh DATA MODEL OUT"
data=$1 model=$2 out=$3
mkdir -p "$out"
read -r -a rows <<<"${ROWS:-8 32 128 512 1024}"
for dtype in float32 bfloat16; do
  "$python" -m sparsejax.train --model.dtype "$dtype" --output "$out/quickstart-$dtype" \
    ${EPOCHS:+--train.epochs "$EPOCHS"} 2>&1 | tee "$out/quickstart-$dtype.log"
  for method in none magnitude movement; do
    "$python" bench/throughput.py --rows "${rows[@]}" --seconds "${SECONDS_EACH:-3}" \
      --out "$out/throughput-$dtype-$method.json" -- --config configs/panx.yaml \
      --data.dir "$data" --data.languages en de ru ar sw --data.train_sentences 5000 \
      --model.path "$model" --model.dtype "$dtype" --prune.method "$method"
  done
done
"$python" bench/prune_speed.py --out "$out/prune_speed.json"
