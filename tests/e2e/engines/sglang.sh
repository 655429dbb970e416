# Sourced by setup.sh: SGLang on the CPU, for models of text. 3.4 GB, a minute and a half.

readonly SGLANG_VERSION=0.5.23

fill_sglang() {
    local packages
    # What it declares to need drags CUDA in, some 5 GB of it: it gets the rest of that list, and no kernels.
    install "$1" --requirement "$here/sglang_requirements.txt"
    install "$1" --no-deps torchvision==0.28.0 "sglang==$SGLANG_VERSION"
    packages=$(site "$1")

    # Without AMX every layer has a way through plain torch. What is left of the kernels' package are its
    # imports and one function, and of that package there is no build for the CPU.
    cp -r "$here/stand_ins/sgl_kernel" "$packages/"

    # The index's torchvision is a CUDA build. Beside torch for the CPU its operators are not there, but some
    # are mentioned when it is imported: they are declared, and nobody calls them.
    cat >>"$packages/torchvision/extension.py" <<'PYTHON'

if not _has_ops():
    for _name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{_name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
PYTHON
}
