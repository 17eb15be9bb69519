#include "suites/openvino/openvino_engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <openvino/core/version.hpp>
#include <openvino/runtime/compiled_model.hpp>
#include <openvino/runtime/core.hpp>
#include <openvino/runtime/infer_request.hpp>
#include <openvino/runtime/properties.hpp>
#include <span>
#include <stdexcept>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/model_config.h"
#include "suites/checkpoint/safetensors.h"
#include "suites/startup/cores.h"

namespace suites {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::string_view kExpectedNode = "FullyConnectedCompressed";

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// The first line of a message of the runtime: it puts a source position before
// and a trace behind.
std::string OneLine(std::string_view text) {
  std::string line;
  for (char c : text) line += (c == '\n' || c == '\r' || c == '\t') ? ' ' : c;
  const auto last = line.find_last_not_of(' ');
  line.resize(last == std::string::npos ? 0 : last + 1);
  constexpr std::size_t kLongest = 400;
  if (line.size() > kLongest) line = line.substr(0, kLongest) + "...";
  return line;
}

ov::AnyMap PropertiesFor(const OpenVinoOptions& options) {
  ov::AnyMap properties;
  if (options.deterministic || options.exact_f32) {
    properties.insert(ov::hint::inference_precision(ov::element::f32));
    properties.insert(ov::hint::kv_cache_precision(ov::element::f32));
    properties.insert(ov::hint::dynamic_quantization_group_size(0));
  } else {
    if (!options.inference_precision.empty()) {
      properties.insert(ov::hint::inference_precision(ov::element::Type(options.inference_precision)));
    }
    if (!options.kv_cache_precision.empty()) {
      properties.insert(ov::hint::kv_cache_precision(ov::element::Type(options.kv_cache_precision)));
    }
  }
  const int streams = options.deterministic ? 1 : options.streams;
  if (streams > 0) properties.insert(ov::num_streams(streams));
  const int threads = options.threads > 0 ? options.threads : options.deterministic ? UsableCores() : 0;
  if (threads > 0) properties.insert(ov::inference_num_threads(threads));
  if (options.profile) properties.insert(ov::enable_profiling(true));
  return properties;
}

class Engine final : public OpenVinoEngine {
 public:
  Engine(ov::CompiledModel model, bool profile, std::int64_t vocab, std::int64_t max_positions)
      : model_(std::move(model)),
        request_(model_.create_infer_request()),
        profile_(profile),
        vocab_(vocab),
        max_positions_(max_positions) {
    for (const auto& input : model_.inputs()) {
      has_position_ids_ |= input.get_names().contains("position_ids");
      has_beam_idx_ |= input.get_names().contains("beam_idx");
    }
  }

  Generation Generate(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) override;
  bool SetOpSink(OpSink) override { return false; }
  std::int64_t vocab_size() const override { return vocab_; }
  std::int64_t max_positions() const override { return max_positions_; }
  reporters::KernelProfile TakeProfile() override;
  std::vector<std::pair<std::string, std::string>> Settings() const override;

 private:
  void Check(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) const;
  // Logits of the positions of `ids`, [ids.size(), vocab], valid until the next call.
  std::span<const float> Forward(std::span<const std::int64_t> ids, std::int64_t past);
  void CollectProfile();

  ov::CompiledModel model_;
  ov::InferRequest request_;
  bool profile_;
  std::int64_t vocab_, max_positions_;
  bool has_position_ids_ = false, has_beam_idx_ = false;
  std::map<std::string, reporters::KernelEntry> entries_;  // by name
};

void Engine::Check(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) const {
  if (prompt_ids.empty()) throw std::invalid_argument("the prompt holds no token");
  if (options.max_tokens < 0) throw std::invalid_argument("max_tokens is negative");
  for (const auto* ids : {&prompt_ids, &options.forced_ids}) {
    for (std::int64_t id : *ids) {
      if (id < 0 || id >= vocab_) {
        throw std::invalid_argument("token id " + std::to_string(id) + " is outside the vocabulary of " +
                                    std::to_string(vocab_));
      }
    }
  }
  const auto positions = static_cast<std::int64_t>(prompt_ids.size()) + options.max_tokens;
  if (positions > max_positions_) {
    throw std::invalid_argument("prompt and new tokens need " + std::to_string(positions) +
                                " positions, the model has " + std::to_string(max_positions_));
  }
}

std::span<const float> Engine::Forward(std::span<const std::int64_t> ids, std::int64_t past) {
  const std::size_t count = ids.size();
  ov::Tensor input_ids(ov::element::i64, {1, count});
  std::copy(ids.begin(), ids.end(), input_ids.data<std::int64_t>());
  ov::Tensor mask(ov::element::i64, {1, static_cast<std::size_t>(past) + count});
  std::fill_n(mask.data<std::int64_t>(), mask.get_size(), 1);
  request_.set_tensor("input_ids", input_ids);
  request_.set_tensor("attention_mask", mask);
  if (has_position_ids_) {
    ov::Tensor positions(ov::element::i64, {1, count});
    std::iota(positions.data<std::int64_t>(), positions.data<std::int64_t>() + count, past);
    request_.set_tensor("position_ids", positions);
  }
  if (has_beam_idx_) {
    ov::Tensor beam(ov::element::i32, {1});
    *beam.data<std::int32_t>() = 0;
    request_.set_tensor("beam_idx", beam);
  }
  request_.infer();
  if (profile_) CollectProfile();
  const ov::Tensor logits = request_.get_tensor("logits");
  const ov::Shape shape = logits.get_shape();
  if (shape.size() != 3 || shape[0] != 1 || shape[1] != count || static_cast<std::int64_t>(shape[2]) != vocab_) {
    throw std::runtime_error("OpenVINO: logits came in an unexpected shape");
  }
  return {logits.data<const float>(), logits.get_size()};
}

Generation Engine::Generate(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) {
  Check(prompt_ids, options);
  Generation result;
  result.prompt_logits.vocab = vocab_;
  result.step_logits = LogitRows::Allocate(gtest_determinism::DType::kFloat32, options.max_tokens, vocab_);

  request_.reset_state();
  auto start = Clock::now();
  std::span<const float> logits = Forward(prompt_ids, 0);
  result.prefill_seconds = SecondsSince(start);
  if (options.all_prompt_logits) {
    result.prompt_logits =
        LogitRows::Allocate(gtest_determinism::DType::kFloat32, static_cast<std::int64_t>(prompt_ids.size()), vocab_);
    std::memcpy(result.prompt_logits.storage.get(), logits.data(), logits.size_bytes());
  }
  std::span<const float> row = logits.last(vocab_);
  auto past = static_cast<std::int64_t>(prompt_ids.size());
  for (int step = 0; step < options.max_tokens; ++step) {
    std::memcpy(result.step_logits.RowAddress(step), row.data(), row.size_bytes());
    const bool forced = step < static_cast<int>(options.forced_ids.size());
    TokenChoice choice = ChooseToken(row, forced ? options.forced_ids[step] : -1);
    result.tokens.push_back(choice.id);
    result.logprobs.push_back(choice.logprob);
    result.top10.push_back(std::move(choice.top10));
    if (step + 1 == options.max_tokens) break;
    start = Clock::now();
    row = Forward({&result.tokens.back(), 1}, past++);
    result.decode_seconds += SecondsSince(start);
  }
  return result;
}

void Engine::CollectProfile() {
  for (const ov::ProfilingInfo& info : request_.get_profiling_info()) {
    if (info.status != ov::ProfilingInfo::Status::EXECUTED) continue;
    reporters::KernelEntry& entry = entries_[info.node_type + " [" + info.exec_type + "]"];
    ++entry.count;
    entry.time_us += static_cast<double>(info.real_time.count());
    if (info.node_type.starts_with("FullyConnected") || info.node_type == "MatMul") {
      entry.kind = reporters::KernelKind::kGemm;
    }
  }
}

reporters::KernelProfile Engine::TakeProfile() {
  reporters::KernelProfile profile;
  profile.expected_kernel = kExpectedNode;
  if (!profile_) {
    profile.reason = "the model was compiled without PERF_COUNT";
    return profile;
  }
  for (auto& [name, entry] : entries_) {
    entry.name = name;
    entry.device = "cpu";
    if (name.starts_with(kExpectedNode)) profile.expected_count += entry.count;
    profile.kernels.push_back(entry);
  }
  std::stable_sort(profile.kernels.begin(), profile.kernels.end(),
                   [](const auto& a, const auto& b) { return a.time_us > b.time_us; });
  entries_.clear();
  profile.status = profile.kernels.empty() ? reporters::ProfileStatus::kEmpty : reporters::ProfileStatus::kOk;
  if (profile.kernels.empty()) profile.reason = "get_profiling_info() named no executed operator";
  return profile;
}

std::vector<std::pair<std::string, std::string>> Engine::Settings() const {
  std::vector<std::pair<std::string, std::string>> settings;
  for (const ov::PropertyName& name : model_.get_property(ov::supported_properties)) {
    if (name == ov::supported_properties.name()) continue;
    settings.emplace_back(name, model_.get_property(name).as<std::string>());
  }
  return settings;
}

// What the engine relies on, checked before the weights are compiled.
std::int64_t CheckModel(const ov::Model& model, const std::filesystem::path& file) {
  const auto has_input = [&](const char* name) {
    return std::ranges::any_of(model.inputs(), [&](const auto& input) { return input.get_names().contains(name); });
  };
  for (const char* name : {"input_ids", "attention_mask"}) {
    if (!has_input(name)) throw CheckpointError(file.string() + ": has no input " + name);
  }
  for (const auto& input : model.inputs()) {
    bool known = false;
    for (const char* name : {"input_ids", "attention_mask", "position_ids", "beam_idx"}) {
      known |= input.get_names().contains(name);
    }
    if (!known) throw CheckpointError(file.string() + ": unknown input " + input.get_any_name());
  }
  if (model.get_variables().empty()) {
    throw CheckpointError(file.string() + ": the model is not stateful; export it with its KV cache as state");
  }
  for (const auto& output : model.outputs()) {
    if (!output.get_names().contains("logits")) continue;
    const ov::PartialShape& shape = output.get_partial_shape();
    if (shape.rank() != 3 || shape[2].is_dynamic() || output.get_element_type() != ov::element::f32) {
      throw CheckpointError(file.string() + ": logits must be f32 [batch, positions, vocabulary]");
    }
    return shape[2].get_length();
  }
  throw CheckpointError(file.string() + ": has no output logits");
}

ov::Core& TheCore() {
  static ov::Core core;  // loads the CPU plugin once
  return core;
}

}  // namespace

std::unique_ptr<OpenVinoEngine> OpenVinoEngine::Load(const std::filesystem::path& folder,
                                                     const OpenVinoOptions& options) {
  const std::filesystem::path file = folder / "openvino_model.xml";
  for (const auto& needed : {file, folder / "openvino_model.bin"}) {
    if (!std::filesystem::is_regular_file(needed)) throw CheckpointError(needed.string() + ": no such file");
    std::string first(64, '\0');
    std::ifstream(needed, std::ios::binary).read(first.data(), static_cast<std::streamsize>(first.size()));
    RefuseLfsPointer(needed, first);
  }
  const ModelSizes config = ReadModelSizes(folder);
  try {
    const std::shared_ptr<ov::Model> model = TheCore().read_model(file.string());
    const std::int64_t vocab = CheckModel(*model, file);
    if (vocab != config.vocab_size) {
      throw CheckpointError(file.string() + ": logits of " + std::to_string(vocab) + " ids, config.json says " +
                            std::to_string(config.vocab_size));
    }
    return std::make_unique<Engine>(TheCore().compile_model(model, "CPU", PropertiesFor(options)), options.profile,
                                    vocab, config.max_position_embeddings);
  } catch (const ov::Exception& error) {
    throw CheckpointError(file.string() + ": OpenVINO: " + OneLine(error.what()));
  }
}

std::string OpenVinoEngine::RuntimeVersion() { return ov::get_openvino_version().buildNumber; }

}  // namespace suites
