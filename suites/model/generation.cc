#include "suites/model/generation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace suites {
namespace {

using gtest_determinism::BitView;
using gtest_determinism::DType;

float Fp16ToFloat(std::uint16_t half) {
  const int exponent = half >> 10 & 31;
  const int fraction = half & 1023;
  float magnitude = exponent == 31  ? (fraction == 0 ? std::numeric_limits<float>::infinity() : std::nanf(""))
                    : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                    : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

BitView View(const void* data, std::size_t bytes, DType dtype, std::vector<std::int64_t> shape) {
  BitView view;
  view.data = data;
  view.bytes = bytes;
  view.dtype = dtype;
  view.shape = std::move(shape);
  return view;
}

BitView View(const LogitRows& logits, std::int64_t row, std::size_t bytes, std::vector<std::int64_t> shape) {
  BitView view = View(logits.RowAddress(row), bytes, logits.dtype, std::move(shape));
  view.space = logits.space;
  return view;
}

// Falling by logit, then rising by id; NaN last.
bool Above(float logit_a, std::int64_t id_a, float logit_b, std::int64_t id_b) {
  const bool nan_a = std::isnan(logit_a);
  const bool nan_b = std::isnan(logit_b);
  if (nan_a != nan_b) return nan_b;
  if (!nan_a && logit_a != logit_b) return logit_a > logit_b;
  return id_a < id_b;
}

}  // namespace

LogitRows LogitRows::Allocate(DType dtype, std::int64_t rows, std::int64_t vocab,
                              const gtest_determinism::MemorySpace& space) {
  LogitRows logits;
  logits.dtype = dtype;
  logits.rows = rows;
  logits.vocab = vocab;
  logits.space = &space;
  logits.storage = space.Allocate(logits.bytes());
  return logits;
}

std::size_t LogitRows::row_bytes() const { return static_cast<std::size_t>(vocab) * gtest_determinism::SizeOf(dtype); }

std::byte* LogitRows::RowAddress(std::int64_t row) const {
  return static_cast<std::byte*>(storage.get()) + static_cast<std::size_t>(row) * row_bytes();
}

LogitRows LogitRows::Clone() const {
  LogitRows copy = *this;
  if (storage == nullptr) return copy;
  copy.storage = space->Allocate(bytes());
  space->Copy(copy.storage.get(), storage.get(), bytes());
  return copy;
}

LogitRows LogitRows::OnHost() const {
  if (space == &gtest_determinism::HostMemory() || storage == nullptr) return *this;
  LogitRows copy = Allocate(dtype, rows, vocab);
  space->CopyToHost(copy.storage.get(), storage.get(), bytes());
  return copy;
}

bool LogitRows::SameBits(const LogitRows& other) const {
  if (dtype != other.dtype || rows != other.rows || vocab != other.vocab) return false;
  if (bytes() == 0 || storage == other.storage) return true;
  if (space == other.space) return space->Equal(storage.get(), other.storage.get(), bytes());
  const LogitRows a = OnHost();
  const LogitRows b = other.OnHost();
  return std::memcmp(a.storage.get(), b.storage.get(), bytes()) == 0;
}

std::vector<float> LogitRows::Row(std::int64_t row) const {
  const std::size_t size = gtest_determinism::SizeOf(dtype);
  std::vector<std::byte> copied;
  const std::byte* source = RowAddress(row);
  if (space != &gtest_determinism::HostMemory()) {
    copied.resize(row_bytes());
    space->CopyToHost(copied.data(), source, copied.size());
    source = copied.data();
  }
  std::vector<float> out(static_cast<std::size_t>(vocab));
  if (dtype == DType::kFloat32) {
    std::memcpy(out.data(), source, out.size() * size);
    return out;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, source + i * size, sizeof bits);
    out[i] =
        dtype == DType::kFloat16 ? Fp16ToFloat(bits) : std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  return out;
}

TokenChoice ChooseToken(std::span<const float> logits, std::int64_t forced) {
  constexpr std::size_t kTop = 10;
  TokenChoice choice;
  std::vector<std::int64_t> top;
  top.reserve(kTop + 1);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<std::int64_t>(i);
    if (top.size() == kTop && logits[i] <= logits[static_cast<std::size_t>(top.back())]) continue;  // the usual case
    const auto place = std::find_if(top.begin(), top.end(), [&](std::int64_t other) {
      return Above(logits[i], id, logits[static_cast<std::size_t>(other)], other);
    });
    top.insert(place, id);
    if (top.size() > kTop) top.pop_back();
  }
  if (top.empty()) return choice;
  choice.id = forced >= 0 ? forced : top.front();

  const float largest = logits[static_cast<std::size_t>(top.front())];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  const double log_sum = std::log(sum);
  auto logprob = [&](std::int64_t id) {
    return static_cast<float>(static_cast<double>(logits[static_cast<std::size_t>(id)] - largest) - log_sum);
  };
  choice.logprob = logprob(choice.id);
  choice.top10.reserve(top.size());
  for (const std::int64_t id : top) choice.top10.emplace_back(id, logprob(id));
  return choice;
}

void AppendBits(gtest_determinism::Trace& trace, std::string_view name, const Generation& generation) {
  const std::string prefix = name.empty() ? std::string() : std::string(name) + ".";
  const LogitRows& prompt = generation.prompt_logits;
  if (prompt.rows > 0) {
    trace.push_back({prefix + "prompt_logits", View(prompt, 0, prompt.bytes(), {prompt.rows, prompt.vocab})});
  }
  const LogitRows& steps = generation.step_logits;
  for (std::int64_t row = 0; row < steps.rows; ++row) {
    trace.push_back(
        {prefix + "logits[" + std::to_string(row) + "]", View(steps, row, steps.row_bytes(), {steps.vocab})});
  }
  const auto count = static_cast<std::int64_t>(generation.tokens.size());
  trace.push_back({prefix + "tokens", View(generation.tokens.data(), generation.tokens.size() * sizeof(std::int64_t),
                                           DType::kInt64, {count})});
  trace.push_back(
      {prefix + "logprobs", View(generation.logprobs.data(), generation.logprobs.size() * sizeof(float),
                                 DType::kFloat32, {static_cast<std::int64_t>(generation.logprobs.size())})});
}

std::vector<TracedOp> InferenceEngine::Trace(const std::vector<std::int64_t>& prompt_ids,
                                             const GenerationOptions& options) {
  std::vector<TracedOp> trace;
  // The sink refers to `trace`; it goes with it, also where a generation throws.
  struct SinkGuard {
    InferenceEngine& engine;
    ~SinkGuard() { engine.SetOpSink({}); }
  } guard{*this};
  const bool looks_inside = SetOpSink([&](const OpOutput& output) {
    trace.push_back({output, output.bits.space->DigestOf(output.bits.data, output.bits.bytes)});
  });
  if (looks_inside) Generate(prompt_ids, options);
  return trace;
}

}  // namespace suites
