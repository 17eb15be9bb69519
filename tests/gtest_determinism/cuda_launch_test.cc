// Whose error it is: a launch of the user's that went wrong and that he did not check is not
// blamed on what he compares next, and is still his to find.
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <stdexcept>

#include "cuda_test_device.h"
#include "cuda_test_kernels.h"
#include "element_words.h"
#include "gtest_determinism/cuda_perturbations.h"
#include "gtest_determinism/digest.h"
#include "gtest_determinism/internal/cuda_kernels.h"
#include "gtest_determinism/matchers.h"
#include "gtest_determinism/runner.h"

namespace gtest_determinism {
namespace {

using testing::ElementsAre;
using testing::StartsWith;

std::string ErrorOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

class CudaLaunch : public DeviceTest {
 protected:
  static constexpr std::size_t kLarge = (std::size_t{4} << 20) + 48;  // of EqualEach(): a launch of its own
  static constexpr std::size_t kElement = 4099;                       // of two bytes, the one that differs

  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    x_ = RandomBytes(kLarge);
    std::fill_n(x_.begin() + 2 * kElement, 2, 0xa5);
    y_ = x_;
    y_[2 * kElement + 1] ^= 0x10;
    a_ = DeviceBuffer<unsigned char>::From(x_);
    b_ = DeviceBuffer<unsigned char>::From(y_);
  }

  // A grid of no blocks.
  void LaunchUnchecked() {
    LaunchIota(reinterpret_cast<float*>(a_->data()), 0, 0, stream_);
    left_ = cudaPeekAtLastError();  // which of its errors is CUDA's choice
    ASSERT_NE(left_, cudaSuccess);
  }

  // `call` with the error of such a launch in place. Once without: some calls of CUDA, such
  // as cudaFuncSetAttribute(), take an error away, and so may what is used for the first time.
  void ExpectNotBlamed(const std::function<void()>& call) {
    ASSERT_EQ(ErrorOf(call), "") << "alone";
    ASSERT_EQ(cudaGetLastError(), cudaSuccess) << "alone";
    LaunchUnchecked();
    EXPECT_EQ(ErrorOf(call), "");
    EXPECT_EQ(cudaGetLastError(), left_) << "it is the user's";
  }

  cudaError_t left_ = cudaSuccess;  // by LaunchUnchecked()
  std::vector<unsigned char> x_, y_;
  std::optional<DeviceBuffer<unsigned char>> a_, b_;
};

TEST_F(CudaLaunch, EqualIsNotBlamedForTheUsersError) {
  ExpectNotBlamed([&] {
    EXPECT_TRUE(CudaMemory().Equal(a_->data(), b_->data(), 2 * kElement));
    EXPECT_FALSE(CudaMemory().Equal(a_->data(), b_->data(), kLarge));
  });
}

TEST_F(CudaLaunch, EqualEachIsNotBlamedForTheUsersError) {
  const std::vector<BytePair> pairs = {{a_->data(), b_->data(), 100},
                                       {a_->data() + 2 * kElement, b_->data() + 2 * kElement, 30},
                                       {a_->data(), b_->data(), kLarge},
                                       {a_->data() + 16384, b_->data() + 16384, 1 << 20}};
  ExpectNotBlamed([&] { EXPECT_THAT(CudaMemory().EqualEach(pairs), ElementsAre(true, false, false, true)); });
}

TEST_F(CudaLaunch, DifferencesOfIsNotBlamedForTheUsersError) {
  const ElementDifferences host = HostMemory().DifferencesOf(x_.data(), y_.data(), kLarge / 2, DType::kFloat16);
  ASSERT_EQ(host.first, static_cast<std::int64_t>(kElement));
  ExpectNotBlamed(
      [&] { EXPECT_EQ(CudaMemory().DifferencesOf(a_->data(), b_->data(), kLarge / 2, DType::kFloat16), host); });
}

TEST_F(CudaLaunch, DigestOfIsNotBlamedForTheUsersError) {
  ExpectNotBlamed([&] {
    EXPECT_EQ(CudaMemory().DigestOf(a_->data(), kLarge), TreeDigest(x_.data(), kLarge));
    EXPECT_EQ(CudaMemory().DigestOf(b_->data() + 1, kLarge - 1), TreeDigest(y_.data() + 1, kLarge - 1));
  });
}

TEST_F(CudaLaunch, NorIsAnythingElseThatLaunches) {
  const auto held = [&](const unsigned char* data) {
    const std::vector<std::int64_t> found = CudaMemory().ElementsHolding(data, kLarge / 2, 2, 0xa5);
    return std::find(found.begin(), found.end(), static_cast<std::int64_t>(kElement)) != found.end();
  };
  ExpectNotBlamed([&] {
    EXPECT_TRUE(held(a_->data()));
    EXPECT_FALSE(held(b_->data()));
  });
  CudaDigestQueue digests;
  CudaCompareQueue comparisons;
  ExpectNotBlamed([&] {
    digests.Enqueue(a_->data(), kLarge, stream_);
    comparisons.Enqueue(a_->data(), b_->data(), kLarge, stream_);
    EXPECT_THAT(digests.Take(), ElementsAre(TreeDigest(x_.data(), kLarge)));
    EXPECT_THAT(comparisons.Take(), ElementsAre(2 * kElement + 1));
  });
  const std::shared_ptr<Perturbation> perturbations[] = {CacheState(),
                                                         LaunchDelay({stream_}, std::chrono::microseconds(10))};
  for (const std::shared_ptr<Perturbation>& perturbation : perturbations) {
    ExpectNotBlamed([&] {
      for (int run = 0; run < 8; ++run) perturbation->Apply(run, 42);
      perturbation->Undo();
    });
  }
}

// A whole report: what the user's callable leaves behind does not make a run an error.
TEST_F(CudaLaunch, ARunIsJudgedByItsBits) {
  const DeviceBuffer<float> y({100});
  int run = 0, changes_in = 0;
  const auto call = [&] {
    LaunchIota(y.data(), 100, run++ == changes_in ? 2 : 1, stream_);
    LaunchUnchecked();
    return y.Span(stream_);
  };
  for (const bool warm : {false, true}) {
    run = 0, changes_in = -1;
    EXPECT_THAT(RunRepeated(call, {.runs = 5}), IsBitExact());
    EXPECT_TRUE(cudaGetLastError() == left_ || !warm);
    run = 0, changes_in = 3;
    EXPECT_THAT(RunRepeated(call, {.runs = 5}), IsNondeterministic());
    EXPECT_TRUE(cudaGetLastError() == left_ || !warm);
  }
}

// The controls: an error of our own launch is one, also behind another's, and is taken away.
TEST_F(CudaLaunch, ThatIsRefusedSaysSo) {
  const auto launch = [&](int blocks) {
    static unsigned stop = 1;
    return ErrorOf([&] {
      internal::LaunchCompete(blocks, &stop, 0, reinterpret_cast<std::uint32_t*>(a_->data()), 1024, 0, stream_);
    });
  };
  EXPECT_THAT(launch(0), StartsWith("CUDA refused to launch compete: invalid "));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  ASSERT_NE(cudaSetDevice(-1), cudaSuccess);
  EXPECT_THAT(launch(0), StartsWith("CUDA refused to launch compete: invalid "));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

// A stream that is being captured takes the launches into its graph, the user's error or not.
TEST_F(CudaLaunch, IsCapturedBesideAnErrorOfTheUsers) {
  CudaCompareQueue queue;
  queue.Enqueue(a_->data(), b_->data(), kLarge, stream_);
  queue.Take();
  for (const bool beside_an_error : {false, true}) {
    SCOPED_TRACE(beside_an_error);
    if (beside_an_error) LaunchUnchecked();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    const std::string error = ErrorOf([&] { queue.Enqueue(a_->data(), b_->data(), kLarge, stream_); });
    ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    EXPECT_EQ(error, "");
    EXPECT_EQ(cudaGetLastError(), beside_an_error ? left_ : cudaSuccess);
    std::size_t nodes = 0;
    EXPECT_EQ(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
    EXPECT_EQ(nodes, 1u);
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_THAT(queue.Take(), ElementsAre(2 * kElement + 1));
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }
}

// A device that has failed stays so: in a process of its own.
TEST_F(CudaLaunch, IsToldApartFromEarlierWorkThatFailed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto fail = [&] {
    LaunchIota(reinterpret_cast<float*>(std::uintptr_t{16}), 1, 0, stream_);
    cudaStreamSynchronize(stream_);
    std::fprintf(stderr, "%s\n", ErrorOf([&] { internal::LaunchHoldStream(0, stream_); }).c_str());
    std::fprintf(stderr, "%s\n", ErrorOf([&] { CudaMemory().Equal(a_->data(), b_->data(), 100); }).c_str());
    std::_Exit(7);
  };
  EXPECT_EXIT(fail(), testing::ExitedWithCode(7),
              "^hold_stream was not launched, earlier work on the device failed: an illegal memory access was "
              "encountered\n[^\n]*: earlier work on the device failed: an illegal memory access was encountered\n");
}

}  // namespace
}  // namespace gtest_determinism
