#include <iterator>
#include <stdexcept>
#include <utility>
#include <vector>

#include "check.h"
#include "faults.h"

namespace cuda_faults {
namespace {

constexpr int kRows = 64, kColumns = 16384;  // of tile_by_batch

enum Index {
  kFloatAtomic,
  kMissingSync,
  kUnsetWorkspace,
  kSecondStream,
  kReusedBuffer,
  kTimedAlgorithm,
  kTileByBatch,
  kIntegerAtomic,
  kMaxAtomic,
  kTwoAddends
};

constexpr Info kAll[] = {
    {"float_atomic", true, "float_atomic_sum", true, true, "float sums that meet by atomicAdd in the order of arrival"},
    {"missing_sync", true, "missing_sync", false, true, "shared memory read before other warps have written it"},
    {"unset_workspace", true, "sum_partials", false, false, "a partial sum that is read and was never written"},
    {"second_stream", true, "consume", false, false, "a second stream that does not wait for what it reads"},
    {"reused_buffer", true, "drain_slot", false, false, "a buffer that is filled anew before it was read"},
    {"timed_algorithm", true, "ordered_sum_variant", false, false,
     "the order of summation that was the fastest just now"},
    {"tile_by_batch", false, "row_sums", false, true, "an order of summation that follows the size of the batch"},
    {"integer_atomic", false, "integer_atomics", false, true, "counts by integer atomics"},
    {"max_atomic", false, "max_atomics", false, true, "a maximum by atomics"},
    {"two_addends", false, "two_addends", true, true, "two floats added to zero by atomics"},
};

struct FreeMemory {
  void operator()(void* memory) const { cudaFree(memory); }
};
using Memory = std::unique_ptr<float, FreeMemory>;

Memory Allocate(std::size_t elements) {
  void* memory = nullptr;
  Check(cudaMalloc(&memory, elements * sizeof(float)), "cudaMalloc");
  return Memory(static_cast<float*>(memory));
}

}  // namespace

std::span<const Info> AllPlanted() { return kAll; }

struct Planted::State {
  Index index = kFloatAtomic;
  Version version = Version::kFault;
  Memory x, scratch, y;
  std::size_t elements = 0;
  cudaStream_t other = nullptr;
  std::function<void*(std::size_t)> allocate = [](std::size_t bytes) {
    void* memory = nullptr;
    Check(cudaMalloc(&memory, bytes), "cudaMalloc");
    return memory;
  };
  std::function<void(void*)> free = [](void* memory) { Check(cudaFree(memory), "cudaFree"); };
};

Planted::Planted(std::string_view name, Version version) : state_(std::make_unique<State>()) {
  std::size_t index = 0;
  while (index < std::size(kAll) && name != kAll[index].name) ++index;
  if (index == std::size(kAll)) throw std::invalid_argument("no planted fault is called " + std::string(name));
  State& s = *state_;
  s.index = static_cast<Index>(index);
  s.version = version;
  s.x = Allocate(kElements);
  FillInput(s.x.get(), kElements, 42, nullptr);
  switch (s.index) {
    case kMissingSync:
      s.elements = kElements / 16;
      break;
    case kSecondStream:
    case kReusedBuffer:
      s.elements = kElements;
      s.scratch = Allocate(kElements);
      Check(cudaStreamCreateWithFlags(&s.other, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
      break;
    case kTwoAddends:
      s.elements = kElements / 2;
      break;
    case kTileByBatch:
      s.elements = 1;
      s.scratch = Allocate(kRows);
      break;
    default:
      s.elements = kSums;
  }
  s.y = Allocate(s.elements);
  Check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

Planted::~Planted() {
  if (state_->other != nullptr) cudaStreamDestroy(state_->other);
}

void Planted::Run(cudaStream_t stream, int batch) {
  State& s = *state_;
  const float* x = s.x.get();
  float* y = s.y.get();
  Check(cudaMemsetAsync(y, 0xff, s.elements * sizeof(float), stream), "cudaMemsetAsync");
  switch (s.index) {
    case kFloatAtomic:
      return FloatAtomicSum(x, y, s.version, stream);
    case kMissingSync:
      return MissingSync(x, y, s.version, stream);
    case kUnsetWorkspace: {
      void* workspace = s.allocate(kTiles * sizeof(float));
      UnsetWorkspace(x, static_cast<float*>(workspace), y, s.version, stream);
      return s.free(workspace);
    }
    case kSecondStream:
      return SecondStream(x, s.scratch.get(), y, s.version, stream, s.other);
    case kReusedBuffer:
      return ReusedBuffer(x, s.scratch.get(), y, s.version, stream, s.other);
    case kTimedAlgorithm:
      return TimedAlgorithm(x, y, s.version, stream);
    case kTileByBatch:
      if (batch < 1 || batch > kRows) throw std::invalid_argument("a batch has 1 to 64 rows");
      TileByBatch(x, batch, kColumns, s.scratch.get(), s.version, stream);
      return Check(cudaMemcpyAsync(y, s.scratch.get(), sizeof(float), cudaMemcpyDeviceToDevice, stream),
                   "cudaMemcpyAsync");
    case kIntegerAtomic:
      return IntegerAtomics(x, reinterpret_cast<std::int32_t*>(y), stream);
    case kMaxAtomic:
      return MaxAtomics(x, y, stream);
    case kTwoAddends:
      return TwoAddends(x, y, stream);
  }
}

const Info& Planted::info() const { return kAll[state_->index]; }
const void* Planted::output() const { return state_->y.get(); }
std::size_t Planted::output_elements() const { return state_->elements; }
bool Planted::integer_output() const { return state_->index == kIntegerAtomic; }

void Planted::SetAllocator(std::function<void*(std::size_t)> allocate, std::function<void(void*)> free) {
  state_->allocate = std::move(allocate);
  state_->free = std::move(free);
}

}  // namespace cuda_faults
