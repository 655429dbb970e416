#!/bin/bash
# Makes what the end-to-end tests need, once: an environment each for vLLM, SGLang and the calling clients,
# and the tiny models. Prints the folder that holds them. About 7.5 GB; Linux on x86_64 with glibc 2.28 or
# newer, Python 3.11. What is complete is left alone, so a second run takes a second.
#
#   setup.sh [PYTHON]     PYTHON makes the environments; python3.11 unless given
#
# Both engines want torch for the CPU. Where the default package index does not carry it, point
# PIP_EXTRA_INDEX_URL at PyTorch's index of CPU wheels.
set -euo pipefail

readonly python=${1:-python3.11}
readonly here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/warmroute-e2e

# environment NAME FILL: a virtual environment in the cache, filled by the function FILL, who gets its folder.
# The mark comes last: an environment that was not finished is made anew.
environment() {
    local venv=$cache/$1
    if [[ ! -e $venv/.complete ]]; then
        echo "setup: making $venv" >&2
        rm -rf "$venv"
        mkdir -p "$cache"
        "$python" -m venv "$venv"
        "$2" "$venv" >&2
        touch "$venv/.complete"
    fi
}

# install VENV REQUIREMENT...
install() {
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"
}

# site VENV: where its packages are.
site() {
    "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# shellcheck source=/dev/null
source "$here/vllm.sh"
# shellcheck source=/dev/null
source "$here/sglang.sh"
# shellcheck source=/dev/null
source "$here/callers.sh"

environment "vllm-$VLLM_VERSION" fill_vllm
environment "sglang-$SGLANG_VERSION" fill_sglang
environment "callers-$CALLERS_VERSION" fill_callers

# The tokenizers package is part of vLLM's environment.
for model in tiny small; do
    folder=$cache/$model-llama
    if [[ ! -e $folder/config.json || $here/tiny_llama.py -nt $folder/config.json ]]; then
        "$cache/vllm-$VLLM_VERSION/bin/python" "$here/tiny_llama.py" "$folder" "$model" >&2
    fi
done

echo "$cache"
