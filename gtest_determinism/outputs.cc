#include "gtest_determinism/outputs.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <limits>
#include <utility>

namespace gtest_determinism {
namespace {

// Consecutive ones differ in every bit or nearly, so that no stale value can
// pass for a result twice. 0xff makes floats NaN, 0x00 is what fresh pages hold.
std::uint8_t PoisonOf(int run) {
  constexpr std::uint8_t kPoisons[] = {0xa5, 0x5a, 0xff, 0x00, 0x7b, 0x84, 0x3c, 0xc3};
  return kPoisons[static_cast<std::size_t>(run) % std::size(kPoisons)];
}

std::string Hex(std::uint8_t byte) {
  char text[8];
  std::snprintf(text, sizeof(text), "0x%02x", byte);
  return text;
}

std::size_t ElementsOf(std::string_view name, const std::vector<std::int64_t>& shape, std::size_t size) {
  std::size_t elements = 1;
  for (const std::int64_t extent : shape) {
    if (extent < 0) throw std::invalid_argument("output '" + std::string(name) + "' has a negative extent");
    if (extent != 0 &&
        elements > std::numeric_limits<std::ptrdiff_t>::max() / size / static_cast<std::size_t>(extent)) {
      throw std::invalid_argument("output '" + std::string(name) + "' is larger than the address space");
    }
    elements *= static_cast<std::size_t>(extent);
  }
  return elements;
}

}  // namespace

void* Outputs::Buffer(std::string_view name, DType dtype, std::vector<std::int64_t> shape, const MemorySpace& space) {
  const std::size_t elements = ElementsOf(name, shape, SizeOf(dtype));
  last_elements_ = elements;
  for (const auto& buffer : buffers_) {
    if (buffer->name != name) continue;
    const bool same = buffer->view.dtype == dtype && buffer->view.shape == shape && buffer->view.space == &space;
    if (buffer->run == run_) {
      if (same) return const_cast<void*>(buffer->view.data);
      throw std::invalid_argument("output '" + std::string(name) + "' was asked for twice in one run, as two things");
    }
    if (same) {
      buffer->run = run_;
      Poison(*buffer);
      asked_.push_back(buffer.get());
      return const_cast<void*>(buffer->view.data);
    }
  }
  auto buffer = std::make_unique<Buffered>();
  buffer->name = name;
  buffer->run = run_;
  buffer->view.dtype = dtype;
  buffer->view.shape = std::move(shape);
  buffer->view.space = &space;
  buffer->view.bytes = elements * SizeOf(dtype);
  buffer->memory = space.Allocate(buffer->view.bytes + 2 * kFenceBytes);
  buffer->view.data = static_cast<unsigned char*>(buffer->memory.get()) + kFenceBytes;
  buffer->view.owner = buffer->memory;
  Poison(*buffer);
  asked_.push_back(buffer.get());
  buffers_.push_back(std::move(buffer));
  return const_cast<void*>(asked_.back()->view.data);
}

void Outputs::Poison(Buffered& buffer) const {
  // Fences included: a write outside that happens to equal the poison of one run
  // does not equal that of the next.
  buffer.view.space->Fill(buffer.memory.get(), PoisonOf(run_), buffer.view.bytes + 2 * kFenceBytes);
}

void Outputs::BeginRun(int run) {
  run_ = run;
  asked_.clear();
}

Trace Outputs::Collect() {
  Trace trace;
  for (Buffered* buffer : asked_) {
    buffer->view.space->Synchronize();
    CheckFences(*buffer);
    CheckWritten(*buffer);
    trace.push_back({buffer->name, buffer->view});
  }
  return trace;
}

void Outputs::CheckFences(const Buffered& buffer) const {
  std::vector<unsigned char> fence(kFenceBytes);
  const std::uint8_t poison = PoisonOf(run_);
  const auto* begin = static_cast<const unsigned char*>(buffer.memory.get());
  const auto check = [&](std::size_t offset, bool before) {
    buffer.view.space->CopyToHost(fence.data(), begin + offset, kFenceBytes);
    const auto wrong = [&](unsigned char byte) { return byte != poison; };
    // Name the byte nearest to the buffer: that is where an index ran over.
    const std::size_t at =
        before ? static_cast<std::size_t>(std::find_if(fence.rbegin(), fence.rend(), wrong) - fence.rbegin()) + 1
               : static_cast<std::size_t>(std::find_if(fence.begin(), fence.end(), wrong) - fence.begin());
    if (at == (before ? kFenceBytes + 1 : kFenceBytes)) return;
    throw OutputError("run " + std::to_string(run_) + " wrote outside output '" + buffer.name + "': " + "byte " +
                      (before ? "-" + std::to_string(at) : std::to_string(buffer.view.bytes + at)) + " of its " +
                      std::to_string(buffer.view.bytes) + " (" + Hex(fence[before ? kFenceBytes - at : at]) +
                      " instead of the fence's " + Hex(poison) + ")");
  };
  check(0, true);
  check(kFenceBytes + buffer.view.bytes, false);
}

void Outputs::CheckWritten(Buffered& buffer) const {
  const BitView& view = buffer.view;
  const std::size_t elements = view.bytes / SizeOf(view.dtype);
  const bool first = buffer.collected_runs++ == 0;
  if (!first && buffer.unwritten.empty()) return;
  buffer.unwritten = view.space->ElementsHolding(view.data, elements, SizeOf(view.dtype), PoisonOf(run_),
                                                 first ? nullptr : &buffer.unwritten);
  if (first || buffer.unwritten.empty()) return;
  throw OutputError("element " + std::to_string(buffer.unwritten.front()) + " of output '" + buffer.name +
                    "' was never written: it still holds the poison of each run (" +
                    std::to_string(buffer.unwritten.size()) + " of " + std::to_string(elements) + " elements)");
}

std::string Outputs::ExplainElement(std::size_t part, std::int64_t element, const BitView& kept_of_run0) const {
  if (part >= asked_.size() || element < 0) return "";
  const BitView& view = asked_[part]->view;
  const std::size_t size = SizeOf(view.dtype);
  std::vector<unsigned char> bytes(size);
  const auto holds = [&](const BitView& from, std::uint8_t poison) {
    from.space->CopyToHost(
        bytes.data(), static_cast<const unsigned char*>(from.data) + static_cast<std::size_t>(element) * size, size);
    return std::all_of(bytes.begin(), bytes.end(), [&](unsigned char byte) { return byte == poison; });
  };
  const auto note = [](int run) {
    return "not written in run " + std::to_string(run) + ": it still holds the poison " + Hex(PoisonOf(run));
  };
  if (holds(view, PoisonOf(run_))) return note(run_);
  if (kept_of_run0.data != nullptr && holds(kept_of_run0, PoisonOf(0))) return note(0);
  return "";
}

}  // namespace gtest_determinism
