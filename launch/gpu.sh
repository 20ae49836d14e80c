#!/usr/bin/env bash
# Trains on the GPUs of one machine, all in one process, and starts again after a crash.
#
# Needs: NVIDIA's driver, and sparsejax with its cuda extra (pip install '.[cuda]') in the first
# `python` of PATH, or in the one that $PYTHON names.
# What a mistake costs: GPUs that somebody else uses (choose with GPUS=0,1), and GPU hours, if a
# crash that always comes back is repeated (RETRIES times, 3 unless it is set; 0 for never).
#
#   launch/gpu.sh --config configs/panx.yaml --output runs/mine [other flags of sparsejax.train]
#
# Ctrl-C and SIGTERM reach the training: it finishes its step, writes a checkpoint and exits with 75,
# and so does this script; the same command goes on from there. Under systemd set KillMode=mixed:
# a training that gets the signal twice exits at once.
set -euo pipefail

python=${PYTHON:-python}
retries=${RETRIES:-3}
pause=${PAUSE:-10}
if [[ -n ${GPUS:-} ]]; then
  export CUDA_VISIBLE_DEVICES=$GPUS
fi

die() {
  echo "gpu.sh: $*" >&2
  exit 1
}

[[ $retries =~ ^[0-9]+$ ]] || die "RETRIES=$retries is not a number; set it to 0, 1, 2, ..."
[[ $pause =~ ^[0-9]+$ ]] || die "PAUSE=$pause is not a number of seconds; set it to 0, 1, 2, ..."

# Before every start: a GPU that fell off after a crash would leave a training on the CPU, for weeks.
check_gpus() {
  [[ ${ALLOW_CPU:-} != 1 ]] || return 0
  local seen chosen
  seen=$("$python" -c 'import jax; print(jax.default_backend(), jax.local_device_count())') ||
    die "$python cannot start JAX; see above, or name another with PYTHON=..."
  [[ $seen == "gpu "* ]] ||
    die "JAX sees no GPU (it sees: $seen); pip install '.[cuda]', see nvidia-smi, or set ALLOW_CPU=1"
  if [[ -n ${GPUS:-} ]]; then
    chosen=$(tr ',' '\n' <<<"$GPUS" | grep -c .)
    [[ $seen == "gpu $chosen" ]] ||
      die "GPUS=$GPUS asks for $chosen, but JAX sees ${seen#gpu }; see nvidia-smi for the numbers"
  fi
}

stopped=''
child=''
sent=''
pass_on() {
  stopped=1
  if [[ -n $child ]]; then
    sent=1
    kill -s "$1" "$child" 2>/dev/null || true
  fi
}
trap 'pass_on INT' INT
trap 'pass_on TERM' TERM

# Its own process group: Ctrl-C at a terminal would reach the training twice, from there and from
# here, and the second one ends it without a checkpoint.
set -m

# Runs a command and sets `status` to its exit status, however often a signal interrupts `wait`.
run() {
  "$@" </dev/null &
  child=$!
  if [[ -n $stopped && -z $sent ]]; then # the signal came before there was a child to send it to
    pass_on TERM
  fi
  while kill -0 "$child" 2>/dev/null; do
    wait "$child" || true
  done
  status=0
  wait "$child" || status=$?
  child=''
}

for ((attempt = 0; ; attempt++)); do
  [[ -n $stopped ]] || check_gpus
  [[ -z $stopped ]] || exit 75
  run "$python" -m sparsejax.train --resume auto "$@"
  if [[ -n $stopped ]] || { [[ $status -ne 75 ]] && [[ $status -le 128 ]]; }; then
    exit "$status"
  fi
  if [[ $attempt -ge $retries ]]; then
    echo "gpu.sh: exit status $status after $((attempt + 1)) starts; the same command goes on" >&2
    exit "$status"
  fi
  echo "gpu.sh: exit status $status; starting again in $pause s ($((attempt + 1)) of $retries)" >&2
  run sleep "$pause"
done
