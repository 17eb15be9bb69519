#!/bin/bash
# All kernels of kernels/cuda under the four tools of compute-sanitizer, on the
# small shapes of cuda_raw_test:
#   tests/kernels/sanitize_cuda.sh build/bin/cuda_raw_test
# and all of the model outside its matmuls:
#   tests/kernels/sanitize_cuda.sh build/bin/qwen3_cuda_kernels_test '*Sanitized*:*CudaKernels*:*AreTheTwo*' ''
# and those of gtest_determinism::cuda:
#   tests/kernels/sanitize_cuda.sh build/bin/cuda_test 'CudaSanitized*' ''
# $TOOLS names some of the tools. Exit code 0: none of them found anything, and every test of the filter ran.
set -u
program=${1:?usage: sanitize_cuda.sh PROGRAM [GTEST_FILTER [KERNELS]]}
filter=${2:-*Sanitized*:RawCudaRepack*}
kernels=${3-kernels}  # part of their names; empty: all kernels
# Each tensor a cudaMalloc of its own: nothing hides in a cached block.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for tool in ${TOOLS:-memcheck racecheck initcheck synccheck}; do
  # What initializes memory must be watched too, also where torch's kernels do.
  only=(--kernel-regex "kns=$kernels")
  if [ $tool = initcheck ] || [ -z "$kernels" ]; then only=(); fi
  # More than it follows by itself: each block of a stream has up to 32 for each warp.
  [ $tool = racecheck ] || [ $tool = synccheck ] && only+=(--num-cuda-barriers 8192)
  compute-sanitizer --tool $tool --error-exitcode 9 "${only[@]}" --print-limit 5 \
    "$program" --gtest_filter="$filter" | tee "$log"
  code=${PIPESTATUS[0]}
  # Nothing run, or something skipped, is not clean.
  if [ $code -eq 0 ] && { ! grep -q '^\[  PASSED  \] [1-9]' "$log" || grep -q '^\[  SKIPPED \]' "$log"; }; then code=8; fi
  echo "sanitize_cuda: $tool: $([ $code -eq 0 ] && echo clean || echo "exit code $code")"
  [ $code -eq 0 ] || failed=1
done
exit $failed
