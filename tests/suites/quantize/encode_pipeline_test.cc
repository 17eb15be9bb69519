#include "suites/quantize/encode_pipeline.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace suites::quantize {
namespace {

// Counts what is in memory and where it was.
struct Watch {
  std::atomic<int> alive = 0, most = 0, run = 0;
};

// `tasks` numbers, task i writes 1000 * part + i.
class Numbers final : public Encoding {
 public:
  Numbers(int part, int tasks, int failing, Watch* watch)
      : part_(part), tasks_(tasks), failing_(failing), watch_(watch), bytes_(sizeof(int) * tasks) {
    const int alive = ++watch_->alive;
    if (alive > watch_->most) watch_->most = alive;
  }
  ~Numbers() override { --watch_->alive; }
  std::int64_t tasks() const override { return tasks_; }
  void Run(std::int64_t task) override {
    ++watch_->run;
    if (task == failing_) throw std::runtime_error("part " + std::to_string(part_));
    if ((part_ + task) % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));  // out of order
    const int value = 1000 * part_ + static_cast<int>(task);
    std::memcpy(bytes_.data() + sizeof(int) * task, &value, sizeof value);
  }
  std::vector<Bytes> Take() override {
    std::vector<Bytes> all;
    all.push_back(std::move(bytes_));
    return all;
  }

 private:
  int part_, tasks_, failing_;
  Watch* watch_;
  Bytes bytes_;
};

std::vector<EncodePart> Parts(int count, Watch* watch, std::uint64_t bytes, int failing_part = -1) {
  std::vector<EncodePart> parts;
  for (int i = 0; i < count; ++i) {
    parts.push_back(
        {bytes, [=] { return std::make_unique<Numbers>(i, i % 7, i == failing_part ? i % 7 - 1 : -1, watch); }});
  }
  return parts;
}

TEST(EncodePipeline, GivesThePartsInTheirOrder) {
  for (const int threads : {1, 2, 5}) {
    Watch watch;
    EncodePipeline pipeline(Parts(100, &watch, 10), threads, 45);
    for (int part = 0; part < 100; ++part) {
      const auto bytes = pipeline.Next();
      ASSERT_EQ(bytes.size(), 1u);
      ASSERT_EQ(bytes[0].span().size(), sizeof(int) * (part % 7));
      for (int i = 0; i < part % 7; ++i) {
        int value = 0;
        std::memcpy(&value, bytes[0].span().data() + sizeof(int) * i, sizeof value);
        ASSERT_EQ(value, 1000 * part + i);
      }
    }
    EXPECT_THROW(pipeline.Next(), std::logic_error);
    EXPECT_EQ(watch.alive, 0);
  }
}

// 45 bytes hold four parts of ten; a writer that does nothing lets no more be made.
TEST(EncodePipeline, KeepsToItsMemory) {
  Watch watch;
  EncodePipeline pipeline(Parts(60, &watch, 10), 3, 45);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  for (int i = 0; i < 60; ++i) pipeline.Next();
  EXPECT_LE(watch.most, 4);
  EXPECT_GT(watch.most, 1) << "several are ahead";
  // Control: with room for all of them more are there.
  Watch wide;
  EncodePipeline all(Parts(60, &wide, 10), 3, 1000);
  while (wide.most < 60) std::this_thread::yield();
  for (int i = 0; i < 60; ++i) all.Next();
}

TEST(EncodePipeline, APartLargerThanTheMemoryGoesThroughAlone) {
  Watch watch;
  EncodePipeline pipeline(Parts(20, &watch, 100), 3, 45);
  for (int i = 0; i < 20; ++i) pipeline.Next();
  EXPECT_EQ(watch.most, 1);
}

TEST(EncodePipeline, ThrowsWhatATaskThrew) {
  Watch watch;
  EncodePipeline pipeline(Parts(20, &watch, 10, 6), 3, 45);
  std::string error;
  try {
    for (int i = 0; i < 20; ++i) pipeline.Next();
  } catch (const std::runtime_error& failure) {
    error = failure.what();
  }
  EXPECT_EQ(error, "part 6");
}

TEST(EncodePipeline, StopsWhereItIsLeft) {
  Watch watch;
  {
    EncodePipeline pipeline(Parts(5000, &watch, 10), 3, 45);
    pipeline.Next();
  }
  EXPECT_EQ(watch.alive, 0);
  EXPECT_LT(watch.run, 100) << "most of the 15,000 tasks were never begun";
}

}  // namespace
}  // namespace suites::quantize
