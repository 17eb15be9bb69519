#include "reporters/exclusive_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <stdexcept>

#include "reporters/writers.h"
#include "tests/reporters/golden.h"
#include "tests/reporters/sample_records.h"
#include "tests/reporters/temporary_folder.h"

namespace reporters {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Names = std::vector<std::string>;

// Runs `body` in a child and returns its exit status.
int InChild(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// What CreateExclusively() says of a failure; "" if it does not fail.
std::string ErrorOf(const std::filesystem::path& folder, const std::string& content) {
  try {
    CreateExclusively(folder, "x", ".json", content);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(CreateExclusively, NeverReplacesAnything) {
  TemporaryFolder folder;
  EXPECT_EQ(CreateExclusively(folder.path(), "a", ".json", "1").filename(), "a.json");
  EXPECT_EQ(CreateExclusively(folder.path(), "a", ".json", "2").filename(), "a_2.json");
  std::ofstream(folder.path() / "a_3.json") << "not ours";
  EXPECT_EQ(CreateExclusively(folder.path(), "a", ".json", "4").filename(), "a_4.json");
  EXPECT_EQ(ReadAll(folder.path() / "a.json"), "1");
  EXPECT_EQ(ReadAll(folder.path() / "a_2.json"), "2");
  EXPECT_EQ(ReadAll(folder.path() / "a_3.json"), "not ours");
  EXPECT_EQ(folder.Names(), (Names{"a.json", "a_2.json", "a_3.json", "a_4.json"}));  // no temporary file stays
}

TEST(CreateExclusively, AProcessesFilesAreNeitherSplicedNorLost) {
  TemporaryFolder folder;
  constexpr int kProcesses = 6, kFiles = 12;
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    const pid_t child = fork();
    if (child == 0) {
      for (int i = 0; i < kFiles; ++i) {
        const std::string mark = std::to_string(p) + "," + std::to_string(i) + ";";
        std::string content;
        while (content.size() < 100000) content += mark;
        CreateExclusively(folder.path(), "same", ".json", content);
      }
      _exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_EQ(status, 0);
  }
  const Names names = folder.Names();
  ASSERT_EQ(names.size(), static_cast<std::size_t>(kProcesses * kFiles));
  std::set<std::string> marks;
  for (const std::string& name : names) {
    const std::string content = ReadAll(folder.path() / name);
    const std::string mark = content.substr(0, content.find(';') + 1);
    std::string whole;
    while (whole.size() < 100000) whole += mark;
    EXPECT_EQ(content, whole) << name;
    marks.insert(mark);
  }
  EXPECT_EQ(marks.size(), names.size()) << "a file was written over";
}

TEST(CreateExclusively, MakesTheFolderAndKeepsTheNameInside) {
  TemporaryFolder folder;
  EXPECT_EQ(CreateExclusively(folder.path() / "new" / "deeper", "../../etc/passwd", ".json", "x"),
            folder.path() / "new" / "deeper" / "_.._.._etc_passwd.json");
  EXPECT_EQ(CreateExclusively(folder.path(), "", ".json", "x").filename(), "_.json");
  EXPECT_EQ(CreateExclusively(folder.path(), "\xFF b\n", ".json", "x").filename(), "__b_.json");
}

TEST(CreateExclusively, ErrorIsOneLineThatNamesTheFolder) {
  TemporaryFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  const std::string error = ErrorOf(folder.path() / "file", "x");
  EXPECT_THAT(error, HasSubstr((folder.path() / "file").string()));
  EXPECT_THAT(error, HasSubstr("Not a directory"));
  EXPECT_EQ(error.find('\n'), std::string::npos);
}

TEST(CreateExclusively, AFileSizeLimitLeavesNothing) {
  TemporaryFolder folder;
  const std::string content(1 << 20, 'x');
  EXPECT_EQ(InChild([&] {
              std::signal(SIGXFSZ, SIG_IGN);
              const rlimit limit = {4096, 4096};
              setrlimit(RLIMIT_FSIZE, &limit);
              return ErrorOf(folder.path(), content).find("File too large") != std::string::npos ? 0 : 1;
            }),
            0);
  EXPECT_THAT(folder.Names(), ElementsAre());
  EXPECT_EQ(ErrorOf(folder.path(), content), "");  // without the limit it fits
}

// What a kill in the midst of writing leaves: the limit's signal ends the
// process after 4096 bytes.
TEST(CreateExclusively, AKilledProcessLeavesNothing) {
  TemporaryFolder folder;
  EXPECT_EQ(InChild([&] {
              const rlimit size = {4096, 4096}, no_core = {0, 0};
              setrlimit(RLIMIT_CORE, &no_core);
              setrlimit(RLIMIT_FSIZE, &size);
              std::signal(SIGXFSZ, SIG_DFL);
              ErrorOf(folder.path(), std::string(1 << 20, 'x'));
              return 1;
            }),
            128 + SIGXFSZ);
  const int unnamed = open(folder.path().c_str(), O_TMPFILE | O_WRONLY, 0666);
  if (unnamed >= 0) {
    close(unnamed);
    EXPECT_THAT(folder.Names(), ElementsAre());
  } else {  // a file system without them: never a result that is not whole
    EXPECT_THAT(folder.Names(), ElementsAre(testing::StartsWith(".determinism-")));
  }
}

// From here on this process sees a file system without O_TMPFILE.
bool ForbidUnnamedFiles() {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "reads the low half of an argument");
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_openat, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_TMPFILE & ~O_DIRECTORY, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {std::size(filter), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(CreateExclusively, WithoutUnnamedFilesItTakesAHiddenName) {
  TemporaryFolder folder;
  std::ofstream(folder.path() / "x.json") << "not ours";
  EXPECT_EQ(InChild([&] {
              if (!ForbidUnnamedFiles()) return 1;
              if (open(folder.path().c_str(), O_TMPFILE | O_WRONLY, 0666) >= 0) return 2;
              if (!ErrorOf(folder.path(), "y").empty()) return 3;
              if (folder.Names() != Names{"x.json", "x_2.json"}) return 4;
              if (ReadAll(folder.path() / "x_2.json") != "y" || ReadAll(folder.path() / "x.json") != "not ours")
                return 5;
              std::signal(SIGXFSZ, SIG_IGN);
              const rlimit limit = {4096, 4096};
              setrlimit(RLIMIT_FSIZE, &limit);
              if (ErrorOf(folder.path(), std::string(1 << 20, 'x')).find("File too large") == std::string::npos)
                return 6;
              return folder.Names().size() == 2 ? 0 : 7;
            }),
            0);
}

TEST(CreateExclusively, AFullDiskLeavesNothing) {
  TemporaryFolder folder;
  constexpr int kNoMount = 77;
  const int status = InChild([&] {
    // A mount namespace of its own: the tmpfs is seen by this child only.
    if (unshare(CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", folder.path().c_str(), "tmpfs", 0, "size=64k") != 0) {
      return kNoMount;
    }
    const std::string error = ErrorOf(folder.path(), std::string(1 << 20, 'x'));
    if (error.find("No space left on device; free space or choose another folder") == std::string::npos) return 1;
    if (!folder.Names().empty()) return 2;
    return ErrorOf(folder.path(), "fits").empty() ? 0 : 3;
  });
  if (status == kNoMount) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  EXPECT_EQ(status, 0);
}

TEST(CompactTime, OfIsoText) {
  EXPECT_EQ(CompactTime("2025-01-15T10:30:00.123456"), "20250115_103000");
  EXPECT_THAT(CompactTime("yesterday"), testing::MatchesRegex("[0-9]{8}_[0-9]{6}"));
  EXPECT_THAT(IsoTimeNow(), testing::MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{6}"));
}

TEST(WriteInvestigationFile, NameAndContent) {
  TemporaryFolder folder;
  const VariantRecord record = FailedRecord();
  const auto first = WriteInvestigationFile(folder.path(), record, DeriveVerdict(record));
  EXPECT_EQ(first.filename(), "openvino_investigation_20250115_103100.json");
  EXPECT_EQ(WriteInvestigationFile(folder.path(), record, DeriveVerdict(record)).filename(),
            "openvino_investigation_20250115_103100_2.json");
  EXPECT_TRUE(MatchesGolden(ReadAll(first), "failure.json"));
}

}  // namespace
}  // namespace reporters
