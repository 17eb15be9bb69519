// Machine code that nvcc made of tests/data/sass/atomics.cu.
#include "reporters/cuda/sass.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "reporters/cuda/internal/cubin.h"
#include "reporters/cuda/machine_code.h"

namespace reporters {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

std::vector<SassFunction> Read(const std::string& architecture) {
  std::ifstream in(TESTS_DATA_DIR "/sass/" + architecture + ".txt");
  std::stringstream text;
  text << in.rdbuf();
  return ParseSass(text.str());
}

AtomicCounts Of(const std::vector<SassFunction>& functions, const std::string& name) {
  for (const SassFunction& function : functions) {
    if (function.name == name) return AtomicsOf(functions, name);
  }
  ADD_FAILURE() << "no function " << name;
  return {};
}

class Sass : public testing::TestWithParam<const char*> {
 protected:
  std::vector<SassFunction> functions_ = Read(GetParam());
  std::string One(const std::string& name) {
    const AtomicCounts counts = Of(functions_, name);
    EXPECT_THAT(counts.compare_and_swap, IsEmpty()) << name;
    return Describe(counts.float_adds);
  }
};

TEST_P(Sass, EveryFunctionIsThereWithItsInstructions) {
  EXPECT_EQ(functions_.size(), GetParam() == std::string("sm_80") ? 21u : 23u);
  for (const SassFunction& function : functions_) EXPECT_GT(function.instructions, 3) << function.name;
}

TEST_P(Sass, FloatAdditionsAreFoundWithTheirTypes) {
  const std::string red = GetParam() == std::string("sm_80") ? "1 RED" : "1 REDG";
  EXPECT_EQ(One("red_f32"), red + ".E.ADD.F32.FTZ.RN.STRONG.GPU");
  EXPECT_EQ(One("red_f64"), red + ".E.ADD.F64.RN.STRONG.GPU");
  EXPECT_EQ(One("sys_f32"), red + ".E.ADD.F32.FTZ.RN.STRONG.SYS");
  EXPECT_EQ(One("atom_f32"), "1 ATOMG.E.ADD.F32.FTZ.RN.STRONG.GPU");
  EXPECT_THAT(One("red_h2"), testing::HasSubstr("1 ATOM.E.ADD.F16x2.RN.STRONG.GPU"));
}

TEST_P(Sass, ALoopOfAdditionAndCompareAndSwapIsAnAddition) {
  EXPECT_EQ(One("sh_f32"), "1 ATOMS.CAST.SPIN in a loop with FADD");
  EXPECT_EQ(One("cas_f"), "1 ATOMG.E.CAS.STRONG.GPU in a loop with FADD");
  EXPECT_EQ(One("red_h"), "1 ATOM.E.CAS.STRONG.GPU in a loop with HADD2");
}

TEST_P(Sass, AnotherCompareAndSwapIsNotKnown) {
  for (const char* name : {"cas_i", "cas_max"}) {
    const AtomicCounts counts = Of(functions_, name);
    EXPECT_THAT(counts.float_adds, IsEmpty()) << name;
    EXPECT_THAT(counts.compare_and_swap, ElementsAre(Pair("ATOMG.E.CAS.STRONG.GPU", 1))) << name;
  }
}

// What gives the same in any order is left alone; REDUX is no atomic at all.
TEST_P(Sass, IntegersMaximaAndExchangesAreNoFloatAdditions) {
  for (const char* name : {"red_i", "red_u64", "max_i", "inc_u", "exch_f", "sh_i"}) {
    EXPECT_EQ(One(name), "") << name;
    EXPECT_EQ(Of(functions_, name).others.size(), 1u) << name;
  }
  for (const char* name : {"redux", "nothing"}) {
    EXPECT_EQ(One(name), "") << name;
    EXPECT_THAT(Of(functions_, name).others, IsEmpty()) << name;
  }
}

TEST_P(Sass, WhatAFunctionCallsCounts) {
  EXPECT_THAT(One("calls"), testing::HasSubstr("ADD.F32"));
  const auto functions = ParseSass(
      "\t.section\t.text.kernel,\"ax\",@progbits\n.text.kernel:\n /*0000*/ CALL.ABS.NOINC `(helper) ;\n"
      "\t.section\t.text.helper,\"ax\",@progbits\n.text.helper:\n /*0000*/ @P0 RED.E.ADD.F32.RN [R2], R5 ;\n"
      "\t.section\t.text.helper2,\"ax\",@progbits\n /*0000*/ RED.E.ADD.F64.RN [R2], R5 ;\n");
  ASSERT_EQ(functions.size(), 3u);
  EXPECT_THAT(functions[0].atomics.float_adds, IsEmpty());
  EXPECT_EQ(Describe(AtomicsOf(functions, "kernel").float_adds), "1 RED.E.ADD.F32.RN");
}

INSTANTIATE_TEST_SUITE_P(Architecture, Sass, testing::Values("sm_80", "sm_90"),
                         [](const auto& info) { return std::string(info.param); });

TEST(SassOfOneArchitecture, Bf16IsALoopBeforeSm90) {
  EXPECT_THAT(Describe(Of(Read("sm_80"), "red_b2").float_adds), testing::HasSubstr("CAS.STRONG.GPU in a loop with H"));
  EXPECT_THAT(Describe(Of(Read("sm_90"), "red_b2").float_adds), testing::HasSubstr("ATOM.E.ADD.BF16x2.RN.STRONG.GPU"));
}

TEST(SassOfOneArchitecture, VectorsAndTheCopyEngine) {
  const auto functions = Read("sm_90");
  EXPECT_EQ(Describe(Of(functions, "vec4").float_adds), "1 REDG.E.ADD.F32x4.FTZ.RN.STRONG.GPU");
  EXPECT_EQ(Describe(Of(functions, "bulk").float_adds), "1 UBLKRED.G.S.ADD.F32.RN");
}

TEST(SassOfOneArchitecture, WhatIsNoListingHasNoFunctions) {
  EXPECT_THAT(ParseSass(""), IsEmpty());
  EXPECT_THAT(ParseSass("nvdisasm fatal: not a cubin"), IsEmpty());
  EXPECT_EQ(ParseSass("\t.section\t.text.f,\"ax\",@progbits\n\t.sectioninfo\t@\"X\"\n /*00*/ EXIT ;")[0].instructions,
            1);
}

// Where modules were not watched for, or there is no device, nothing is claimed.
TEST(MachineCode, WhatWasNotLoadedWasNotLookedAt) {
  const auto codes = ReadMachineCode({"a_function_that_nobody_has"});
  ASSERT_EQ(codes.size(), 1u);
  EXPECT_EQ(codes[0].float_atomics.finding, Finding::kNotLookedAt);
  EXPECT_NE(codes[0].float_atomics.detail, "");
}

// ---- a cubin, and a program in nvdisasm's place ----

std::string Cubin() {
  std::ifstream in(TESTS_DATA_DIR "/sass/add.cubin", std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

// An executable `nvdisasm` in a folder of its own that runs `script`.
class FakeNvdisasm : public testing::Test {
 protected:
  FakeNvdisasm() {
    std::filesystem::create_directories(folder_);
    std::ofstream(program_) << "#!/bin/sh\n" << script_ << "\n";
    std::filesystem::permissions(program_, std::filesystem::perms::owner_all);
  }
  ~FakeNvdisasm() override { std::filesystem::remove_all(folder_); }
  void Script(const std::string& script) { std::ofstream(program_) << "#!/bin/sh\n" << script << "\n"; }
  const std::filesystem::path folder_ = testing::TempDir() + "/nvdisasm_" + std::to_string(getpid());
  const std::filesystem::path program_ = folder_ / "nvdisasm";
  const std::string script_ = "exit 1";
};

TEST_F(FakeNvdisasm, IsGivenTheSymbolsOfTheFunctionsAndTheirModule) {
  // Says what it was called with, as the name of a function.
  Script("printf '\\t.section\\t.text.%s,\\n' \"$1 $2 $3 $(head -c 4 $4 | tail -c 3)\"");
  const auto functions = Disassemble(program_, Cubin(), {"add_float"});
  ASSERT_EQ(functions.size(), 1u);
  unsigned index = 0;
  for (const internal::CubinFunction& function : internal::FunctionsOf(Cubin())) {
    if (function.name == "add_float") index = function.index;
  }
  EXPECT_GT(index, 0u);
  EXPECT_EQ(functions[0].name, "-c -fun " + std::to_string(index) + " ELF");
}

TEST_F(FakeNvdisasm, ThatFailsIsAnErrorAndThatIsNotAskedIsNone) {
  EXPECT_THROW(Disassemble(program_, Cubin(), {"add_float"}), std::runtime_error);
  EXPECT_THROW(Disassemble(folder_ / "missing", Cubin(), {"add_float"}), std::runtime_error);
  EXPECT_THAT(Disassemble(program_, Cubin(), {"another"}), IsEmpty());
  EXPECT_THAT(Disassemble(program_, "not an ELF file", {"add_float"}), IsEmpty());
}

TEST_F(FakeNvdisasm, IsFoundOnThePath) {
  const std::string path = std::getenv("PATH") != nullptr ? std::getenv("PATH") : "";
  setenv("PATH", (":/nowhere:" + folder_.string() + ":" + path).c_str(), 1);
  EXPECT_EQ(FindNvdisasm(), program_);
  std::filesystem::remove(program_);
  std::string reason;
  const std::filesystem::path elsewhere = FindNvdisasm(&reason);
  EXPECT_NE(elsewhere, program_);
  EXPECT_EQ(elsewhere.empty(), !reason.empty());
  setenv("PATH", path.c_str(), 1);
}

TEST(Cubins, FunctionsAndWhatIsCutShortOrNone) {
  const std::string whole = Cubin();
  const auto functions = internal::FunctionsOf(whole);
  ASSERT_EQ(functions.size(), 2u);
  for (const auto& function : functions) EXPECT_TRUE(function.kernel) << function.name;
  for (std::size_t length = 0; length < whole.size(); length += 7) {
    EXPECT_LE(internal::FunctionsOf(std::string_view(whole).substr(0, length)).size(), 2u);
  }
  for (std::size_t at = 0; at < whole.size(); at += 3) {  // no byte of it is trusted
    std::string broken = whole;
    broken[at] = static_cast<char>(0xff);
    internal::FunctionsOf(broken);
  }
}

}  // namespace
}  // namespace reporters
