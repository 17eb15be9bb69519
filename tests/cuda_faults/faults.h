// Faults planted on a GPU, each beside its sound twin, and what looks like a
// fault and is none. Plain launch functions and, for tests that treat all alike,
// a table and a class that owns the memory. All work is put on the stream given;
// errors are thrown as std::runtime_error.
#ifndef TESTS_CUDA_FAULTS_FAULTS_H_
#define TESTS_CUDA_FAULTS_FAULTS_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace cuda_faults {

enum class Version { kFault, kSound };

// x is [kTiles, kTile] floats of magnitudes from 1e-4 to 1e4, so that rounding
// shows the order of additions. Tile t belongs to output t % kSums.
inline constexpr int kTile = 1024;
inline constexpr int kTiles = 2048;
inline constexpr int kElements = kTile * kTiles;
inline constexpr int kSums = 64;
void FillInput(float* x, std::int64_t elements, unsigned seed, cudaStream_t stream);

// ---- Faults ----

// y[kSums]. Fault: one block for each tile, whose sums meet by atomicAdd in the
// order of arrival (kernel float_atomic_sum). Sound: in the order of tiles.
void FloatAtomicSum(const float* x, float* y, Version version, cudaStream_t stream);

// y[kTiles / 16, kTile]. Fault: __syncthreads() is missing between the writes
// to shared memory and the reads of other warps (kernel missing_sync).
void MissingSync(const float* x, float* y, Version version, cudaStream_t stream);

// y[kSums], by partial sums in workspace[kElements / kTile]. Fault: the last
// partial sum of each output is added up but never written (kernels
// partial_sums, sum_partials).
void UnsetWorkspace(const float* x, float* workspace, float* y, Version version, cudaStream_t stream);

// y[kElements] = 2 * scratch, scratch[kElements] = f(x). scratch is cleared and
// made on `stream` (kernel slow_produce), read on `other` (kernel consume).
// Fault: `other` does not wait for it. `stream` waits for `other` in the end.
// Not to be captured into a graph.
void SecondStream(const float* x, float* scratch, float* y, Version version, cudaStream_t stream, cudaStream_t other);

// y[kElements] through two buffers slots[2, kElements / 8] that are filled by
// turns on `stream` (kernel fill_slot) and read on `other` (kernel drain_slot).
// Fault: a buffer is filled anew before it was read. Not to be captured.
void ReusedBuffer(const float* x, float* slots, float* y, Version version, cudaStream_t stream, cudaStream_t other);

// y[kSums]. Fault: of four orders of summation that take the same time (kernels
// ordered_sum_variant<0..3>) the one that was the fastest just now. Waits for the
// stream; not to be captured.
void TimedAlgorithm(const float* x, float* y, Version version, cudaStream_t stream);

// y[rows] of x[rows, columns]: sums of rows. Fault: the number of threads that
// share a row follows the number of rows (kernel row_sums<...>): the same row
// has another sum in another batch, though each batch is bit-exact run to run.
void TileByBatch(const float* x, int rows, int columns, float* y, Version version, cudaStream_t stream);

// ---- What is rightly left alone ----

// y[kSums] counts x by bits 10 to 15 of its words, with integer atomics.
void IntegerAtomics(const float* x, std::int32_t* y, cudaStream_t stream);
// y[kSums]: the largest magnitude of each output's tiles, by atomicMax.
void MaxAtomics(const float* x, float* y, cudaStream_t stream);
// y[kElements / 2]: each the sum of two elements that two blocks add to 0 by
// atomicAdd: 0 + a + b and 0 + b + a have the same bits.
void TwoAddends(const float* x, float* y, cudaStream_t stream);

// ---- All alike ----

struct Info {
  const char* name;    // "float_atomic"
  bool differs;        // run to run, in the version kFault
  const char* kernel;  // part of the demangled name of the device function at fault
  bool float_atomics;  // its machine code holds additions of floats by atomics
  bool capturable;     // into a graph
  const char* what;    // one line
};
std::span<const Info> AllPlanted();

// One of them with its memory on the current device. Those that are rightly left
// alone have one version.
class Planted {
 public:
  // Throws std::invalid_argument for a name that is not in AllPlanted().
  Planted(std::string_view name, Version version);
  ~Planted();
  Planted(const Planted&) = delete;
  Planted& operator=(const Planted&) = delete;

  // The output lies at the same address in each run and is poisoned before it
  // (0xff, on `stream`). tile_by_batch: `batch` rows of one input, of which only
  // row 0 is the output.
  void Run(cudaStream_t stream, int batch = 1);
  const Info& info() const;
  const void* output() const;
  std::size_t output_elements() const;  // of 4 bytes
  bool integer_output() const;

  // Workspace of unset_workspace: allocated and freed within Run(); by
  // cudaMalloc and cudaFree unless set here.
  void SetAllocator(std::function<void*(std::size_t)> allocate, std::function<void(void*)> free);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cuda_faults

#endif  // TESTS_CUDA_FAULTS_FAULTS_H_
