// Everything but the adapters and the gmock matchers.
#ifndef GTEST_DETERMINISM_DETERMINISM_H_
#define GTEST_DETERMINISM_DETERMINISM_H_

#include "gtest_determinism/assertions.h"
#include "gtest_determinism/bits.h"
#include "gtest_determinism/compare.h"
#include "gtest_determinism/configuration.h"
#include "gtest_determinism/diff.h"
#include "gtest_determinism/digest.h"
#include "gtest_determinism/explain.h"
#include "gtest_determinism/has_bits.h"
#include "gtest_determinism/init.h"
#include "gtest_determinism/options.h"
#include "gtest_determinism/outputs.h"
#include "gtest_determinism/perturbations.h"
#include "gtest_determinism/report.h"
#include "gtest_determinism/result_sink.h"
#include "gtest_determinism/runner.h"
#include "gtest_determinism/statistics.h"

#endif  // GTEST_DETERMINISM_DETERMINISM_H_
