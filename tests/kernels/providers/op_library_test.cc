// Op libraries: opened by path, found in the environment, refused in one line.
#include "kernels/providers/op_library.h"

#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "kernels/providers/boxed_operator.h"
#include "kernels/providers/elf_library.h"
#include "kernels/providers/vllm.h"
#include "kernels/torch_cuda.h"
#include "tests/kernels/random_layer.h"

namespace kernels {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const fs::path kLibraries = OP_LIBRARIES_DIR;
fs::path Library(const std::string& name) { return kLibraries / ("lib" + name + ".so"); }

// The one line that `call` throws.
std::string Refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), Not(HasSubstr("\n")));
    return error.what();
  }
  return "not refused";
}
std::string RefusalOf(const fs::path& library) {
  return Refusal([&] { OpenOpLibraries({library}); });
}

class Folder {
 public:
  Folder() {
    std::string pattern = testing::TempDir() + "/op_library_XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const fs::path& path() const { return path_; }
  fs::path Write(const fs::path& name, const std::string& text) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }

 private:
  fs::path path_;
};

// Sets a variable, or takes it away, while it lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* const before = std::getenv(name)) before_ = before;
    value != nullptr ? setenv(name, value, 1) : unsetenv(name);
  }
  ~Variable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

TEST(OpLibrary, OpensAndSaysWhatItRegistered) {
  EXPECT_FALSE(LibraryOfOperator("determinism_test_ops::scaled_sum"));
  const std::vector<OpLibrary> libraries = OpenOpLibraries({Library("op_library_good")});
  ASSERT_EQ(libraries.size(), 1u);
  const OpLibrary& library = libraries[0];
  EXPECT_TRUE(library.path.is_absolute());
  EXPECT_EQ(library.bytes, fs::file_size(Library("op_library_good")));
  EXPECT_THAT(library.operators,
              ElementsAre("determinism_test_ops::add_one_", "determinism_test_ops::halves",
                          "determinism_test_ops::noisy_sum", "determinism_test_ops::scaled_sum",
                          "determinism_test_ops::scaled_sum.of_two", "determinism_test_ops::without_a_kernel"));
  ASSERT_TRUE(LibraryOfOperator("determinism_test_ops::scaled_sum"));
  EXPECT_EQ(LibraryOfOperator("determinism_test_ops::scaled_sum")->path, library.path);
  EXPECT_FALSE(LibraryOfOperator("determinism_test_ops::scaled"));
  EXPECT_EQ(Describe(library),
            "libop_library_good.so, " + std::to_string(library.bytes) + " bytes, XXH3-128 " + library.digest);
}

TEST(OpLibrary, OpensOneFileOnce) {
  const OpLibrary first = OpenOpLibraries({Library("op_library_good")})[0];
  const std::size_t opened = OpenedOpLibraries().size();
  Folder folder;
  fs::create_symlink(Library("op_library_good"), folder.path() / "link.so");
  const OpLibrary second = OpenOpLibraries({folder.path() / "link.so"})[0];
  EXPECT_EQ(second.path, first.path);
  EXPECT_EQ(second.operators, first.operators);
  EXPECT_EQ(OpenedOpLibraries().size(), opened);
}

TEST(OpLibrary, CallsAnOperatorByName) {
  OpenOpLibraries({Library("op_library_good")});
  const internal::BoxedOperator sum("determinism_test_ops::scaled_sum", {"x", "scale", "twice"});
  const torch::jit::Stack results = sum({at::ones({4}), 0.5, true});
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].toTensor().item<float>(), 4.0f);
}

TEST(OpLibrary, RefusesAnOperatorThatItLacks) {
  OpenOpLibraries({Library("op_library_good")});
  EXPECT_THAT(Refusal([] { FindOperator("determinism_test_ops::nosuch"); }),
              AllOf(HasSubstr("there is no operator determinism_test_ops::nosuch"),
                    HasSubstr(Library("op_library_good").filename().string() + " (6 operators)")));
  EXPECT_EQ(Refusal([] { FindOperator("determinism_test_ops::scaled_sum", "of_three"); }),
            "operator determinism_test_ops::scaled_sum has no overload \"of_three\"; it has \"\", \"of_two\"");
}

TEST(OpLibrary, RefusesAnOperatorWithOtherArguments) {
  OpenOpLibraries({Library("op_library_good")});
  EXPECT_THAT(Refusal([] {
                internal::BoxedOperator("determinism_test_ops::noisy_sum", {"x", "quiet"});
              }),
              AllOf(HasSubstr("noisy_sum of "), HasSubstr("takes other arguments"),
                    EndsWith("determinism_test_ops::noisy_sum(Tensor x, bool noisy) -> Tensor")));
}

TEST(OpLibrary, RefusesWhatIsNoLibrary) {
  Folder folder;
  EXPECT_THAT(RefusalOf(folder.path() / "nosuch.so"), HasSubstr("nosuch.so cannot be read: No such file"));
  EXPECT_THAT(RefusalOf(folder.path()), EndsWith(" is not a file"));
  EXPECT_THAT(RefusalOf(folder.Write("text.so", "#!/bin/sh\necho no library, and longer than an ELF header is\n")),
              EndsWith("text.so is not a shared library: it is no ELF file"));
  EXPECT_THAT(RefusalOf(folder.Write("empty.so", "")), EndsWith("is not a shared library: it is no ELF file"));
  std::ifstream in(Library("op_library_good"), std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), {}};
  EXPECT_THAT(RefusalOf(folder.Write("short.so", whole.substr(0, whole.size() / 2))), HasSubstr("is cut short"));
  std::string other = whole;
  other[18] = 0x28;  // e_machine: 32-bit ARM
  EXPECT_THAT(RefusalOf(folder.Write("arm.so", other)), EndsWith("is a library for another kind of machine than this"));
  EXPECT_THAT(RefusalOf(fs::read_symlink("/proc/self/exe").string() + ".nosuch"), HasSubstr("cannot be read"));
}

// The missing function would be called while the library registers itself, and
// end this process.
TEST(OpLibrary, RefusesWhatWasBuiltForAnotherTorch) {
  EXPECT_THAT(RefusalOf(Library("op_library_other_torch")),
              AllOf(HasSubstr("was built for another torch: torch 2."),
                    HasSubstr("which this program runs with, lacks at::a_function_of_another_torch()")));
  EXPECT_THAT(RefusalOf(Library("op_library_missing_symbol")),
              EndsWith("needs a_variable_that_nobody_defines, which no library of this program defines"));
}

TEST(OpLibraryDeathTest, EndsInOneLineWhereAnOperatorIsRegisteredAlready) {
  EXPECT_EXIT(OpenOpLibraries({Library("op_library_twice")}), testing::ExitedWithCode(2),
              "^op library .*libop_library_twice.so cannot register its operators: Tried to register an operator "
              "\\(aten::mm[^\n]*\n$");
}

TEST(FindOpLibraries, TakesTheVariable) {
  const Variable files("QUANT_OP_LIBRARIES", "/a/one.so::/b/two.so");
  EXPECT_THAT(FindOpLibraries(), ElementsAre("/a/one.so", "/b/two.so"));
}

TEST(FindOpLibraries, LooksIntoThePythonEnvironment) {
  Folder folder;
  const Variable none("QUANT_OP_LIBRARIES", "");
  const Variable path("PATH", (folder.path() / "bin").c_str());
  const Variable environment("VIRTUAL_ENV", nullptr);
  EXPECT_THAT(FindOpLibraries(), IsEmpty());
  const fs::path packages = "lib/python3.11/site-packages";
  const fs::path library = folder.Write(packages / "vllm/_C_stable_libtorch.abi3.so", "");
  EXPECT_THAT(FindOpLibraries(), IsEmpty()) << "there is no python3 on PATH";
  {
    const Variable active("VIRTUAL_ENV", folder.path().c_str());
    EXPECT_THAT(FindOpLibraries(), ElementsAre(library));
  }
  fs::permissions(folder.Write("bin/python3", "#!/bin/sh\nexit 1\n"), fs::perms::owner_all);
  EXPECT_THAT(FindOpLibraries(), ElementsAre(library)) << "no Python may be started";
  const fs::path marlin = folder.Write(packages / "vllm/_C.abi3.so", "");
  EXPECT_THAT(FindOpLibraries(), ElementsAre(marlin, library));
}

TEST(FindOpLibraries, FollowsTheLinkOfAVirtualEnvironment) {
  Folder folder;
  const Variable none("QUANT_OP_LIBRARIES", nullptr);
  const Variable environment("VIRTUAL_ENV", nullptr);
  fs::permissions(folder.Write("usr/bin/python3", ""), fs::perms::owner_all);
  const fs::path library = folder.Write("usr/local/lib/python3.11/dist-packages/vllm/_C.abi3.so", "");
  fs::create_directories(folder.path() / "venv/bin");
  fs::create_symlink(folder.path() / "usr/bin/python3", folder.path() / "venv/bin/python3");
  const Variable path("PATH", (folder.path() / "venv/bin").c_str());
  EXPECT_THAT(FindOpLibraries(), ElementsAre(library));
}

TEST(OpLibrary, NamesTheVersionOfThePackage) {
  Folder folder;
  OpLibrary library;
  library.path = folder.Write("site-packages/vllm/_C.abi3.so", "");
  library.bytes = 7;
  library.digest = "00";
  EXPECT_EQ(Describe(library), "_C.abi3.so, 7 bytes, XXH3-128 00");
  fs::create_directories(folder.path() / "site-packages/vllm-0.23.0.dist-info");
  EXPECT_EQ(Describe(library), "vllm 0.23.0, _C.abi3.so, 7 bytes, XXH3-128 00");
}

TEST(Vllm, IsListedAndRefusedWithoutADevice) {
  int kernels = 0;
  for (const KernelIdentity& identity : RegisteredKernels()) {
    if (identity.provider != "vllm") continue;
    ++kernels;
    EXPECT_EQ(identity.device, "cuda");
    EXPECT_THAT(identity.device_functions, Not(IsEmpty()));
  }
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  EXPECT_EQ(kernels, 3);
#else
  EXPECT_EQ(kernels, 0);
#endif
  const QuantizedLinear layer = RandomLayer(Format::kAwq, {128, 64, 128}, 1);
  EXPECT_THAT(Refusal([&] {
                MakeInt4Matmul({"awq", "vllm", "cpu"}, layer);
              }),
              HasSubstr("no INT4 kernel awq/vllm/cpu"));
  KernelRequest with_option{"awq", "builtin", "cpu"};
  with_option.options = {{"use_atomic_add", "true"}};
  EXPECT_THAT(Refusal([&] { MakeInt4Matmul(with_option, layer); }), HasSubstr("has no option use_atomic_add"));
  if (TorchCuda().devices == 0) {
    EXPECT_THAT(Refusal([&] { MakeInt4Matmul({"awq", "vllm", "cuda"}, layer); }), HasSubstr(TorchCuda().reason));
  }
}

TEST(Vllm, SaysWhyItIsNotThere) {
  Folder folder;
  const Variable path("PATH", folder.path().c_str());
  const Variable environment("VIRTUAL_ENV", nullptr);
  {
    const Variable files("QUANT_OP_LIBRARIES", (folder.path() / "nosuch.so").c_str());
    EXPECT_THAT(WhyNoVllm("gptq"), HasSubstr("nosuch.so cannot be read"));
  }
  EXPECT_THAT(WhyNoVllm("tinygemm"), HasSubstr("no kernel of the family tinygemm"));
  const Variable files("QUANT_OP_LIBRARIES", Library("op_library_schema_only").c_str());
  EXPECT_THAT(WhyNoVllm("marlin"), AllOf(HasSubstr("there is no operator _C::marlin_gemm"), HasSubstr("schema_only")));
}

}  // namespace
}  // namespace kernels
