#include "suites/checkpoint/read_ahead.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "suites/checkpoint/progress_line.h"
#include "suites/checkpoint/upload_rates.h"
#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using testing_support::ScratchFolder;
using testing_support::WriteFile;

TEST(ReadAheadTest, BringsTheFilesIntoThePageCache) {
  const ScratchFolder folder;
  constexpr std::size_t kSize = 9 << 20;
  WriteFile(folder.path() / "a.safetensors", std::string(kSize, 'a'));
  WriteFile(folder.path() / "b.safetensors", std::string(kSize + 1, 'b'));
  const auto files = WeightFiles(folder.path());
  {
    ReadAhead there(folder.path());
    there.Wait();
    EXPECT_EQ(there.bytes_read(), 0u) << "control: just written, so that all of it is there";
  }
  DropFromPageCache(files);
  // A file system in memory keeps them.
  const std::uint64_t expected = ResidentBytes(files) > 2 * kSize ? 0 : 2 * kSize + 1;
  ReadAhead read(folder.path(), 3);
  read.Wait();
  EXPECT_EQ(read.bytes_read(), expected);
  EXPECT_GE(ResidentBytes(files), 2 * kSize);
}

TEST(ReadAheadTest, LeavesErrorsToTheLoader) {
  const ScratchFolder folder;
  EXPECT_NO_THROW({
    ReadAhead none(folder.path());
    none.Wait();
  });
  WriteFile(folder.path() / "model.safetensors", "");
  EXPECT_NO_THROW(ReadAhead(folder.path()).Wait());
}

std::string Shown(bool terminal) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* stream = open_memstream(&text, &size);
  {
    ProgressLine line("awq", stream, terminal);
    for (int i = 0; i < 1000; ++i) line.Show(i * 1'000'000, 2'000'000'000);
    line.Show(2'000'000'000, 2'000'000'000);
  }
  std::fclose(stream);
  std::string shown(text, size);
  std::free(text);
  return shown;
}

TEST(ProgressLineTest, OneLineOverItselfAndGoneAtTheEnd) {
  const std::string shown = Shown(true);
  EXPECT_THAT(shown, testing::StartsWith("\r\033[Kawq: 0.00 of 2.00 GB, 0 %\r"));
  EXPECT_THAT(shown, testing::HasSubstr("awq: 2.00 of 2.00 GB, 100 %, "));
  EXPECT_TRUE(shown.ends_with("\r\033[K"));
  EXPECT_EQ(shown.find('\n'), std::string::npos);
  EXPECT_EQ(Shown(false), "") << "a file or a pipe";
}

}  // namespace
}  // namespace suites
