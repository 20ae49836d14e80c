#!/usr/bin/env bash
# Trains on a Cloud TPU VM or slice: requests it, installs, trains, fetches the run, deletes it.
#
# Needs: gcloud, logged in, with a project that has TPU quota; for several workers the SSH key in an
# agent (ssh-add ~/.ssh/google_compute_engine); workers that reach PyPI and GitHub.
# What a mistake costs: a slice costs money by the hour from the moment it is ACTIVE until it is
# deleted, training or not. A request in the queue may become ACTIVE hours later, with nobody
# watching, unless --valid-until or delete ends it. Deleting loses what was not fetched.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: launch/tpu_pod.sh COMMAND --name NAME --project PROJECT --zone ZONE [options] [-- FLAGS]

  run      create, install, push (if OUTPUT is a run already), start, watch; --yes deletes at the end
  create   requests the slice and waits until it is there      --type, --runtime, --spot, --valid-until
  install  sends this checkout, data and model to every worker and installs     --data, --model
  push     sends the run directory OUTPUT to worker 0, to go on with it
  start    starts the training on every worker, detached       --config, and FLAGS of sparsejax.train
  logs     shows worker 0's output until the training ends
  status   says for each worker: running, gone, or the exit status
  watch    fetches the run every --every seconds, and ends with the training's exit status
  stop     asks the training to write a checkpoint and stop
  fetch    brings the run directory from worker 0 to OUTPUT
  delete   deletes the slice; asks before, unless --yes

  --type TYPE          accelerator type, such as v5litepod-16
  --runtime VERSION    software of the TPU VMs, such as v2-alpha-tpuv5-lite
  --spot               cheaper, and taken away at any time
  --valid-until TIME   gives up if the slice is not there after so long, such as 6h
  --data DIR, --model DIR, --config FILE   copied to the workers, and used there
  --output OUTPUT      the run directory here (runs/NAME)
  --every SECONDS      how often watch fetches (600)
  --poll SECONDS       how often create and watch look (30)
  --vm                 delete a TPU VM that was made without a queued resource
  --yes                no questions
  --dry-run            prints the commands and runs none
USAGE
}

die() {
  echo "tpu_pod.sh: $*" >&2
  exit 1
}

say() {
  echo "tpu_pod.sh: $*" >&2
}

command=${1:-}
case $command in
  run | create | install | push | start | logs | status | watch | stop | fetch | delete) shift ;;
  -h | --help | help)
    usage
    exit 0
    ;;
  *) die "no such command: '$command'; launch/tpu_pod.sh --help lists them" ;;
esac

name='' project='' zone='' type='' runtime='' spot='' valid_until='' output='' config=''
data='' model='' every=600 poll=30 vm='' yes='' dry_run=''
while [[ $# -gt 0 ]]; do
  case $1 in
    --spot) spot=1 ;;
    --vm) vm=1 ;;
    --yes) yes=1 ;;
    --dry-run) dry_run=1 ;;
    --)
      shift
      break
      ;;
    --name | --project | --zone | --type | --runtime | --valid-until | --data | --model | --config | \
      --output | --every | --poll)
      [[ $# -ge 2 ]] || die "$1 needs a value"
      variable=${1#--}
      printf -v "${variable//-/_}" %s "$2"
      shift
      ;;
    *) die "no such option: '$1'; flags of sparsejax.train come after --" ;;
  esac
  shift
done
train_flags=("$@")

[[ $name =~ ^[a-z]([-a-z0-9]{0,60}[a-z0-9])?$ ]] ||
  die "--name '$name' is not a name of a TPU: lower-case letters, digits and -, a letter first"
[[ -n $project ]] || die "--project is missing"
[[ -n $zone ]] || die "--zone is missing"
for number in every poll; do
  [[ ${!number} =~ ^[0-9]+$ ]] || die "--$number '${!number}' is not a number of seconds"
done

# Absolute, so that none looks like an option. scp and tar read what is before a colon as a machine.
absolute() { # FLAG PATH
  local path=$2
  [[ -n $path ]] || return 0
  [[ $path == /* ]] || path=$PWD/$path
  [[ $path != *[:$'\n']* ]] || die "$1 '$path' has a colon or a line break; rename or link it"
  printf %s "${path%/}"
}
output=$(absolute --output "${output:-runs/$name}")
data=$(absolute --data "$data")
model=$(absolute --model "$model")
config=$(absolute --config "$config")
[[ -z $data || -d $data ]] || die "--data '$data' is not a directory"
[[ -z $model || -d $model ]] || die "--model '$model' is not a directory"
[[ -z $config || -f $config ]] || die "--config '$config' is not a file"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
again="--name $name --project $project --zone $zone"
export COPYFILE_DISABLE=1 # macOS's tar would add files of its own

# Every command goes through here, so that --dry-run shows all of them and runs none.
step() {
  if [[ -z $dry_run ]]; then
    "$@"
    return $? # in a trap, a plain return gives the status from before it
  fi
  local word line='' quote="'" quoted="'\\''"
  for word; do
    if [[ ! $word =~ ^[A-Za-z0-9_./=:,@%+-]+$ ]]; then
      word="'${word//$quote/$quoted}'"
    fi
    line+=" $word"
  done
  echo "${line# }"
}

tpu() { # GROUP VERB WORD...
  step gcloud compute tpus "$@" --zone="$zone" --project="$project"
}

remote() { # WORKERS COMMAND; no command has a word of the user's in it
  tpu tpu-vm ssh "$name" --worker="$1" --command="$2"
}

state() {
  tpu queued-resources describe "$name" '--format=value(state.state)'
}

# What is on its way to the workers or from them. mkdir fails where another call is at work.
stage=$output.tpu
staged=''
open_stage() {
  step mkdir -p "$(dirname "$output")" || die "the directory of --output '$output' cannot be made"
  step mkdir "$stage" || die "'$stage' is in use by another call, or was left by one: remove it"
  staged=1
}
close_stage() {
  [[ -n $staged ]] || return 0
  if [[ -z $dry_run && -e $stage/old && ! -e $output ]]; then
    mv "$stage/old" "$output" # stopped between the two moves of fetch
  fi
  step rm -rf "$stage"
  staged=''
}

remind=''
finish() {
  close_stage
  [[ -z $remind ]] || say "$name may be there and cost money until: launch/tpu_pod.sh delete $again"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [[ -z $dry_run ]]; then
  [[ -n $(type -P gcloud) ]] || die "gcloud is not installed; see cloud.google.com/sdk"
  remind=1
fi

create() {
  [[ -n $type ]] || die "--type is missing, such as v5litepod-16"
  [[ -n $runtime ]] || die "--runtime is missing, such as v2-alpha-tpuv5-lite"
  local words=(--node-id="$name" --accelerator-type="$type" --runtime-version="$runtime") now
  [[ -z $spot ]] || words+=(--spot)
  [[ -z $valid_until ]] || words+=(--valid-until-duration="$valid_until")
  tpu queued-resources create "$name" "${words[@]}" || die "$name could not be requested, see above"
  if [[ -n $dry_run ]]; then
    state
    return
  fi
  while :; do
    now=$(state) || die "the state of $name is not known; look with gcloud, or delete it"
    case $now in
      ACTIVE) break ;;
      FAILED | SUSPENDING | SUSPENDED | DELETING) die "$name is $now and will not come; delete it" ;;
    esac
    say "$name is $now; Ctrl-C ends the waiting, not the request"
    sleep "$poll"
  done
}

# uv brings a Python that is new enough, where the VM's is not. Each command for the workers is one
# line, as it is in the output of --dry-run.
unpack=$(
  paste -sd ' ' - <<'WORKER'
cd sparsejax || exit;
for part in source data model; do
if [ -e $part.tar ]; then
rm -rf $part && mkdir $part && tar -xf $part.tar -C $part && rm $part.tar || exit;
fi;
done;
[ -x uv/bin/uv ] || python3 -m pip install --quiet --target uv uv || exit;
[ -x venv/bin/python ] || uv/bin/uv venv --quiet --python 3.12 venv || exit;
uv/bin/uv pip install --quiet --python venv/bin/python --reinstall-package sparsejax "./source[tpu]"
WORKER
)

install() {
  local parts=("$stage/source.tar")
  open_stage
  step tar -cf "$stage/source.tar" --exclude=__pycache__ -C "$here" \
    pyproject.toml README.md LICENSE sparsejax || die "$here could not be packed"
  if [[ -n $data ]]; then
    step tar -cf "$stage/data.tar" -C "$data" . || die "--data '$data' could not be packed"
    parts+=("$stage/data.tar")
  fi
  if [[ -n $model ]]; then
    step tar -cf "$stage/model.tar" -C "$model" . || die "--model '$model' could not be packed"
    parts+=("$stage/model.tar")
  fi
  remote all 'mkdir -p sparsejax' || die "a worker of $name does not answer; try ssh-add"
  tpu tpu-vm scp "${parts[@]}" "$name:sparsejax/" --worker=all || die "not all was sent to $name"
  remote all "$unpack" || die "the installation on $name failed, see above"
  close_stage
}

is_run() {
  [[ -f $output/config.yaml && -f $output/log.txt ]]
}

receive=$(
  paste -sd ' ' - <<'WORKER'
cd sparsejax || exit;
if [ -e run ]; then echo "there is a run on the worker already" >&2; exit 1; fi;
rm -rf run.new && mkdir run.new && tar -xf run.tar -C run.new && mv run.new run && rm run.tar
WORKER
)

push() {
  [[ -n $dry_run ]] || is_run || die "--output '$output' is no run: it has no config.yaml or log.txt"
  open_stage
  step tar -cf "$stage/run.tar" -C "$output" . || die "'$output' could not be packed"
  tpu tpu-vm scp "$stage/run.tar" "$name:sparsejax/" --worker=0 || die "the run was not sent"
  remote 0 "$receive" || die "the run was not unpacked on $name, see above"
  close_stage
}

# The arguments travel in a file, quoted for the bash that reads it there, and never through ssh.
# gcloud repeats a command whose connection broke: the lock makes a second start do nothing.
write_start() {
  cat <<'START'
cd "$HOME/sparsejax" || exit
exec 9>lock
flock -n 9 || { echo "it is running" >&2; exit 0; }
rm -f status pid
set -- -m sparsejax.train --resume auto --parallel.coordinator cluster --output run
[ ! -e config.yaml ] || set -- "$@" --config config.yaml
[ ! -d data ] || set -- "$@" --data.dir data
[ ! -d model ] || set -- "$@" --model.path model
START
  if [[ ${#train_flags[@]} -gt 0 ]]; then
    printf 'set -- "$@"'
    printf ' %q' "${train_flags[@]}"
    printf '\n'
  fi
  cat <<'START'
setsid nohup bash -c '
  venv/bin/python "$@" & echo $! > pid
  wait $!; echo $? > status.new; mv status.new status
' bash "$@" >>log.txt 2>&1 </dev/null &
until [ -s pid ]; do sleep 0.1; done
START
}

start() {
  local parts=("$stage/start.sh")
  open_stage
  if [[ -z $dry_run ]]; then
    write_start >"$stage/start.sh"
  else
    say "$stage/start.sh will be:"
    write_start >&2
  fi
  if [[ -n $config ]]; then
    step cp "$config" "$stage/config.yaml" || die "--config '$config' cannot be read"
    parts+=("$stage/config.yaml")
  fi
  tpu tpu-vm scp "${parts[@]}" "$name:sparsejax/" --worker=all || die "not all was sent to $name"
  remote all 'bash sparsejax/start.sh' || die "the training did not start on every worker; stop it"
  close_stage
}

# Gone: killed from outside, or a worker that was started anew.
look=$(
  paste -sd ' ' - <<'WORKER'
cd sparsejax || exit;
if [ -e status ]; then s=$(cat status);
elif kill -0 "$(cat pid)" 2>/dev/null; then s=running;
else s=gone; fi;
echo "worker $(hostname) $s"
WORKER
)

# tar's status 1: a file changed meanwhile. A checkpoint has its checksums, and there are two.
pack=$(
  paste -sd ' ' - <<'WORKER'
cd sparsejax || exit;
[ -d run ] || { echo "there is no run yet" >&2; exit 1; };
tar -cf run.tar -C run . || [ $? -eq 1 ]
WORKER
)

fetch() {
  if [[ -z $dry_run && -e $output ]]; then
    is_run || rmdir "$output" 2>/dev/null || die "--output '$output' is no run; name another"
  fi
  open_stage
  step mkdir "$stage/run"
  remote 0 "$pack" || die "nothing was fetched from $name, see above"
  tpu tpu-vm scp "$name:sparsejax/run.tar" "$stage/run.tar" --worker=0 || die "the run was not copied"
  step tar -xf "$stage/run.tar" -C "$stage/run" || die "the run's archive is damaged; fetch again"
  if [[ -e $output ]]; then
    step mv "$output" "$stage/old" || die "'$output' cannot be replaced"
  fi
  step mv "$stage/run" "$output" || die "'$output' cannot be written"
  close_stage
}

watch() {
  local lines worker now running worst next=$((SECONDS + every))
  if [[ -n $dry_run ]]; then
    remote all "$look"
    fetch
    return
  fi
  while :; do
    sleep "$poll"
    if ! lines=$(remote all "$look"); then
      now=$(state) || now=unknown
      [[ $now == ACTIVE || $now == unknown ]] ||
        die "$name is $now; delete it, and the same run command goes on from what is in $output"
      say "a worker of $name does not answer; trying again"
      continue
    fi
    running='' worst=0
    while read -r _ worker now; do
      if [[ $now == gone ]]; then
        say "the training on $worker is gone"
        now=137
      fi
      if [[ $now == running ]]; then
        running=1
      elif [[ $now -gt $worst ]]; then
        worst=$now
      fi
    done <<<"$lines"
    if [[ -z $running ]]; then
      fetch
      say "the training ended with exit status $worst; the run is in $output"
      return "$worst"
    fi
    if [[ $SECONDS -ge $next ]]; then
      next=$((SECONDS + every))
      (trap close_stage EXIT && fetch) || say "trying again in $every s"
    fi
  done
}

delete() {
  local answer=''
  if [[ -z $yes && -z $dry_run ]]; then
    read -r -p "Delete $name, and what was not fetched from it? Type its name: " answer || true
    [[ $answer == "$name" ]] || die "$name is not deleted; answer with its name, or pass --yes"
  fi
  if [[ -n $vm ]]; then
    tpu tpu-vm delete "$name" --quiet || die "$name is not deleted, see above"
  else
    tpu queued-resources delete "$name" --force --quiet || die "$name is not deleted, see above"
  fi
  remind=''
}

follow=$(
  paste -sd ' ' - <<'WORKER'
cd sparsejax && tail -n 100 -F --pid="$(cat pid)" log.txt
WORKER
)
interrupt=$(
  paste -sd ' ' - <<'WORKER'
kill -TERM "$(cat sparsejax/pid)"
WORKER
)

case $command in
  logs) remote 0 "$follow" || die "there is no log on $name, or the connection broke" ;;
  status) remote all "$look" || die "a worker of $name does not answer" ;;
  stop) remote all "$interrupt" || die "not on every worker was a training to stop" ;;
  run)
    create
    install
    if is_run; then
      push
    fi
    start
    result=0
    watch || result=$?
    if [[ -n $yes ]]; then
      delete
    fi
    exit "$result"
    ;;
  *) "$command" ;;
esac
