// RunRepeated(): the engine. It knows no GoogleTest.
//
//   Report RunRepeated(callable, options)
//   Report RunRepeated(Inputs(n, generator), callable, options)
//
// A callable returns something with bits (has_bits.h) or fills Outputs (outputs.h):
//
//   () -> T             (Outputs&) -> void
//   (const Input&) -> T    (const Input&, Outputs&) -> void    with a generator (int index) -> Input
//
// Run 0 of an input is kept, each further run is compared with it byte by byte
// where the bytes lie. A part, a shape or a dtype that changes is a difference.
// What a callable throws ends the runs and is Outcome::kError; RunRepeated()
// itself does not throw.
#ifndef GTEST_DETERMINISM_RUNNER_H_
#define GTEST_DETERMINISM_RUNNER_H_

#include <concepts>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "gtest_determinism/has_bits.h"
#include "gtest_determinism/options.h"
#include "gtest_determinism/outputs.h"
#include "gtest_determinism/report.h"

namespace gtest_determinism {

// `count` inputs, made one after the other; each is frozen while its runs are made.
template <class Generator>
struct Inputs {
  Inputs(int n, Generator g) : count(n), generator(std::move(g)) {}
  int count;
  Generator generator;
};

// Thrown by a callable that cannot run here: Outcome::kSkipped with this reason.
class SkipRuns : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace internal {

// One thing to be run again and again. The engine calls, for each input:
// BeginInput, and for each run Execute, Collect, Release.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual int InputCount() const { return 1; }
  virtual void BeginInput(int /*input*/) {}
  virtual void Execute(int run) = 0;  // a warm-up has a run below 0
  virtual Trace Collect() = 0;        // of the last Execute; valid until Release
  virtual void Release() = 0;
  virtual std::string ExplainElement(std::size_t /*part*/, std::int64_t /*element*/, const BitView& /*run0*/) const {
    return "";
  }
};

Report RunSubject(Subject& subject, const Options& options);

// A test framework may have ways to end a run that are not exceptions. Mark()
// is called before a run; Since(mark) after it: nothing, or what happened.
struct Interruption {
  Outcome outcome = Outcome::kError;  // kSkipped or kError
  std::string reason;
};
struct InterruptionProbe {
  int (*mark)() = nullptr;
  std::optional<Interruption> (*since)(int mark) = nullptr;
};
void SetInterruptionProbe(const InterruptionProbe& probe);

template <class F>
inline constexpr bool kFillsOutputs = std::invocable<F&, Outputs&> && !std::invocable<F&>;

// Common to all: `Call` is how the callable is called, with or without an input.
template <class Call>
class CallSubject : public Subject {
 public:
  explicit CallSubject(Call call) : call_(std::move(call)) {}
  void BeginInput(int) override { outputs_ = Outputs(); }
  void Execute(int run) override {
    if constexpr (kFillsOutputs<Call>) {
      outputs_.BeginRun(run);
      call_(outputs_);
    } else {
      using Result = std::invoke_result_t<Call&>;
      static_assert(!std::is_void_v<Result>,
                    "gtest_determinism: the callable returns nothing, so there is nothing to compare. Return the "
                    "result, or take an Outputs& and fill its buffers (see gtest_determinism/outputs.h).");
      if constexpr (std::is_lvalue_reference_v<Result>) {
        result_ = &call_();
      } else if constexpr (!std::is_void_v<Result>) {
        result_.emplace(call_());
      }
    }
  }
  Trace Collect() override {
    if constexpr (kFillsOutputs<Call>) {
      return outputs_.Collect();
    } else {
      Trace trace;
      AppendPart(trace, "", *result_);
      return trace;
    }
  }
  void Release() override {
    if constexpr (!kFillsOutputs<Call>) result_ = {};
  }
  std::string ExplainElement(std::size_t part, std::int64_t element, const BitView& run0) const override {
    if constexpr (kFillsOutputs<Call>) {
      return outputs_.ExplainElement(part, element, run0);
    } else {
      return "";
    }
  }

 private:
  template <class C>
  static auto HolderOf() {
    if constexpr (kFillsOutputs<C>) {
      return std::optional<char>();
    } else {
      using Result = std::invoke_result_t<C&>;
      if constexpr (std::is_void_v<Result>) {
        return std::optional<char>();
      } else if constexpr (std::is_lvalue_reference_v<Result>) {
        return static_cast<const std::remove_reference_t<Result>*>(nullptr);
      } else {
        return std::optional<std::remove_cv_t<Result>>();
      }
    }
  }

  Call call_;
  Outputs outputs_;
  decltype(HolderOf<Call>()) result_{};
};

template <class Generator, class F>
auto CallWithInput(F& f, const std::optional<std::invoke_result_t<Generator&, int>>& input) {
  using Input = std::invoke_result_t<Generator&, int>;
  if constexpr (std::invocable<F&, const Input&>) {
    return [&f, &input]() -> decltype(auto) { return std::invoke(f, *input); };
  } else {
    static_assert(std::invocable<F&, const Input&, Outputs&>,
                  "gtest_determinism: the callable takes (const Input&) and returns a result, or takes "
                  "(const Input&, Outputs&), where Input is what the generator returns.");
    return [&f, &input](Outputs& outputs) { std::invoke(f, *input, outputs); };
  }
}

}  // namespace internal

template <class F>
Report RunRepeated(F&& callable, const Options& options = {}) {
  static_assert(std::invocable<F&> || std::invocable<F&, Outputs&>,
                "gtest_determinism: RunRepeated() takes a callable without arguments, or one that takes an Outputs&; "
                "for one that takes an input, pass Inputs(n, generator) before it.");
  if constexpr (internal::kFillsOutputs<F>) {
    auto call = [&callable](Outputs& outputs) { std::invoke(callable, outputs); };
    internal::CallSubject<decltype(call)> subject(call);
    return internal::RunSubject(subject, options);
  } else {
    auto call = [&callable]() -> decltype(auto) { return std::invoke(callable); };
    internal::CallSubject<decltype(call)> subject(call);
    return internal::RunSubject(subject, options);
  }
}

template <class Generator, class F>
Report RunRepeated(Inputs<Generator> inputs, F&& callable, const Options& options = {}) {
  using Input = std::invoke_result_t<Generator&, int>;
  static_assert(!std::is_reference_v<Input>, "gtest_determinism: the generator of inputs returns them by value.");
  std::optional<Input> input;
  auto call = internal::CallWithInput<Generator>(callable, input);
  using Base = internal::CallSubject<decltype(call)>;
  class InputSubject final : public Base {
   public:
    InputSubject(decltype(call) c, Inputs<Generator>& i, std::optional<Input>& current)
        : Base(c), inputs_(i), current_(current) {}
    int InputCount() const override { return inputs_.count; }
    void BeginInput(int index) override {
      Base::BeginInput(index);
      current_.reset();
      current_.emplace(std::invoke(inputs_.generator, index));
    }

   private:
    Inputs<Generator>& inputs_;
    std::optional<Input>& current_;
  };
  InputSubject subject(call, inputs, input);
  return internal::RunSubject(subject, options);
}

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_RUNNER_H_
