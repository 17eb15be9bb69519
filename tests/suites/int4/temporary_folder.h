#ifndef TESTS_SUITES_INT4_TEMPORARY_FOLDER_H_
#define TESTS_SUITES_INT4_TEMPORARY_FOLDER_H_

#include "tests/support/temporary_folder.h"

namespace suites {

using test_support::TemporaryFolder;

}  // namespace suites

#endif  // TESTS_SUITES_INT4_TEMPORARY_FOLDER_H_
