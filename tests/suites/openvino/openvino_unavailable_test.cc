// Of a build without OpenVINO.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "suites/checkpoint/safetensors.h"
#include "suites/openvino/openvino_engine.h"

namespace suites {
namespace {

TEST(OpenVinoEngine, SaysThatItIsNotBuiltIn) {
  EXPECT_EQ(OpenVinoEngine::RuntimeVersion(), "not built in");
  try {
    OpenVinoEngine::Load("models/some", {});
    FAIL() << "no error";
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("models/some: this build has no OpenVINO; install "));
  }
}

}  // namespace
}  // namespace suites
