#include "gtest_determinism/torch.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/cuda_perturbations.h"
#endif

namespace gtest_determinism {
namespace {

[[noreturn]] void Refuse(std::string_view name, const std::string& what) {
  throw std::invalid_argument("tensor" + (name.empty() ? "" : " '" + std::string(name) + "'") + " " + what);
}

// The dtype of one element, with how many of it make one of the tensor's.
std::pair<DType, std::int64_t> DTypeOf(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kBool:
      return {DType::kBool, 1};
    case at::kChar:
      return {DType::kInt8, 1};
    case at::kByte:
      return {DType::kUInt8, 1};
    case at::kShort:
      return {DType::kInt16, 1};
    case at::kUInt16:
      return {DType::kUInt16, 1};
    case at::kInt:
      return {DType::kInt32, 1};
    case at::kUInt32:
      return {DType::kUInt32, 1};
    case at::kLong:
      return {DType::kInt64, 1};
    case at::kUInt64:
      return {DType::kUInt64, 1};
    case at::kHalf:
      return {DType::kFloat16, 1};
    case at::kBFloat16:
      return {DType::kBFloat16, 1};
    case at::kFloat:
      return {DType::kFloat32, 1};
    case at::kDouble:
      return {DType::kFloat64, 1};
    case at::kComplexHalf:
      return {DType::kFloat16, 2};
    case at::kComplexFloat:
      return {DType::kFloat32, 2};
    case at::kComplexDouble:
      return {DType::kFloat64, 2};
    default:
      return {DType::kBytes, static_cast<std::int64_t>(tensor.element_size())};
  }
}

void RefuseDevice(std::string_view name, const at::Device& device) {
  if (device.is_cpu()) return;
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  if (device.is_cuda()) return;
  Refuse(name, "is on " + device.str() + ": this adapter reads tensors on CPU and CUDA only, copy it with .cpu()");
#else
  Refuse(name, "is on " + device.str() + ": this adapter was built without device code, copy it with .cpu()");
#endif
}

#if defined(GTEST_DETERMINISM_HAVE_CUDA)

namespace allocator = c10::cuda::CUDACachingAllocator;

// What to ask torch's allocator for on a stream so that it hands out what it holds
// free, and takes no more memory from the driver each time. It has a pool of
// segments of 2 MiB for at most 1 MiB, and one for more. In falling order each
// block of the latter is the smallest that fits, and so the one that is handed out;
// what is free of the former is asked for in pieces. Where little is free, as before
// the first run, blocks of each power of two come on top.
std::vector<std::size_t> FreeBlocks(int device, cudaStream_t stream) {
  constexpr std::size_t kMiB = std::size_t{1} << 20, kMostOfSmall = kMiB;
  std::vector<std::size_t> sizes;
  std::size_t large = 0, small = 0;  // bytes that are free
  for (const auto& segment : allocator::snapshot({0, 0}, /*include_traces=*/false).segments) {
    // Not those of other streams and of graphs: they are not handed out here.
    const bool of_a_graph = segment.owner_private_pool_id != c10::MempoolId_t{0, 0};
    if (segment.device != device || segment.stream != stream || of_a_graph) continue;
    for (const auto& block : segment.blocks) {
      if (block.allocated || block.active) continue;
      if (segment.is_large) {
        if (block.size > kMostOfSmall) sizes.push_back(block.size);
        large += block.size;
      } else {
        for (std::size_t left = block.size; left > 0; left -= std::min(left, kMostOfSmall)) {
          sizes.push_back(std::min(left, kMostOfSmall));
        }
        small += block.size;
      }
    }
  }
  if (large < 32 * kMiB) {
    for (std::size_t size = 32 * kMiB; size > kMostOfSmall; size /= 2) sizes.push_back(size);
  }
  if (small < kMostOfSmall) {
    for (std::size_t size = kMostOfSmall; size >= 512; size /= 2) sizes.push_back(size);
  }
  std::sort(sizes.begin(), sizes.end(), std::greater<>());
  return sizes;
}

// WorkspacePoison() on the stream that is current when a run begins.
class TorchPoison final : public Perturbation {
 public:
  explicit TorchPoison(int device) : device_(device) {}

  std::string Name() const override { return "torch_workspace_poison"; }

  void Apply(int run, std::uint64_t seed) override {
    CudaMemory(device_);                           // a clear error where there is no such device
    if (!allocator::get()->initialized()) return;  // nothing was ever allocated
    WorkspacePoisonOptions options;
    options.device = device_;
    const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device_)).stream();
    options.sizes = [this, stream] { return FreeBlocks(device_, stream); };
    options.allocator.allocate = [](std::size_t bytes) { return allocator::raw_alloc(bytes); };
    options.allocator.free = [](void* memory) { allocator::raw_delete(memory); };
    options.allocator.stream = stream;
    WorkspacePoison(std::move(options))->Apply(run, seed);
  }

  void Undo() override {}

 private:
  const int device_;
};

#endif

}  // namespace

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
std::shared_ptr<Perturbation> TorchWorkspacePoison(int device) { return std::make_shared<TorchPoison>(device); }
#else
std::shared_ptr<Perturbation> TorchWorkspacePoison(int /*device*/) {
  throw std::invalid_argument("TorchWorkspacePoison: this adapter was built without device code");
}
#endif

void AppendBits(Trace& trace, std::string_view name, const at::Tensor& tensor) {
  if (!tensor.defined()) Refuse(name, "is undefined");
  if (tensor.layout() != at::kStrided) Refuse(name, "is sparse: compare its indices and values");
  if (tensor.is_quantized()) Refuse(name, "is quantized: compare int_repr(), the scales and the zero points");
  RefuseDevice(name, tensor.device());
  auto held = std::make_shared<at::Tensor>(tensor.detach().resolve_conj().resolve_neg().contiguous());
  const auto [dtype, words] = DTypeOf(*held);
  BitView view;
  view.data = held->const_data_ptr();
  view.bytes = held->nbytes();
  view.dtype = dtype;
  view.shape.assign(held->sizes().begin(), held->sizes().end());
  if (words > 1) view.shape.push_back(words);
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  if (held->is_cuda()) {
    view.space = &CudaMemory(held->device().index());
    // The copy that contiguous() may have made, too.
    c10::cuda::getCurrentCUDAStream(held->device().index()).synchronize();
  }
#endif
  view.owner = std::move(held);
  trace.push_back({std::string(name), std::move(view)});
}

}  // namespace gtest_determinism
