// Machine code that nvcc made of tests/data/sass/atomics.cu.
#include "reporters/cuda/sass.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

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

TEST(MachineCode, ADisassemblerThatFailsIsAnError) {
  EXPECT_THAT(Disassemble("/bin/false", "not an ELF file", {"f"}), IsEmpty());  // nothing to disassemble
}

}  // namespace
}  // namespace reporters
