#ifndef TESTS_REPORTERS_TEMPORARY_FOLDER_H_
#define TESTS_REPORTERS_TEMPORARY_FOLDER_H_

#include "tests/support/temporary_folder.h"

namespace reporters {

using test_support::TemporaryFolder;

}  // namespace reporters

#endif  // TESTS_REPORTERS_TEMPORARY_FOLDER_H_
